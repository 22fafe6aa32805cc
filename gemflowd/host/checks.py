"""Whether this machine gives the daemon what it needs: what `doctor` asks. Looks, changes nothing, and shows no secret.

Does not cover: the database's contents (`db check`), and whether a client gets through (`gemflowctl doctor`).
"""

from __future__ import annotations

import os
import resource
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from gemflowd.host.filesystem import NETWORK_TYPES, free_bytes, type_of_mount

#: `hint`: it works, and could be better. `wrong`: it does not, or will not for long.
State = Literal["ok", "hint", "wrong"]

_MB: Final = 1024 * 1024
#: Free on the disk, below which somebody should know.
_LOW_DISK: Final = 1024 * _MB
#: Descriptors of a worker, and of the daemon itself with a few clients.
_FILES_PER_WORKER: Final = 3
_FILES_OF_OURS: Final = 256
_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(slots=True, frozen=True)
class Finding:
    """One thing that was looked at. `remedy` says what to do where it is not `ok`."""

    check: str
    state: State
    message: str
    remedy: str | None = None


@dataclass(slots=True, frozen=True)
class Installation:
    """What is to be looked at."""

    state: Path
    sockets: Sequence[Path]
    shared: bool  # a group may use the sockets
    min_free_bytes: int
    workers: int
    memory_bytes: int  # per worker
    sqlite: str  # its version
    key: bool  # there is a key for the model, or another way in
    key_file: Path | None
    supervised: bool  # a service manager listens
    watched: bool  # and ends us when we are stuck


def check_all(installation: Installation) -> list[Finding]:
    """Every check, in the order in which a person would ask."""
    return [
        _python(),
        Finding("sqlite", "ok", f"SQLite {installation.sqlite}"),
        state_directory(installation.state, _mountinfo()),
        _disk(installation.state, installation.min_free_bytes),
        *(_socket(path, shared=installation.shared) for path in installation.sockets),
        _key(installation),
        _files(installation.workers),
        _memory(installation.workers, installation.memory_bytes),
        cgroup(_own_cgroup(), _CGROUPS),
        _service(installation),
    ]


def _python() -> Finding:
    return Finding("python", "ok", f"Python {sys.version.split()[0]}, {sys.executable}")


def _mountinfo() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return ""


def state_directory(path: Path, mountinfo: str) -> Finding:
    """Where it lies, and who may look in."""
    kind = type_of_mount(os.path.realpath(path), mountinfo) or "an unknown file system"
    try:
        found = path.stat()
    except OSError as error:
        return Finding("state", "wrong", f"{path}: {error.strerror}", "stop the daemon and restore it from a snapshot")
    mode = stat.S_IMODE(found.st_mode)
    if kind in NETWORK_TYPES:
        return Finding(
            "state", "wrong", f"{path} is on {kind}, which can lose data", "move it to a disk of this machine"
        )
    if kind in ("tmpfs", "ramfs"):
        return Finding("state", "hint", f"{path} is on {kind}: a reboot empties the queue", "move it to a disk")
    if mode & 0o022:
        return Finding("state", "wrong", f"others may write to {path} (mode {mode:04o})", f"chmod go-w {path}")
    if mode & 0o055:
        return Finding("state", "hint", f"others may look into {path} (mode {mode:04o})", f"chmod go-rx {path}")
    return Finding("state", "ok", f"{path} on {kind}, mode {mode:04o}")


def _disk(path: Path, least: int) -> Finding:
    try:
        free = free_bytes(path)
    except OSError as error:
        return Finding("disk", "wrong", f"{path}: {error.strerror}")
    message = f"{free // _MB} MB free where {path} lies"
    remedy = "make room; `keep_days` deletes what has ended"
    if free < least:
        return Finding("disk", "wrong", f"{message}: submissions are refused below {least // _MB} MB", remedy)
    return Finding("disk", "hint" if free < _LOW_DISK else "ok", message, remedy if free < _LOW_DISK else None)


def _socket(path: Path, *, shared: bool) -> Finding:
    try:
        found = path.stat()
    except OSError as error:
        return Finding("socket", "wrong", f"{path}: {error.strerror}", "somebody removed it; restart the daemon")
    mode = stat.S_IMODE(found.st_mode)
    wanted = 0o660 if shared else 0o600
    message = f"{path}, mode {mode:04o}"
    if not stat.S_ISSOCK(found.st_mode):
        return Finding("socket", "wrong", f"{path} is not a socket any more", "restart the daemon")
    if mode & ~wanted:
        return Finding(
            "socket", "wrong", f"{message}: more may use it than the settings say", f"chmod {wanted:o} {path}"
        )
    return Finding("socket", "ok", message)


def _key(installation: Installation) -> Finding:
    file = installation.key_file
    if not installation.key:
        return Finding(
            "key", "hint", "no key for Gemini: its tasks will fail", "set GEMINI_API_KEY or gemini_api_key_file"
        )
    if file is not None and not os.access(file, os.R_OK):
        return Finding("key", "wrong", f"the daemon can't read {file}", f"let its user read it: chown or chmod {file}")
    if file is not None and file.stat().st_mode & 0o007:
        return Finding("key", "hint", f"others may read {file}", f"chmod 600 {file}")
    return Finding("key", "ok", "there is a key for Gemini, or no need of one")


def _files(workers: int) -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_OF_OURS + _FILES_PER_WORKER * workers
    if soft == resource.RLIM_INFINITY or soft >= needed:
        shown = "any number of" if soft == resource.RLIM_INFINITY else f"{soft}"
        return Finding("files", "ok", f"{shown} open files allowed")
    message = f"{soft} open files allowed, and {workers} workers with their clients may need {needed}"
    return Finding("files", "hint", message, "raise the hard limit: LimitNOFILE= of the service, or ulimit -Hn")


def _memory(workers: int, each: int) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    message = f"{workers} workers of {each // _MB} MB on a machine of {total // _MB} MB"
    if workers * each > total:
        return Finding(
            "memory", "hint", f"{message}: together they may want more than it has", "fewer workers, or memory_mb"
        )
    return Finding("memory", "ok", message)


def _own_cgroup() -> str | None:
    """Our place in the unified hierarchy (cgroups(7))."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)


def cgroup(own: str | None, mounted: Path) -> Finding:
    """Whether a cgroup v2 with the memory controller is ours to divide."""
    remedy = "under systemd: Delegate=memory pids"
    without = "so the kernel can't cap workers one by one"
    if own is None or not (mounted / "cgroup.controllers").exists():
        return Finding("cgroup", "hint", f"there is no cgroup v2 at {mounted}, {without}")
    place = mounted / own.lstrip("/")
    try:
        controllers = (place / "cgroup.controllers").read_text().split()
    except OSError as error:
        return Finding("cgroup", "hint", f"{place}: {error.strerror}, {without}", remedy)
    if not os.access(place, os.W_OK) or not os.access(place / "cgroup.procs", os.W_OK):
        return Finding("cgroup", "hint", f"{place} is not delegated to the daemon, {without}", remedy)
    if "memory" not in controllers:
        return Finding("cgroup", "hint", f"{place} has no memory controller, {without}", remedy)
    return Finding("cgroup", "ok", f"{place} is delegated, with {', '.join(controllers)}")


def _service(installation: Installation) -> Finding:
    if not installation.supervised:
        return Finding("service", "ok", "not started by a service manager that wants to be told")
    watched = ", which ends it when it is stuck" if installation.watched else ""
    return Finding("service", "ok", f"the service manager is told{watched}")
