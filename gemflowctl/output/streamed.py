"""Lines of tasks' logs for a person. The pieces of a model's answer, which come as a stream of their own, are put together again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from gemflowctl.output import plain
from gemflowctl.steps import Body

#: The stream that has pieces of a text and no lines.
PIECES: Final = "text"


class LogWriter:
    """
    Args:
        write: takes what is to be shown, with its newlines.
        timestamps: begin each line with its time, attempt and stream; pieces are lines then, too.
    """

    def __init__(self, write: Callable[[str], object], *, timestamps: bool = False) -> None:
        self._write = write
        self._timestamps = timestamps
        self._open: object = None  # which attempt's pieces have begun a line that has not ended

    def add(self, line: Body) -> None:
        """Show one line of a log, as `logs` describes it."""
        whose = _whose(line)
        if line["stream"] == PIECES and not self._timestamps:
            text = plain.text(line["text"])
            speaker = (whose, line["attempt"])
            if self._open != speaker:
                self.close()
                self._write(whose)
            self._write(text)
            self._open = speaker
            return
        self.close()
        self._write(whose + self._shown(line) + "\n")

    def close(self) -> None:
        """End the line that pieces have begun."""
        if self._open is not None:
            self._open = None
            self._write("\n")

    def _shown(self, line: Body) -> str:
        text = plain.text(line["text"].removesuffix("\n"))
        if not self._timestamps:
            return text
        at = datetime.fromtimestamp(line["at"]).isoformat(" ", "milliseconds")
        return f"{at} {line['attempt']} {plain.line(line['stream'], 20):<6} {text}"


def _whose(line: Body) -> str:
    """Of a flow's lines: the task."""
    if "task" not in line:
        return ""
    return f"{line['task'] if line.get('id') is None else plain.line(line['id'], 40)}: "
