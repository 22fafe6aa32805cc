"""The GPUs of this machine, by their names in CUDA_VISIBLE_DEVICES: found through NVML, the management library, where there is one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import pynvml

log = logging.getLogger("gemflow.app")

#: In the setting `gpus`: look for them; there are none.
AUTO: Final = "auto"
NONE: Final = "none"


def gpu_ids(setting: Sequence[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The devices that attempts are given.

    Args:
        setting: `["auto"]`, `["none"]`, or the devices themselves.
        environ: where CUDA_VISIBLE_DEVICES may say which of the machine's are for us.
    """
    if list(setting) == [NONE]:
        return ()
    if list(setting) != [AUTO]:
        return tuple(setting)
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name for name in (part.strip() for part in visible.split(",")) if name and name != "-1")
    return tuple(_found())


def _found() -> list[str]:
    """UUIDs; of a device that is split (MIG) those of its parts."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, no library, no device: most machines
        return []
    try:
        found: list[str] = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            found += _parts(device) or [_text(pynvml.nvmlDeviceGetUUID(device))]
    except pynvml.NVMLError as error:
        log.warning("the GPUs can't be listed: %s", error)
        return []
    else:
        return found
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _parts(device: object) -> list[str]:
    found: list[str] = []
    with suppress(pynvml.NVMLError):  # an older device knows no MIG
        if pynvml.nvmlDeviceGetMigMode(device)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return []
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(device)):
            with suppress(pynvml.NVMLError):  # fewer than the most
                found.append(_text(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index))))
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
