"""Where a command writes: results to standard output, notes to standard error, in the form that was asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import click

from gemflowctl.output import json, plain, table
from gemflowctl.output.styles import style_of

Color = Literal["auto", "always", "never"]


class Console:
    """Args: as the global options of the same names say."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False, color: Color = "auto") -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._color = color

    def colored(self, stream: Any) -> bool:
        """Whether to write colours to a stream."""
        if self._color != "auto":
            return self._color == "always"
        return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def line(self, text: str = "") -> None:
        """A line that is the result. Text from elsewhere has to go through `plain` first."""
        click.echo(text, color=self.colored(sys.stdout))

    def note(self, text: str) -> None:
        """A line for the person, on standard error; not with --quiet."""
        if not self.quiet:
            click.echo(plain.text(text), err=True)

    def json(self, value: Any) -> None:
        """One object on one line."""
        click.echo(json.dumps(value))

    def json_lines(self, values: Iterable[Any]) -> int:
        """One object a line, written together where there are many; how many there were."""
        count = 0
        for value in values:
            sys.stdout.write(json.dumps(value) + "\n")
            count += 1
        sys.stdout.flush()
        return count

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table; with a terminal drawn, else plain."""
        if sys.stdout.isatty():
            color = self.colored(sys.stdout)
            self.line(table.drawn_table(headings, rows, width=None, color=color))
        else:
            self.line(table.plain_table(headings, rows))

    def pairs(self, pairs: Mapping[str, Any]) -> None:
        """Names and values, one a line, aligned; those that are None are left out."""
        shown = {name: value for name, value in pairs.items() if value is not None}
        width = max((len(name) for name in shown), default=0)
        for name, value in shown.items():
            self.line(f"{name.ljust(width)}  {self.state(value)}")

    def state(self, value: Any) -> str:
        """A value, made harmless, and in colour when it is a state."""
        text = plain.line(value)
        style = style_of(value)
        return click.style(text, fg=style) if style else text
