"""`gemflowctl benchmark`: sequential against parallel, on the running daemon."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from gemflowctl.cli import DURATION, Command
from gemflowctl.errors import ClientError
from gemflowctl.output.console import Console
from gemflowctl.output.progress import Bar
from gemflowctl.session import Session
from gemflowctl.times import format_seconds

if TYPE_CHECKING:
    from gemflowctl.benchmark.bench import Bench
    from gemflowctl.benchmark.kinds import Kind

_NAMES = {"io": "I/O-bound", "cpu": "CPU-bound", "mixed": "mixed", "noop": "no-op"}


@click.command(
    "benchmark",
    cls=Command,
    epilog="""
    gemflowctl benchmark
    gemflowctl benchmark -t 100 -w 16 --kind io
    gemflowctl benchmark --kind noop --json | jq .tasks_per_second
    """,
)
@click.option(
    "-t", "--tasks", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Tasks of each part."
)
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="How many run at a time in the parallel part; fewer where the daemon has fewer slots, and it says so.",
)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(["io", "cpu", "mixed", "noop"]),
    multiple=True,
    help="What is measured, may be repeated; io, cpu and mixed if not given.",
)
@click.option(
    "--task-time", type=DURATION, metavar="TIME", default="50ms", show_default=True, help="What a task takes."
)
@click.pass_obj
def command(session: Session, tasks: int, workers: int, kinds: tuple[Kind, ...], task_time: float) -> None:
    """Measure what parallel execution brings: the same tasks one after the other, and several at a time.

    io tasks wait, cpu tasks burn a processor, mixed are both in turn, noop do nothing, so that the daemon itself is measured.
    They are queued like any others, in a queue of their own with a limit: others are not affected but by the load, and what they
    do meanwhile is in the figures. Nothing is left behind, not even after Ctrl-C; what a killed benchmark left the next one removes.

    \b
    sequential  seconds from the submission to the end of the last task, one at a time
    parallel    the same, WORKERS at a time
    ceiling     the speed-up that would be possible if only the tasks took time: TASKS divided by the rounds they
                need, of WORKERS tasks, and of no more burning ones than blocking slots and processors of the daemon
    p50, p95    of a task in the parallel part, from its start to its end (--json: also from its submission, `latency`)

    With --json: one object for each kind on a line.
    """
    from gemflowctl.benchmark import bench as benches
    from gemflowctl.benchmark.kinds import USUAL

    console = session.console
    chosen = tuple(dict.fromkeys(kinds)) or USUAL
    with session.client() as client, _ended_like_ctrl_c(), benches.alone(client):
        benches.must_start(client)
        benches.clear_queue(client)
        bench = benches.Bench(client, tasks, task_time, workers)
        if bench.others:
            console.note(f"the daemon runs {bench.others} other tasks: they are in the figures, and these in theirs")
        try:
            outcomes = list(_measured(console, bench, chosen, tasks, task_time, workers))
        finally:
            _clear(session, bench)
    if not console.as_json:
        _show(console, outcomes)


def _measured(
    console: Console, bench: Bench, kinds: tuple[Kind, ...], tasks: int, seconds: float, workers: int
) -> Iterator[dict[str, Any]]:
    from gemflowctl.benchmark.kinds import outcome

    with Bar(console, "benchmark") as bar:
        for number, kind in enumerate(kinds):

            def tell(part: str, done: int, before: int = 2 * tasks * number, kind: str = kind) -> None:
                bar.update(before + done, 2 * tasks * len(kinds), f"{_NAMES[kind]}, {part}")

            sequential, parallel = bench.measure(
                kind, lambda done: tell("sequential", done), lambda done: tell("parallel", tasks + done)
            )
            found = outcome(kind, tasks, seconds, workers, bench.machine, sequential, parallel)
            if console.as_json:
                console.json(found)
            yield found


def _clear(session: Session, bench: Bench) -> None:
    try:
        with session.client() as client:
            bench.clear(client)
    except ClientError as error:
        session.console.note(f"not everything could be removed ({error.message}); the next benchmark does that")


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Who ends us by a signal wants nothing to be left behind either."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(console: Console, outcomes: list[dict[str, Any]]) -> None:
    for found in outcomes:
        if found["at_once"] < found["workers"]:
            console.note(
                f"{_NAMES[found['kind']]}: {found['at_once']} at a time and not {found['workers']}: "
                "the daemon has no more slots for them (`gemflowctl workers N`)"
            )
    console.table(
        ["task type", "sequential", "parallel", "speed-up", "ceiling", "p50", "p95", "tasks/s"],
        [
            [
                _NAMES[found["kind"]],
                f"{found['sequential_seconds']:.3f} s",
                f"{found['parallel_seconds']:.3f} s",
                _times(found["speedup"]),
                _times(found["ceiling"]),
                format_seconds(found["run"]["p50"]),
                format_seconds(found["run"]["p95"]),
                found["tasks_per_second"],
            ]
            for found in outcomes
        ],
    )


def _times(factor: float | None) -> str | None:
    return None if factor is None else f"{factor:.2f}x"
