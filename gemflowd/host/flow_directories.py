"""The directories of flows that are gone: taken away behind the daemon's back, whatever lies in them.

A directory is renamed into `trash/` first and emptied there, on a thread of its own; what was not done when the daemon ended is done
after the next start. Nothing follows a link, a mount is not entered, and one descriptor is enough for the deepest tree.

The workspace carries the number of its database (`.gemflow`). Only what that database has given a number and knows no more is removed.
What it can't have made, because the database was begun anew or is an older copy, is moved to `aside/`, where nobody looks.

Does not cover: who makes the directories and what may be done in them (`handlers.workspace`), which flows are gone (the engine).
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import stat
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import chain, count, islice
from pathlib import Path
from typing import Final

from gemflowd.model.errors import GemflowError

log = logging.getLogger("gemflow.workspace")

FLOWS: Final = "flows"
TRASH: Final = "trash"
ASIDE: Final = "aside"
#: Which database the directories belong to.
MARK: Final = ".gemflow"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Entries that are looked at in one go.
_AT_A_TIME: Final = 1_000
#: Times that a directory is looked through which somebody still fills.
_PASSES: Final = 10
#: Seconds that the end of the daemon waits for the entry that is being removed.
_PATIENCE: Final = 5.0


class BadWorkspace(GemflowError):
    """The directory of the workspaces can't be used; the message says why."""


class FlowDirectories:
    """
    Args:
        root: the directory of all workspaces (setting `workspace`). It must be there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._gone: queue.SimpleQueue[list[int] | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow directories", daemon=True)
        self._complained: set[str] = set()

    # At the start, before anything runs

    def numbers(self) -> list[int]:
        """The flows that have a directory.

        Raises:
            BadWorkspace: it can't be told.
        """
        try:
            with _Opened(self._root) as places:
                return [int(name) for name in _names(places.flows) if _is_number(name)]
        except OSError as error:
            raise self._bad(error) from error

    def sweep(self, database: int, known: Collection[int], next_flow: int) -> None:
        """Put away what belongs to no flow; it is removed once `start` was called.

        Args:
            database: the number of the database.
            known: flows of `numbers` that it has.
            next_flow: the first number that it has not given yet.

        Raises:
            BadWorkspace: it can't be done, and nothing may run.
        """
        try:
            with _Opened(self._root) as places:
                owner = self._owner(places.root)
                ours = owner == str(database)
                aside = 0
                for name in _names(places.flows):
                    if not _is_number(name) or (int(name) in known and (ours or owner is None)):
                        continue
                    if ours and int(name) < next_flow:
                        self._put_away(places, name)
                    else:
                        self._set_aside(places, name, owner)
                        aside += 1
                if aside:
                    what = "1 directory of a flow" if aside == 1 else f"{aside} directories of flows"
                    log.warning("%s that this database has not made: moved to %s", what, self._root / ASIDE)
                if not ours:
                    self._mark(places.root, database)
        except OSError as error:
            raise self._bad(error) from error

    def _bad(self, error: OSError) -> BadWorkspace:
        return BadWorkspace(f"the workspace {self._root} can't be used: {error}")

    def _owner(self, root: int) -> str | None:
        """The number of the database that the directories belong to, None when that was never written down."""
        try:
            descriptor = os.open(MARK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
        except FileNotFoundError:
            return None
        try:
            text = os.read(descriptor, 64).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
        return text if _is_number(text) else "unknown"

    def _mark(self, root: int, database: int) -> None:
        """Last of all: what was interrupted before is done again."""
        new = f"{MARK}-{os.urandom(8).hex()}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=root)
        try:
            os.write(descriptor, f"{database}\n".encode())
            os.fsync(descriptor)
            os.rename(new, MARK, src_dir_fd=root, dst_dir_fd=root)
            os.fsync(root)
        except BaseException:
            with suppress(OSError):
                os.unlink(new, dir_fd=root)
            raise
        finally:
            os.close(descriptor)

    def _set_aside(self, places: _Opened, name: str, owner: str | None) -> None:
        above = _made(places.root, ASIDE)
        try:
            place = _made(above, owner or "unknown")
        finally:
            os.close(above)
        try:
            free = next(new for new in chain((name,), (f"{name}-{n}" for n in count(1))) if not _is_there(place, new))
            _move(places.flows, name, place, free)
        finally:
            os.close(place)

    # As long as the daemon lives

    def start(self) -> None:
        self._thread.start()

    def remove(self, flows: Iterable[int]) -> None:
        """These flows are gone. Returns at once; from any thread, also before `start`."""
        self._gone.put(list(flows))

    def close(self) -> None:
        """End the thread. What is left is removed after the next start."""
        self._ending.set()
        self._gone.put(None)
        if self._thread.ident is not None:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        gone: list[int] | None = []
        while gone is not None and not self._ending.is_set():
            try:
                with _Opened(self._root) as places:
                    for flow in gone:
                        self._put_away(places, str(flow))
                    self._empty(places.trash)
            except OSError as error:
                log.error("the directories of flows that are gone can't be removed: %s", error)  # noqa: TRY400
            gone = self._gone.get()

    def _put_away(self, places: _Opened, name: str) -> None:
        try:
            _move(places.flows, name, places.trash, _new_name())
        except FileNotFoundError:
            pass  # most flows have never had one
        except OSError as error:  # something is mounted there, perhaps; no other flow will have this number
            log.warning("%s can't be removed: %s", self._root / FLOWS / name, error)

    def _empty(self, trash: int) -> None:
        """Remove what is in there. What lies in a directory comes up into the trash itself: so depth is of no matter."""
        stuck: set[str] = set()
        while not self._ending.is_set():
            with os.scandir(trash) as entries:
                names = list(islice((found.name for found in entries if found.name not in stuck), _AT_A_TIME))
            if not names:
                return
            for name in names:
                try:
                    self._remove(trash, name)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    stuck.add(name)
                    if name not in self._complained:
                        self._complained.add(name)
                        log.warning("%s can't be removed: %s", self._root / TRASH / name, error)

    def _remove(self, trash: int, name: str) -> None:
        with suppress(IsADirectoryError):
            os.unlink(name, dir_fd=trash)
            return
        directory = _opened(trash, name)
        try:
            problem: OSError | None = None
            for _ in range(_PASSES):
                while not self._ending.is_set():
                    with os.scandir(directory) as entries:
                        some = [
                            (found.name, found.is_dir(follow_symlinks=False)) for found in islice(entries, _AT_A_TIME)
                        ]
                    if not some:
                        break
                    for entry, is_directory in some:
                        with suppress(FileNotFoundError):
                            if is_directory:
                                _move(directory, entry, trash, _new_name())
                            else:
                                os.unlink(entry, dir_fd=directory)
                if self._ending.is_set():
                    return
                try:
                    os.rmdir(name, dir_fd=trash)
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:
                        raise
                    problem = error
                else:
                    return
            if problem is not None:
                raise problem
        finally:
            os.close(directory)


class _Opened:
    """Descriptors of the directories, good while the block lasts."""

    def __init__(self, root: Path) -> None:
        self._path = root
        self._all: list[int] = []

    def __enter__(self) -> _Opened:
        try:
            self._all.append(os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            self._all += [_made(self._all[0], FLOWS)]
            self._all += [_made(self._all[0], TRASH)]
        except BaseException:
            self.__exit__()
            raise
        self.root, self.flows, self.trash = self._all
        return self

    def __exit__(self, *_: object) -> None:
        while self._all:
            os.close(self._all.pop())


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0"


def _made(above: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
    return os.open(name, _DIRECTORY, dir_fd=above)


def _is_there(place: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _new_name() -> str:
    return os.urandom(16).hex()


def _move(above: int, name: str, place: int, new: str) -> None:
    try:
        os.rename(name, new, src_dir_fd=above, dst_dir_fd=place)
    except PermissionError:  # who moves a directory changes what `..` in it is
        _allow(above, name)
        os.rename(name, new, src_dir_fd=above, dst_dir_fd=place)


def _opened(above: int, name: str) -> int:
    """A directory, in which we may remove."""
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=above)
    except PermissionError:
        _allow(above, name)
        descriptor = os.open(name, _DIRECTORY, dir_fd=above)
    if os.fstat(descriptor).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with suppress(OSError):
            os.fchmod(descriptor, stat.S_IRWXU)
    return descriptor


def _allow(above: int, name: str) -> None:
    """Take the directory of an unkind program back. Never what a link points to."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        Path(f"/proc/self/fd/{descriptor}").chmod(stat.S_IRWXU)
    finally:
        os.close(descriptor)
