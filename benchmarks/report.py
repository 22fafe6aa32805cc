"""What a benchmark says: progress on stderr, figures on stdout."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence

_BEGIN = time.monotonic()


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


def again(module: str) -> None:
    """How to repeat this run."""
    command = shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]])
    load = os.getloadavg()[0]
    print(f"again: {command}   ({os.cpu_count()} cores, load {load:.1f}: read ratios, not absolute times)", flush=True)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is the module's docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
