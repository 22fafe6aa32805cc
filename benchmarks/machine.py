"""What a figure depends on besides our code: the machine, the kernel and the versions, for the head of a table."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import apsw
import msgpack
import zmq


def facts() -> list[str]:
    """Lines for the head of a table. Nothing in them names the machine or its owner."""
    place = Path(tempfile.gettempdir())
    return [
        f"machine: {_processor()}, {len(os.sched_getaffinity(0))} cores, {_memory():.0f} GB, Linux {_kernel()}, "
        f"{_file_system(place)} below the databases, load {os.getloadavg()[0]:.1f} at the beginning",
        f"versions: gemflow {version('gemflow')}, Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}, "
        f"libzmq {zmq.zmq_version()}, msgpack {'.'.join(map(str, msgpack.version))}",
        "gemflow: WAL, synchronous=FULL (fsync before each acknowledgement), every attempt, result and event recorded",
    ]


def cores() -> int:
    """Processors that we may run on."""
    return len(os.sched_getaffinity(0))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _kernel() -> str:
    return ".".join(platform.release().split("-")[0].split(".")[:2])


def _memory() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _file_system(place: Path) -> str:
    found = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(place)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "?"
