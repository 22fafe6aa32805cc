"""Control groups: what limits us, and a group for each worker where systemd has delegated version 2 of them to us.

Detected, never assumed: on a machine with version 1, or without `Delegate=memory`, there are no groups of our own, and the daemon's look
at its workers' memory (`executor.local.watch`) is all there is. Interfaces: cgroup-v2 of the kernel's documentation, and
systemd's CGROUP_DELEGATION (a delegated group carries the extended attribute `user.delegate`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

log = logging.getLogger("gemflow.pool")

_PREFIX: Final = "worker-"
_OURSELVES: Final = "daemon"
#: Groups of these names are units of systemd.
_UNITS: Final = (".service", ".scope", ".slice")
#: Times that the delegated group's processes are looked for, until there are none.
_TRIES: Final = 10
#: Seconds for which what an earlier daemon has left may take to end.
_PATIENCE: Final = 2.0


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
    """Whether systemd has handed that group over.

    A user's systemd marks nothing: there the unit says it (GEMFLOW_DELEGATED), of a service's group that we may write to.
    """
    if os.environ.get("GEMFLOW_DELEGATED") == "1" and group.suffix == ".service":
        return os.access(group / "cgroup.subtree_control", os.W_OK)
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
            BlockingIOError: another daemon has it.
            OSError: it can't be used.
        """
        self._root = root
        # Whoever removes groups here must be the only one: two daemons may have been started in one scope.
        self._lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._leave_root()
            (root / "cgroup.subtree_control").write_text("+memory")
            self._remove_old()
        except OSError:
            os.close(self._lock)
            raise

    def _leave_root(self) -> None:
        """A group that hands controllers on may have no processes of its own."""
        for _ in range(_TRIES):  # what has been there with us may start others meanwhile
            members = (self._root / "cgroup.procs").read_text().split()
            if not members:
                return
            ourselves = self._root / _OURSELVES
            ourselves.mkdir(exist_ok=True)
            for pid in members:
                with suppress(ProcessLookupError):
                    (ourselves / "cgroup.procs").write_text(pid)

    def _remove_old(self) -> None:
        """Those of an earlier daemon, with all that is in them; what was killed takes a moment to end."""
        old = [WorkerGroup(path) for path in self._root.glob(f"{_PREFIX}*")]
        deadline = time.monotonic() + _PATIENCE
        while old := [group for group in old if not group.remove()]:
            if time.monotonic() > deadline:
                log.warning(
                    "control groups of an earlier daemon can't be removed: %s", ", ".join(g.path.name for g in old)
                )
                return
            time.sleep(0.005)

    @classmethod
    def find(cls, mountinfo: str | None = None, own: str | None = None) -> Groups | None:
        """That of this process, None where there is none that has memory to hand on."""
        found = own_group(mountinfo, own)
        if found is None:
            return None
        _, group = found
        # In a group below it where systemd's DelegateSubgroup= has put us there. Above a unit there are only groups of systemd's.
        candidates = [group] if group.suffix in _UNITS else [group, group.parent]
        for group in candidates:
            if is_delegated(group) and "memory" in _read(str(group / "cgroup.controllers")).split():
                try:
                    return cls(group)
                except BlockingIOError:
                    log.warning(
                        "another daemon has the delegated control group %s: workers get none of their own", group
                    )
                except OSError as error:
                    log.warning("the delegated control group %s can't be used: %s", group, error)
                return None
        return None

    def worker(self, name: str, pid: int, most: int) -> WorkerGroup | None:
        """A group for that process and all that it will start; None, with a line in the log, where it can't be made."""
        group = WorkerGroup(self._root / f"{_PREFIX}{name}")
        try:
            group.path.mkdir()  # never one that is there: the kernel's counters in it are another's
        except OSError as error:
            log.warning("worker %s has no control group of its own: %s", name, error)
            return None
        try:
            (group.path / "memory.oom.group").write_text("1")
            with suppress(OSError):  # a kernel that does not count swap
                (group.path / "memory.swap.max").write_text("0")  # or it would fill the swap instead of ending
            (group.path / "memory.max").write_text(str(most))
            group.most = most
            (group.path / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            if not isinstance(error, ProcessLookupError):  # else it has ended already
                log.warning("worker %s has no control group of its own: %s", name, error)
            group.remove()
            return None
        return group


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """That the kernel has killed a worker. Figures in bytes."""

    used: int  # the most that its group had, not counting what it shares with the process that it was forked from
    most: int  # what its group was allowed
    own: bool  # it was over that; else there was no memory left in a group above it, or on the machine


class WorkerGroup:
    """The group of one worker.

    Attributes:
        most: bytes that it may have.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.most = 0

    def limit(self, most: int) -> None:
        """The kernel kills everything in it above `most` bytes."""
        if most == self.most:
            return
        self.most = most
        try:
            (self.path / "memory.max").write_text(str(most))
        except FileNotFoundError:
            pass  # it is gone
        except OSError as error:
            log.warning("%s: the kernel does not take %d bytes as its limit: %s", self.path.name, most, error)

    def out_of_memory(self) -> OutOfMemory | None:
        """What there is to say if the kernel has killed it for want of memory."""
        events = dict(line.split() for line in _read(str(self.path / "memory.events")).splitlines())
        if int(events.get("oom_kill", 0)) == 0:
            return None
        own = int(events.get("oom", 0)) > 0
        peak = _read(str(self.path / "memory.peak")).strip()  # since Linux 5.19
        used = int(peak) if peak.isdigit() else self.most if own else 0
        return OutOfMemory(used, self.most, own)

    def kill(self) -> None:
        """SIGKILL all that is in it (Linux 5.14 and later; before that the other nets must do)."""
        with suppress(OSError):
            descriptor = os.open(self.path / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)  # never makes it
            try:
                os.write(descriptor, b"1")
            finally:
                os.close(descriptor)

    def remove(self) -> bool:
        """Kill what is in it and remove it. Returns False while something in it still ends: try again."""
        self.kill()
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            self._remove_below()
            return False
        return True

    def _remove_below(self) -> None:
        """A task's program may have made groups of its own in it."""
        for place, _, _ in os.walk(self.path, topdown=False):
            if place != str(self.path):
                with suppress(OSError):
                    Path(place).rmdir()
