"""What the settings mean for the rooms that must not know them: the pool's options and limits, what `doctor` looks at."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import apsw

from gemflowd.config.settings import Settings
from gemflowd.executor.base import WorkerLimits
from gemflowd.executor.local.options import Options
from gemflowd.host import checks
from gemflowd.host.mcp_checks import check_mcp
from gemflowd.host.sdnotify import Notifier
from gemflowd.places import Places, key_is_set
from gemflowd.protocol import endpoints


def pool_options(settings: Settings, places: Places) -> Options:
    """What nurseries and workers are started with."""
    return Options(
        handlers=settings["handlers"],
        handler_path=settings["handler_path"],
        settings={**settings.for_handlers(), "endpoint": places.endpoint, "workspace": str(places.workspace)},
        grace=settings["grace"],
        max_result_bytes=settings["max_result_mb"] * 1024 * 1024,
    )


def worker_limits(settings: Settings) -> WorkerLimits:
    """How long a worker serves, and how much memory it may have."""
    return WorkerLimits(
        memory_mb=settings["memory_mb"],
        memory_total_mb=settings["memory_total_mb"],
        max_tasks=settings["max_tasks"],
        max_age=settings["max_age"],
        min_life=settings["min_life"],
    )


def findings(settings: Settings, places: Places, notifier: Notifier) -> list[dict[str, Any]]:
    """What `doctor` finds, but for the settings themselves. Waits for the disk."""
    file = settings["gemini_api_key_file"]
    found = checks.check_all(
        checks.Installation(
            state=places.state,
            sockets=[endpoints.socket_path(one) for one in (places.endpoint, places.events)],
            shared=settings["socket_group"] is not None,
            min_free_bytes=settings["min_free_mb"] * 1024 * 1024,
            workers=settings["workers"],
            memory_bytes=settings["memory_mb"] * 1024 * 1024,
            sqlite=apsw.sqlite_lib_version(),
            key=settings["gemini_offline"] or key_is_set(settings, os.environ),
            key_file=None if file is None else Path(file),
            supervised=notifier.listens,
            watched=notifier.watchdog is not None,
        )
    )
    found += check_mcp(settings["mcp"].get("servers", {}))
    return [asdict(finding) for finding in found]
