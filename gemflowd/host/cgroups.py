"""Control groups: what limits us, and a group for each worker where systemd has delegated version 2 of them to us.

Detected, never assumed: on a machine with version 1, or without `Delegate=memory`, there are no groups of our own, and the daemon's look
at its workers' memory (`executor.local.watch`) is all there is. Interfaces: cgroup-v2 of the kernel's documentation, and
systemd's CGROUP_DELEGATION (a delegated group carries the extended attribute `user.delegate`).
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger("gemflow.pool")

_PREFIX: Final = "worker-"
_OURSELVES: Final = "daemon"


def mounts(kind: str, mountinfo: str) -> list[tuple[str, Path, str]]:
    """(root in the hierarchy, mount point, options of the file system) of all mounts of that type (proc_pid_mountinfo(5))."""
    found = []
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        words, rest = front.split(), back.split()
        if len(rest) >= 3 and rest[0] == kind and len(words) >= 5:
            found.append((words[3], Path(words[4]), rest[2]))
    return found


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text("utf-8", "replace")
    return ""


def _below(mount: Path, root: str, path: str) -> Path:
    """The directory of the group `path` below a mount that shows the hierarchy from `root` on."""
    inside = path.removeprefix(root.rstrip("/")) if path.startswith(root) else ""
    return mount / inside.lstrip("/")


def own_group(mountinfo: str | None = None, own: str | None = None) -> tuple[Path, Path] | None:
    """(mount point, our group's directory) in the hierarchy of version 2, None where it is not mounted."""
    mountinfo = _read("/proc/self/mountinfo") if mountinfo is None else mountinfo
    own = _read("/proc/self/cgroup") if own is None else own
    path = next((line[3:] for line in own.splitlines() if line.startswith("0::")), None)
    found = mounts("cgroup2", mountinfo)
    if path is None or not found:
        return None
    root, mount, _ = found[0]
    return mount, _below(mount, root, path)


def memory_max(mountinfo: str | None = None, own: str | None = None) -> int | None:
    """Bytes that the control groups above us allow, of either version; None where there is no limit."""
    mountinfo = _read("/proc/self/mountinfo") if mountinfo is None else mountinfo
    own = _read("/proc/self/cgroup") if own is None else own
    places: list[tuple[Path, Path, str]] = []
    second = own_group(mountinfo, own)
    if second is not None:
        places.append((*second, "memory.max"))
    for root, mount, options in mounts("cgroup", mountinfo):
        if "memory" in options.split(","):
            for line in own.splitlines():
                _, controllers, path = [*line.split(":", 2), "", ""][:3]
                if "memory" in controllers.split(","):
                    places.append((mount, _below(mount, root, path), "memory.limit_in_bytes"))
    limits = []
    for mount, group, name in places:
        while True:
            with suppress(OSError, ValueError):  # `max` is no number
                limits.append(int((group / name).read_text()))
            if group == mount or mount not in group.parents:
                break
            group = group.parent
    return min(limits, default=None)


def is_delegated(group: Path) -> bool:
    """Whether systemd has handed that group over."""
    for name in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            return os.getxattr(group, name) == b"1"
    return False


class Groups:
    """The delegated group, and below it one for each worker.

    Args:
        root: the delegated group's directory.
    """

    def __init__(self, root: Path) -> None:
        """Make the group ready: the daemon itself into a group below, the memory controller on for the others.

        Raises:
            OSError: it can't be used.
        """
        self._root = root
        members = (root / "cgroup.procs").read_text().split()
        if members:  # a group that hands controllers on may have no processes of its own
            ourselves = root / _OURSELVES
            ourselves.mkdir(exist_ok=True)
            for pid in members:
                with suppress(ProcessLookupError):
                    (ourselves / "cgroup.procs").write_text(pid)
        (root / "cgroup.subtree_control").write_text("+memory")
        for old in root.glob(f"{_PREFIX}*"):  # of an earlier daemon
            WorkerGroup(old).remove()

    @classmethod
    def find(cls) -> Groups | None:
        """That of this process, None where there is none that has memory to hand on."""
        found = own_group()
        if found is None:
            return None
        _, own = found
        for group in (own, own.parent):  # in a group below it where systemd's DelegateSubgroup= has put us there
            if is_delegated(group) and "memory" in _read(str(group / "cgroup.controllers")).split():
                try:
                    return cls(group)
                except OSError as error:
                    log.warning("the delegated control group %s can't be used: %s", group, error)
                    return None
        return None

    def worker(self, name: str, pid: int, most: int) -> WorkerGroup | None:
        """A group for that process and all that it will start; None, with a line in the log, where it can't be made."""
        group = WorkerGroup(self._root / f"{_PREFIX}{name}")
        try:
            group.path.mkdir(exist_ok=True)
            (group.path / "memory.oom.group").write_text("1")
            group.limit(most)
            (group.path / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            log.warning("worker %s has no control group of its own: %s", name, error)
            group.remove()
            return None
        return group


class WorkerGroup:
    """The group of one worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._limit = 0

    def limit(self, most: int) -> None:
        """The kernel kills everything in it above `most` bytes."""
        if most != self._limit:
            self._limit = most
            with suppress(FileNotFoundError):
                (self.path / "memory.max").write_text(str(most))

    def out_of_memory(self) -> tuple[int, int] | None:
        """(most bytes that it had, bytes of its limit) if the kernel has killed it for that."""
        events = dict(line.split() for line in _read(str(self.path / "memory.events")).splitlines())
        if int(events.get("oom_kill", 0)) == 0:
            return None
        peak = _read(str(self.path / "memory.peak")).strip()  # since Linux 5.19
        return (int(peak) if peak.isdigit() else self._limit), self._limit

    def kill(self) -> None:
        """SIGKILL all that is in it (Linux 5.14 and later; before that the other nets must do)."""
        with suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def remove(self) -> bool:
        """Kill what is in it and remove it. Returns False while something in it still ends: try again."""
        self.kill()
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True
