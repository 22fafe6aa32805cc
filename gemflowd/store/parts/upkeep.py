"""Keeping the file small, sound and written: what is old, the write-ahead log, free pages, ballast. See `store.base.Upkeep`.

Checkpoints are done here by hand. SQLite's own come inside a commit and their errors are swallowed: a disk that fails would
go unnoticed until nothing can be read any more. What a long question or a copy has held back may be much: that is carried over on
a thread and connection of its own, so that no turn waits for it.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import apsw

from gemflowd.store.guard import guarded
from gemflowd.store.tables import Oldest

#: Frames (pages of 4 KiB) in the log before it is carried over; and how many more when a question held some of it back.
LOG_FRAMES: Final = 4_000
_MORE_FRAMES: Final = 1_000
#: Frames above which a turn would wait too long for it.
_MANY_FRAMES: Final = 4 * LOG_FRAMES
#: Bytes above which the log's file is cut: by SQLite when it begins anew, by `tidy` when nothing happens.
LOG_BYTES: Final = 64 * 1024 * 1024
#: Free pages that are left alone, and the share of the file above which pages are given back, down to half of it.
_FEW_PAGES: Final = 256
_FREE_SHARE: Final = 10
#: Pages that are moved in one statement.
_PAGES: Final = 32
#: Bytes of events that are removed in one go: each of their pages is visited.
_EVENT_BYTES: Final = 4 * 1024 * 1024


class Upkeep:
    """
    Args:
        db: the writing connection.
        path: the database's file.
        ballast: bytes of that file; 0: there is none.
    """

    def __init__(self, db: apsw.Connection, path: Path, ballast: int) -> None:
        self._db = db
        self._path = path
        self._log = path.with_name(path.name + "-wal")
        self._ballast = path.with_name("ballast")
        self._size = ballast
        self._kept = False
        self._given = False  # in a need, and not made good yet
        self._frames = 0
        self._carried = 0  # of those frames, as far as we know
        self._checkpoint_at = LOG_FRAMES
        self._aside: _Aside | None = None
        self._changed = True  # since `tidy` last found nothing to do
        self._vacuuming = False
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        db.set_wal_hook(self._committed)  # after the pragma, which takes it away

    def _committed(self, _db: apsw.Connection, _name: str, frames: int) -> int:
        if frames < self._frames:  # the log has begun anew
            self._checkpoint_at, self._carried = LOG_FRAMES, 0
        self._frames = frames
        self._changed = True
        return apsw.SQLITE_OK

    # What is old

    @guarded
    def ended_flows(self, after: tuple[float, int], until: float, limit: int) -> list[tuple[float, int]]:
        sql = """SELECT touched, number FROM flow WHERE state >= 3 AND deleted = 0 AND touched <= ?3
            AND (touched, number) > (?1, ?2) ORDER BY touched, number LIMIT ?4"""
        return list(self._db.execute(sql, (*after, until, limit)))

    @guarded
    def trim_events(self, before: float, limit: int) -> bool:
        rows = list(
            self._db.execute("SELECT first, at, length(events) FROM event ORDER BY first LIMIT ?", (limit + 1,))
        )
        last, size, more = 0, 0, len(rows) > limit
        for first, at, length in rows[:-1]:  # the newest of all is never among these
            if at >= before or size >= _EVENT_BYTES:
                more = bool(at < before)
                break
            last, size = first, size + length
        if last:
            self._db.execute("DELETE FROM event WHERE first <= ?", (last,))
        return more

    @guarded
    def trim_keys(self, now: float, limit: int) -> bool:
        before = self._db.total_changes()
        self._db.execute(
            "DELETE FROM unique_key WHERE key IN (SELECT key FROM unique_key WHERE until <= ? ORDER BY until LIMIT ?)",
            (now, limit),
        )
        return self._db.total_changes() - before >= limit

    @guarded
    def oldest(self) -> Oldest:
        run = self._db.execute
        flow = run("SELECT touched FROM flow WHERE state >= 3 AND deleted = 0 ORDER BY touched LIMIT 1").get
        events = run("SELECT at FROM event WHERE first < (SELECT max(first) FROM event) ORDER BY first LIMIT 1").get
        key = run("SELECT until FROM unique_key WHERE until IS NOT NULL ORDER BY until LIMIT 1").get
        return Oldest(flow, events, key)

    # The log

    @guarded
    def checkpoint(self) -> None:
        if self._aside is not None and not self._aside.is_alive():
            self._collect()
        if self._aside is not None or self._frames < self._checkpoint_at:
            return
        if self._size and not self._kept and self._given:
            return  # what was kept free is in use: the log of what runs goes there, and nothing else
        self._checkpoint_at = self._frames + _MORE_FRAMES  # where a question holds it back: not at every turn
        if self._frames - self._carried > _MANY_FRAMES:
            self._aside = _Aside(self._path, self._db.open_vfs)
            self._aside.start()
            return
        with suppress(apsw.BusyError):
            _, self._carried = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _collect(self) -> None:
        """What became of it on the other thread."""
        assert self._aside is not None
        self._aside.join()
        aside, self._aside = self._aside, None
        if aside.failure is not None:
            raise aside.failure
        if aside.carried <= self._frames:  # else the log has begun anew since
            self._carried = aside.carried

    @guarded
    def settle(self) -> None:
        if self._aside is not None:
            self._collect()
        if self._frames:
            self._cut_log()

    def close(self) -> None:
        """Nothing of ours goes on."""
        if self._aside is not None:
            self._aside.join()

    def _cut_log(self) -> None:
        """Carry everything over and cut the file, unless somebody reads: nobody is waited for."""
        self._db.set_busy_timeout(0)
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._frames, self._carried, self._checkpoint_at = 0, 0, LOG_FRAMES
        except apsw.BusyError:
            pass
        finally:
            self._db.set_busy_timeout(5000)

    # Room

    @guarded
    def tidy(self, seconds: float) -> bool:
        if not self._changed:
            return False
        self.checkpoint()
        if self._vacuum(seconds):
            return True
        if self._log_bytes() > LOG_BYTES and self._aside is None and self._frames - self._carried <= _MANY_FRAMES:
            self._cut_log()
        self._changed = False
        return False

    def _vacuum(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while True:
            free: int = self._db.execute("PRAGMA freelist_count").get
            pages: int = self._db.execute("PRAGMA page_count").get
            share = max(_FEW_PAGES, pages // _FREE_SHARE)
            self._vacuuming = free > (share // 2 if self._vacuuming else share)
            if not self._vacuuming:
                return False
            if time.monotonic() >= end:
                return True
            for _ in self._db.execute(f"PRAGMA incremental_vacuum({_PAGES})"):
                pass  # one page each

    def _log_bytes(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    # Ballast

    @property
    def ballast_bytes(self) -> int:
        return 0 if self._kept else self._size

    def keep_ballast(self) -> bool:
        if self._kept or not self._size:
            return True
        try:
            descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            with suppress(OSError):
                self._ballast.unlink()
            return False
        self._kept, self._given = True, False
        return True

    def drop_ballast(self) -> bool:
        self._kept, self._given = False, True
        if not self._size:
            return False
        try:
            self._ballast.unlink()
        except OSError:
            return False
        return True


class _Aside(threading.Thread):
    """Carries the log over beside the queue, which may go on writing meanwhile."""

    def __init__(self, path: Path, vfs: str) -> None:
        super().__init__(name="checkpoint", daemon=True)
        self._path, self._vfs = path, vfs
        self.carried = 0
        self.failure: apsw.Error | None = None

    def run(self) -> None:
        try:
            with closing(apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._vfs)) as db:
                db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                list(db.execute("SELECT 1 FROM sqlite_schema LIMIT 1"))  # else it doesn't know of the log
                _, self.carried = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            pass
        except apsw.Error as error:
            self.failure = error  # it belongs to the engine: a disk that can't be trusted stops it
