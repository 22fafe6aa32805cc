"""A way to the disk (SQLite calls it a VFS) that fails when a test says so, and that knows what would survive a power cut.

apsw gives such a way no shared memory, so a database that is opened by it is locked for this connection alone: the log's index
is in the process's memory then, all else is as in the daemon.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

_NUMBERS = itertools.count(1)
#: What a disk writes as a whole.
SECTOR = 512


@dataclass
class Image:
    """One file: what is on the disk for sure, and what was written since, in order: (offset, bytes), or a new length."""

    synced: bytes = b""
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)

    def now(self) -> bytes:
        return _applied(self.synced, self.pending)

    def copy(self) -> Image:
        return Image(self.synced, list(self.pending))

    def after_power_cut(self, rng: random.Random) -> bytes:
        """Of what was not synced anything may be there: all, nothing, a part, or something else."""
        survived: list[tuple[int, bytes] | int] = []
        mood = rng.choice(("all", "nothing", "each", "each"))
        for step in self.pending:
            fate = rng.choice(("there", "there", "missing", "torn", "garbage")) if mood == "each" else mood
            if fate in ("nothing", "missing"):
                continue
            if isinstance(step, int) or fate in ("all", "there"):
                survived.append(step)
            elif fate == "torn":
                offset, data = step
                survived.append((offset, data[: rng.randrange(0, len(data) + 1, SECTOR) if len(data) > SECTOR else 0]))
            else:
                survived.append((step[0], rng.randbytes(len(step[1]))))
        return _applied(self.synced, survived)


def _applied(content: bytes, steps: list[tuple[int, bytes] | int]) -> bytes:
    data = bytearray(content)
    for step in steps:
        if isinstance(step, int):
            del data[step:]
            continue
        offset, part = step
        if not part:
            continue
        if len(data) < offset:
            data += bytes(offset - len(data))
        data[offset : offset + len(part)] = part
    return bytes(data)


class FaultyDisk(apsw.VFS):
    """
    Attributes:
        fail: called before each operation with its name and how often it was called before; returns the error that it fails with.
        before_sync: called before each xSync.
    """

    def __init__(self) -> None:
        self.name = f"faulty-{next(_NUMBERS)}"
        super().__init__(self.name, "")
        self.calls: Counter[str] = Counter()
        self.failed: list[str] = []
        self.fail: Callable[[str, int], type[Exception] | None] = lambda op, n: None
        self.before_sync: Callable[[], None] | None = None
        self.images: dict[str, Image] = {}

    def step(self, op: str, name: str) -> None:
        number = self.calls[op]
        self.calls[op] += 1
        error = self.fail(op, number)
        if error is not None:
            self.failed.append(f"{op} {number} of {Path(name).name}")
            raise error(f"the test's disk failed at {self.failed[-1]}")

    def image(self, name: str) -> Image:
        if name not in self.images:
            path = Path(name)
            self.images[name] = Image(path.read_bytes() if path.exists() else b"")
        return self.images[name]

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802 - apsw's
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.step("xOpen", path or "(temporary)")
        return _File(self, path, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        self.step("xDelete", name)
        super().xDelete(name, sync)
        self.images.pop(name, None)


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, path: str | None, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = path or "(temporary)"
        disk.image(self._path)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.step("xWrite", self._path)
        super().xWrite(data, offset)
        self._disk.image(self._path).pending.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.step("xTruncate", self._path)
        super().xTruncate(size)
        self._disk.image(self._path).pending.append(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._disk.before_sync is not None:
            self._disk.before_sync()
        self._disk.step("xSync", self._path)
        super().xSync(flags)
        image = self._disk.image(self._path)
        image.synced, image.pending = image.now(), []

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.step("xRead", self._path)
        return super().xRead(amount, offset)


def _alone(connection: apsw.Connection) -> None:
    if connection.open_vfs.startswith("faulty-"):
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")


@contextmanager
def faulty_disks() -> Iterator[None]:
    """Connections that are opened by such a way work inside of this block."""
    apsw.connection_hooks.append(_alone)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(_alone)
