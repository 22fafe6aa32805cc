"""What one line of a table is made of: rounds of ours, of what it is compared with, a target, and whether it was met.

Pure. A target is for the ratio where something is compared (median of the ratios of the rounds, which were taken in turns), and
for the value where nothing is.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Columns of the table of `cells`.
HEAD = ("work", "gemflow", "beside it", "ratio", "of the rounds", "target", "met")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line.

    Args:
        work: what is done.
        ours: one value for each round.
        unit: `/s`, `ms`, `MB`, …
        beside: what it is compared with; "" for nothing.
        theirs: its value for each round, in the same unit.
        least, most: the target; both None for a line that only informs.
        settings: of ours and of the other, printed below the table.
    """

    work: str
    ours: Sequence[float]
    unit: str
    beside: str = ""
    theirs: Sequence[float] = field(default=())
    least: float | None = None
    most: float | None = None
    settings: str = ""

    def ratios(self) -> list[float]:
        """Of the rounds; empty where nothing is compared. Both sides have as many rounds."""
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)] if self.theirs else []

    def judged(self) -> float:
        """What the target is for."""
        return statistics.median(self.ratios() or self.ours)

    def met(self) -> bool | None:
        """Whether the target was met; None if there is none."""
        if self.least is None and self.most is None:
            return None
        value = self.judged()
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def cells(self) -> tuple[str, ...]:
        """One text for each column of `HEAD`."""
        ratios, met = self.ratios(), self.met()
        of = ratios or list(self.ours)
        spread = f"{_short(min(of))} to {_short(max(of))}" if len(of) > 1 else ""
        beside = f"{_number(statistics.median(self.theirs), self.unit)} {self.beside}" if self.theirs else self.beside
        return (
            self.work,
            _number(statistics.median(self.ours), self.unit),
            beside,
            _short(self.judged()) if ratios else "",
            spread,
            self._target(ratio=bool(ratios)),
            "" if met is None else "yes" if met else "NO",
        )

    def _target(self, *, ratio: bool) -> str:
        sides = [
            f"{sign} {_short(bound)}" for sign, bound in (("≥", self.least), ("≤", self.most)) if bound is not None
        ]
        return " ".join(sides) + ("" if not sides else "×" if ratio else _suffix(self.unit))


def _number(value: float, unit: str) -> str:
    return f"{_short(value)}{_suffix(unit)}"


def _suffix(unit: str) -> str:
    return unit if unit.startswith("/") or unit == "×" else f" {unit}"


def _short(value: float) -> str:
    """Three digits, or all before the point."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
