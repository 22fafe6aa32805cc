"""All figures of one installation in one table: `python -m benchmarks --short` (or `make bench`), without --short for ten minutes.

Each line is also a module of its own, with more about it: `python -m benchmarks.throughput --help`. Other task systems are in
`benchmarks.peers`, large queues in `benchmarks.scale`. Both sides of a ratio are measured in turns, so that it survives a machine that is
busy with something else; what is absolute wants idle cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks import calls, clients, cores, overhead, sleeps, throughput, trips, watched
from benchmarks.figures import Figure
from benchmarks.report import parser, say, show

PARTS: Final[dict[str, Callable[[bool], list[Figure]]]] = {
    "throughput": throughput.measure,
    "clients": clients.measure,
    "trips": trips.measure,
    "sleeps": sleeps.measure,
    "cores": cores.measure,
    "calls": calls.measure,
    "overhead": overhead.measure,
    "watched": watched.measure,
}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="fewer tasks: about two minutes")
    options.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    arguments = options.parse_args()
    figures: list[Figure] = []
    for name in arguments.only or PARTS:
        say(f"{name} …")
        figures += PARTS[name](arguments.short)
    show(figures, "")


if __name__ == "__main__":
    main()
