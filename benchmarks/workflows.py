"""Real workflow graphs, run as sleeping tasks: how near does the makespan come to what no scheduler can beat?

PATH… are files in WfCommons JSON 1.5 (https://wfcommons.org/instances): the tasks and `parents` of `workflow.specification`
with the `runtimeInSeconds` of `workflow.execution`. Every task sleeps for its runtime, scaled so that the lower bound,
max(critical path, work / slots), is --seconds. Each graph runs with every number of slots, in the default order and, up to
5,000 tasks, with `order: critical-path` and the runtimes as estimates.

Printed is the makespan over the lower bound: 1.00 is perfect. A bound of few seconds makes the daemon's own milliseconds
count more than they would in real life; `per task` is what is above the bound, for each task in a row on the critical path.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.box import Box
from benchmarks.report import again, parser, say, table
from benchmarks.wire import CHUNK_TASKS, Wire

ORDERS = ("fair", "critical-path")


class Graph(NamedTuple):
    """A workflow, parents before children."""

    name: str
    seconds: dict[str, float]
    parents: dict[str, list[str]]

    def work(self) -> float:
        return sum(self.seconds.values())

    def critical_path(self) -> tuple[float, int]:
        """Its seconds, and the most tasks in a row."""
        ends: dict[str, float] = {}
        depths: dict[str, int] = {}
        for name, its in self.parents.items():
            ends[name] = self.seconds[name] + max((ends[parent] for parent in its), default=0.0)
            depths[name] = 1 + max((depths[parent] for parent in its), default=0)
        return max(ends.values()), max(depths.values())

    def bound(self, slots: int) -> float:
        return max(self.critical_path()[0], self.work() / slots)


def read(path: Path) -> Graph:
    """Raises ValueError: it is no workflow of that form."""
    try:
        workflow = json.loads(path.read_text())["workflow"]
        runtimes = {task["id"]: float(task["runtimeInSeconds"]) for task in workflow["execution"]["tasks"]}
        parents = {task["id"]: list(dict.fromkeys(task["parents"])) for task in workflow["specification"]["tasks"]}
        return Graph(path.stem, {name: runtimes[name] for name in parents}, _sorted(parents))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no WfCommons 1.5 workflow: {error!r}") from error


def _sorted(parents: dict[str, list[str]]) -> dict[str, list[str]]:
    """Parents before children, otherwise in the order of the file."""
    left = {name: len(its) for name, its in parents.items()}
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, its in parents.items():
        for parent in its:
            children[parent].append(name)
    found = [name for name, count in left.items() if not count]
    for name in found:  # grows while it is walked through
        for child in children[name]:
            left[child] -= 1
            if not left[child]:
                found.append(child)
    if len(found) < len(parents):
        raise ValueError("its tasks wait for each other in a circle")
    return {name: parents[name] for name in found}


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
    about = {"order": order} if order != "fair" else {}
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
            wire.wait(f"f{wire.submit([{'type': 'sleep', 'data': {'seconds': 0}}] * slots)}")
            for graph in graphs:
                bound = graph.bound(slots)
                scale = arguments.seconds / bound
                path, depth = graph.critical_path()
                limit = "critical path" if path == bound else "work / slots"
                for order in ORDERS:
                    if order != "fair" and len(graph.parents) > CHUNK_TASKS:
                        continue  # it must fit into one request
                    took = makespan(wire, graph, scale, order)
                    say(f"{graph.name}, {slots} slots, {order}: {took:.2f} s")
                    over = (took - arguments.seconds) / depth * 1e3
                    figures = [f"{took:.2f} s", f"{took / arguments.seconds:.3f}", f"{over:.1f} ms"]
                    rows.append([graph.name, f"{len(graph.parents)}", f"{slots}", order, limit, *figures])
    print(f"makespan against a lower bound of {arguments.seconds:g} s")
    rows.sort(key=lambda row: (row[0], int(row[2])))
    table(["workflow", "tasks", "slots", "order", "bound by", "makespan", "of the bound", "per task"], rows)
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
