"""Copies of the database and checks of it, each on a connection and thread of its own: neither the queue nor those who ask wait.

A copy is of one moment. While it is made, the log can't begin anew: it grows by what the queue writes meanwhile.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw

from gemflowd.model.errors import Invalid, Refused, StoreError, StoreFull
from gemflowd.store.checks import problems
from gemflowd.store.files import Stopped, copy_database, sweep
from gemflowd.store.sqlite import open_connection

#: Files that the daemon keeps beside the database.
_OURS: Final = frozenset({"ballast", "lease", "gemflowd.lock"})


class Copies:
    """Makes them one at a time, when asked.

    Args:
        path: the database.
    """

    def __init__(self, path: Path) -> None:
        sweep(path.parent)
        self._path = path
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def snapshot(self, target: str) -> Future[dict[str, Any]]:
        """`db_snapshot`; from one thread.

        Raises:
            Refused: the path can't be taken, or another one is being made.
        """
        path = Path(target)
        if not path.is_absolute() or "\0" in target or path.name in ("", ".."):
            raise Invalid("invalid_value", "must be an absolute path of a file", "path")
        try:
            if not path.parent.is_dir():
                raise Invalid("invalid_value", f"there is no directory {path.parent}", "path")
            ours = path.name.startswith(self._path.name) or path.name in _OURS
            if ours and path.parent.resolve() == self._path.parent.resolve():
                # SQLite takes some names beside the database for parts of it, and so does the daemon.
                raise Invalid("invalid_value", f"{path.name} is a name that the daemon uses in this directory", "path")
            if os.path.lexists(path):
                raise Refused("conflict", f"{path} exists already", "path")
        except OSError as error:  # a name that is too long, links in a circle
            raise Invalid("invalid_value", f"can't be a path: {error.strerror}", "path") from None
        return self._begin(lambda db: {"path": str(path), "bytes": self._copied(db, path)})

    def check(self) -> Future[dict[str, Any]]:
        """`db_check`; from one thread.

        Raises:
            Refused: a copy is being made.
        """
        return self._begin(_checked)

    def close(self) -> None:
        """Stop what is going on; nothing is left of it."""
        self._stopping.set()
        if (thread := self._thread) is not None:
            thread.join()

    def _begin(self, work: Callable[[apsw.Connection], dict[str, Any]]) -> Future[dict[str, Any]]:
        if self._thread is not None:
            raise Refused("conflict", "another db_snapshot or db_check is going on; ask again later")
        future: Future[dict[str, Any]] = Future()
        self._thread = threading.Thread(target=self._run, args=(work, future), name="copies", daemon=True)
        self._thread.start()  # it takes itself away when it is through
        return future

    def _run(self, work: Callable[[apsw.Connection], dict[str, Any]], future: Future[dict[str, Any]]) -> None:
        started = time.monotonic()
        try:
            with closing(open_connection(self._path, read_only=True)) as db:
                db.set_progress_handler(self._stopping.is_set, 10_000)
                found = work(db)
            found["seconds"] = time.monotonic() - started
            result: dict[str, Any] | BaseException = found
        except (Stopped, apsw.InterruptError):
            result = Refused("draining", "the daemon is stopping")
        except BaseException as error:  # noqa: BLE001 - it belongs to the asker
            result = error
        self._thread = None  # who is answered may ask again at once
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _copied(self, db: apsw.Connection, target: Path) -> int:
        try:
            return copy_database(db, target, self._stopping.is_set)
        except FileExistsError:
            raise Refused("conflict", f"{target} exists already", "path") from None
        except StoreFull as error:
            raise Refused("disk_full", str(error), "path") from error
        except OSError as error:
            code = "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "invalid_value"
            raise Refused(code, f"the copy can't be written: {error}", "path") from error
        except StoreError as error:
            raise Refused("invalid_value", str(error), "path") from error


def _checked(db: apsw.Connection) -> dict[str, Any]:
    found = problems(db)
    return {"ok": not found, "problems": found}
