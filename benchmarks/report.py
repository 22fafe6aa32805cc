"""What a benchmark says: progress on stderr, figures on stdout."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from benchmarks.figures import HEAD, Figure

_BEGIN = time.monotonic()
#: Rounds of each side, taken in turns; what is printed is the median.
ROUNDS = 3


def say(text: str) -> None:
    """Progress, with the seconds since the start."""
    print(f"[{time.monotonic() - _BEGIN:7.1f} s] {text}", file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, figures to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (
            f"{cell:<{w}}" if at == 0 else f"{cell:>{w}}" for at, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip(), flush=True)


def show(figures: Iterable[Figure], module: str) -> None:
    """The machine, the table with targets and whether they were met, the settings, and the command that repeats it."""
    from benchmarks.machine import facts

    lines = list(figures)
    for fact in facts():
        print(fact)
    table(HEAD, [figure.cells() for figure in lines])
    settings = dict.fromkeys(f"{figure.work}: {figure.settings}" for figure in lines if figure.settings)
    for setting in settings:
        print(f"  {setting}")
    judged = [figure.met() for figure in lines if figure.met() is not None]
    print(f"medians of the rounds; {sum(map(bool, judged))} of {len(judged)} targets met")
    again(module)


def again(module: str) -> None:
    """How to repeat this run."""
    name = f"benchmarks.{module}" if module else "benchmarks"
    command = shlex.join(["python", "-m", name, *sys.argv[1:]])
    load = os.getloadavg()[0]
    print(f"again: {command}   ({os.cpu_count()} cores, load {load:.1f}: read ratios, not absolute times)", flush=True)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is the module's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def main(doc: str | None, measure: Callable[[bool], list[Figure]], module: str) -> None:
    """The command line of a module with `measure(short) -> list[Figure]`."""
    options = parser(doc)
    options.add_argument("--short", action="store_true", help="fewer tasks: seconds instead of a minute")
    show(measure(options.parse_args().short), module)
