"""Files of result lines: whole or not at all, and written over several runs where the first ones break off."""

from __future__ import annotations

import fcntl
import json as plain_json
import os
import tempfile
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Self

import click

from gemflowctl.output import json
from gemflowctl.steps import Body


def write_whole(path: Path, lines: Iterable[Body]) -> int:
    """Write lines into a file beside the target and rename it when all are there; how many.

    Raises:
        click.ClickException: the file can't be written.
    """
    temporary: Path | None = None
    count = 0
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            for line in lines:
                file.write(json.dumps(line) + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise cant(path, error) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return count


class ResumedFile:
    """A file that is begun beside its target, gone on with by the next run, and renamed when all lines are there.

    What a run that was killed had written stays, but for the line that it was in the middle of.

    Args:
        identity: what the lines are; a file that was begun for other ones is not gone on with.
        key_of: what tells a line from all others.

    Attributes:
        part: where the lines are until all are there.
        last: the last line that was there, or None.
        count: how many lines there are.

    Raises:
        click.ClickException: it can't be written, or another process does that now.
    """

    def __init__(self, path: Path, identity: str, key_of: Callable[[Body], Hashable]) -> None:
        self._path = path
        self._key_of = key_of
        self.part = path.with_name(f".{path.name}.{sha256(identity.encode()).hexdigest()[:12]}.part")
        self.last: Body | None = None
        self.count = 0
        self._there: set[Hashable] = set()
        try:
            self._file = self._claimed()
            self._read()
        except OSError as error:
            raise cant(path, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            if not self.count and self.part != self._path:
                self.part.unlink()
            self._file.close()

    def drop(self) -> None:
        """Forget what is there: it can never become whole."""
        self.count = 0

    def write(self, line: Body) -> None:
        """Add a line, unless an earlier run has written it. It is the operating system's when this returns."""
        if self._key_of(line) in self._there:
            return
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise cant(self._path, error) from None
        self.count += 1

    def finish(self) -> None:
        """All lines are there: make them durable, and give the file its name."""
        try:
            os.fsync(self._file.fileno())
            self.part.replace(self._path)
            self.part = self._path
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise cant(self._path, error) from None

    def _claimed(self) -> BinaryIO:
        while True:
            file = open(os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another process may have finished, and so renamed it, in between.
                if self.part.exists() and os.path.samestat(os.fstat(file.fileno()), self.part.stat()):
                    return file
            except BlockingIOError:
                file.close()
                raise click.ClickException(f"another gemflowctl writes {self._path} now") from None
            file.close()

    def _read(self) -> None:
        """See what is there, and cut off what is no whole line."""
        sound = 0
        for raw in self._file:
            line = _line(raw)
            if line is None:
                break
            self.last = line
            self._there.add(self._key_of(line))
            self.count += 1
            sound += len(raw)
        self._file.seek(sound)
        self._file.truncate()


def _line(raw: bytes) -> Body | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        found: Any = plain_json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def cant(path: Path, error: OSError) -> click.ClickException:
    """The refusal that says that a file can't be written."""
    return click.ClickException(f"{path} can't be written: {error.strerror}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
