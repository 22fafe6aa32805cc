"""A progress bar on standard error that only appears when something takes longer than a moment."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Final, Self

from gemflowctl.output.console import Console

#: Seconds before the bar appears.
AFTER: Final = 2.0


class Bar:
    """Progress of one thing; shows nothing where standard error is no terminal, or with --quiet.

    Args:
        what: a few words.
        after: seconds before it appears.
        of_bytes: it counts bytes, and shows them as such.

    Attributes:
        shows: whether it ever will.
    """

    def __init__(self, console: Console, what: str, *, after: float = AFTER, of_bytes: bool = False) -> None:
        self.shows = not console.quiet and sys.stderr.isatty()
        self._color = console.colored(sys.stderr)
        self._what = what
        self._of_bytes = of_bytes
        self._from = time.monotonic() + after
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, total: int | None, note: str = "") -> None:
        """How far it is; `total` may change, and is None where it is not known."""
        ended = total is not None and done >= total
        if not self.shows or (self._progress is None and (time.monotonic() < self._from or ended)):
            return
        if self._progress is None:
            self._start()
        self._progress.update(self._task, completed=done, total=total, note=note)

    def _start(self) -> None:
        # rich takes 50 ms to import: only when there is something to draw.
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn() if self._of_bytes else MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=RichConsole(stderr=True, no_color=not self._color),
            transient=True,
        )
        self._task = self._progress.add_task(self._what, total=None, note="")
        self._progress.start()
