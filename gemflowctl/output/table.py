"""Tables: drawn by rich on a terminal, plain aligned columns elsewhere. Cells are made harmless here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from gemflowctl.output import plain
from gemflowctl.output.styles import style_of

#: A column keeps so many characters on a narrow terminal.
_KEPT: Final = 24


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns that are aligned and two blanks apart; nothing is cut off."""
    cells = [[heading.upper() for heading in headings], *([plain.line(_shown(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def drawn_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, width: int | None, color: bool) -> str:
    """The same for a terminal of `width` columns: cells that don't fit are cut off with an ellipsis."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, heading in enumerate(headings):
        numbers = bool(rows) and all(isinstance(row[column], int | float | None) for row in rows)
        widest = max((len(plain.line(_shown(row[column]))) for row in rows), default=0)
        table.add_column(
            heading.upper(),
            no_wrap=column < len(headings) - 1,
            overflow="ellipsis",
            justify="right" if numbers else "left",
            # Where it gets narrow the last column, which holds prose, is wrapped; the others are cut only beyond reason.
            min_width=None if column == len(headings) - 1 else min(max(widest, len(heading)), _KEPT),
        )
    for row in rows:
        # Text and not a string: what looks like markup in it stays what it is.
        table.add_row(*(Text(plain.line(_shown(cell)), style=style_of(cell)) for cell in row))
    console = Console(
        file=io.StringIO(), force_terminal=color, no_color=not color, width=width, highlight=False, legacy_windows=False
    )
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _shown(cell: Any) -> str:
    return "-" if cell is None else str(cell)
