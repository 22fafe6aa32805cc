"""Each attempt is shown its own GPUs and no others'."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgpack
import pytest
from helpers.pools import Pool, local_pool

from gemflowd.model.attempt import Kind


@pytest.mark.parametrize("before", ["5,6", None])
def test_devices_are_the_attempt_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)

    async def run(pool: Pool, kind: str, worker: Kind, **fields: Any) -> Any:
        (slot,) = await pool.up(worker)
        return msgpack.unpackb((await pool.ended(pool.start(kind, slot, **fields))).payload)

    async def go() -> None:
        async with local_pool(tmp_path, "context_tasks") as pool:
            for devices, memory in ((("1", "3"), 2000), ((), None), (("GPU-0a",), None), ((), None)):
                seen = await run(pool, "devices", Kind.BLOCKING, devices=devices, memory_mb=memory)
                visible = ",".join(devices) or before
                assert seen == [list(devices), visible, str(visible), memory]
            seen = await run(pool, "adevices", Kind.COROUTINE, devices=("2",))
            assert seen == [["2"], before, "2"], "of a process that many share only its subprocesses can be shown them"

    asyncio.run(go())
