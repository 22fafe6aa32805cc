"""Real workflow graphs, run as sleeping tasks: how near does the makespan come to what no scheduler can beat?

PATH… are files in WfCommons JSON 1.5 (https://wfcommons.org/instances): the tasks and `parents` of `workflow.specification`
with the `runtimeInSeconds` of `workflow.execution`. Every task sleeps for its runtime, scaled so that the lower bound,
max(critical path, work / slots), is --seconds. Each graph runs with every number of slots, in the default order and with
`order: critical-path` and the runtimes as estimates; of more than 2,000 tasks the makespan has the time in which they are
received and put in order.

Printed is the makespan over the lower bound: 1.00 is perfect. `ideal` is the same of a list scheduler that follows the same
order and whose starts cost nothing: what is above it is the daemon's. `a start` shares that out over the tasks that a slot runs
one after the other. A bound of few seconds makes such milliseconds count for more than they do in real life.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.box import Box
from benchmarks.graphs import Graph, modelled, read
from benchmarks.report import again, parser, say, table
from benchmarks.wire import Wire

ORDERS = ("fair", "critical-path")


def tasks(graph: Graph, scale: float) -> list[dict[str, Any]]:
    numbers = {name: f"t{number}" for number, name in enumerate(graph.parents)}  # its ids may have any character
    return [
        {
            "type": "sleep",
            "id": numbers[name],
            "data": {"seconds": graph.seconds[name] * scale},
            "estimate": graph.seconds[name] * scale,
            "deps": [numbers[parent] for parent in its],
            "timeout": 3600.0,
        }
        for name, its in graph.parents.items()
    ]


def makespan(wire: Wire, graph: Graph, scale: float, order: str) -> float:
    about: dict[str, Any] = {"order": order} if order != "fair" else {}
    flow = f"f{wire.submit(tasks(graph, scale), name=graph.name[:200], **about)}"
    wire.wait(flow)
    found = wire("status", refs=[flow])["items"][0]
    if found["state"] != "succeeded":
        raise RuntimeError(f"{graph.name} ended as {found['state']}")
    return float(found["finished"] - found["created"])


def measure(arguments: argparse.Namespace) -> None:
    graphs = [read(path) for path in arguments.paths]
    rows = []
    for slots in arguments.slots:
        with Box(workers=1, batch_size=slots) as box:  # workers × batch_size coroutines at a time
            wire = box.wire()
            wire.wait(f"f{wire.submit([{'type': 'sleep', 'data': {'seconds': 0}}] * slots)}")  # the worker is up
            for graph in graphs:
                bound = graph.bound(slots)
                scale = arguments.seconds / bound
                limit = "critical path" if graph.critical_path() == bound else "work / slots"
                for order in ORDERS:
                    took = makespan(wire, graph, scale, order)
                    say(f"{graph.name}, {slots} slots, {order}: {took:.2f} s")
                    ideal = modelled(graph, slots, by_path=order != "fair") * scale
                    in_a_row = max(len(graph.parents) / slots, graph.depth())
                    rows.append(
                        [
                            graph.name, f"{len(graph.parents)}", f"{slots}", order, limit, f"{took:.2f} s",
                            f"{took / arguments.seconds:.3f}", f"{ideal / arguments.seconds:.3f}",
                            f"{(took - ideal) / in_a_row * 1e3:.1f} ms",
                        ]
                    )  # fmt: skip
    print(f"makespan against a lower bound of {arguments.seconds:g} s")
    rows.sort(key=lambda row: (row[0], int(row[2])))
    table(["workflow", "tasks", "slots", "order", "bound by", "makespan", "of the bound", "ideal", "a start"], rows)
    again("workflows")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a workflow in WfCommons JSON 1.5")
    options.add_argument("--slots", nargs="+", type=int, default=[4, 16, 64], help="default: 4 16 64")
    options.add_argument("--seconds", type=float, default=5.0, help="the lower bound (default: %(default)s)")
    arguments = options.parse_args()
    try:
        measure(arguments)
    except (OSError, ValueError) as error:
        options.error(str(error))


if __name__ == "__main__":
    main()
