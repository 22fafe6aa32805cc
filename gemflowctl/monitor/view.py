"""The monitor's picture: feed in, rich renderable out. Pure; every text from elsewhere is made harmless first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gemflowctl.monitor.feed import Feed
from gemflowctl.output import plain
from gemflowctl.output.styles import style_of
from gemflowctl.steps import Body
from gemflowctl.times import format_bytes, format_progress, format_seconds

_BARS: Final = "▁▂▃▄▅▆▇█"
_STATES: Final = {
    "live": ("● live", "green"),
    "silent": ("● no figures", "yellow"),
    "disconnected": ("○ disconnected", "red"),
}
#: Lines that are always there: title, figures, sparkline, headings, and the blanks between.
_FIXED_LINES: Final = 12


def render(feed: Feed, width: int, height: int) -> RenderableType:
    """The whole screen, of `width` columns and `height` lines."""
    stats = feed.stats or {}
    workers: list[Body] = stats.get("workers") or []
    room = max(2, height - _FIXED_LINES)
    # Workers get at most two thirds, so that events are always seen; what they don't need the events get.
    lines = min(len(workers), max(1, room * 2 // 3)) if workers else 1
    return Group(
        _title(feed, stats, width),
        Text(),
        _figures(stats),
        Text(),
        _spark("tasks/s", feed.throughput, width),
        _spark("active", feed.active, width),
        Text(),
        _workers(workers, lines, width),
        Text(),
        _events(feed, max(1, room - lines), width),
    )


def sparkline(values: Iterable[float], width: int) -> str:
    """The last `width` values as bars; the highest is full, zero is the lowest."""
    shown = list(values)[-width:]
    top = max(shown, default=0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * (len(_BARS) - 1) + 0.5))] for value in shown)


def _title(feed: Feed, stats: Body, width: int) -> Text:
    words, style = _STATES[feed.state]
    title = Text("gemflow ", style="bold")
    title.append(words, style=style)
    if "uptime" in stats:
        title.append(f"  up {format_seconds(stats['uptime'])}")
    if feed.lost:
        title.append(f"  {feed.lost} events not shown", style="yellow")
    title.append(f"  {plain.line(feed.endpoint)}", style="bright_black")
    hint = "q quits"
    title.truncate(max(1, width - len(hint) - 1), overflow="ellipsis")
    title.append(" " * max(1, width - title.cell_len - len(hint)))
    title.append(hint, style="bright_black")
    return title


def _figures(stats: Body) -> Table:
    table = Table.grid(padding=(0, 3))
    figures: list[tuple[str, str, str]] = [
        ("active", _count(stats, "active"), "cyan"),
        ("queued", _count(stats, "queued"), "blue"),
        ("waiting", _count(stats, "waiting"), ""),
        ("completed", _count(stats, "completed"), "green"),
        ("failed", _count(stats, "failed"), "red" if stats.get("failed") else ""),
        ("average", format_seconds(stats.get("average_seconds")), ""),
        ("throughput", f"{stats.get('throughput') or 0.0:.1f}/s", ""),
    ]
    for _ in figures:
        table.add_column(no_wrap=True, justify="right")
    table.add_row(*(Text(name, style="bright_black") for name, _, _ in figures))
    table.add_row(*(Text(value, style=f"bold {style}".strip()) for _, value, style in figures))
    return table


def _count(stats: Body, name: str) -> str:
    return f"{stats[name]:,}" if isinstance(stats.get(name), int) else "-"


def _spark(name: str, values: Iterable[float], width: int) -> Text:
    shown = list(values)
    line = Text(f"{name:<8}", style="bright_black", no_wrap=True)
    top = max(shown, default=0)
    label = f" max {top:,.1f}" if isinstance(top, float) else f" max {top:,}"
    line.append(sparkline(shown, max(1, width - 8 - len(label))), style="cyan")
    line.append(label, style="bright_black")
    return line


def _workers(workers: list[Body], lines: int, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bright_black", width=width)
    for heading, right in (
        ("worker", False),
        ("kind", False),
        ("pid", True),
        ("memory", True),
        ("state", False),
        ("done", True),
    ):
        table.add_column(heading, no_wrap=True, justify="right" if right else "left")
    table.add_column("task", no_wrap=True, overflow="ellipsis", ratio=1)
    # Those that do something first, so that they are seen when not all fit.
    ordered = sorted(workers, key=lambda worker: (not worker.get("active"), str(worker.get("name"))))
    shown = ordered if len(ordered) <= lines else ordered[: lines - 1]
    for worker in shown:
        state = worker.get("state") if worker.get("lag") is None else "blocked"
        table.add_row(
            _text(worker.get("name")),
            _text(worker.get("kind")),
            _text(worker.get("pid")),
            _text(format_bytes(worker.get("rss_bytes"))),
            _text(state, style_of(state)),
            _text(worker.get("done")),
            _text(_tasks(worker)),
        )
    if len(shown) < len(ordered):
        table.add_row(Text(f"… {len(ordered) - len(shown)} more", style="bright_black"))
    return table


def _tasks(worker: Body) -> str:
    numbers = worker.get("tasks") or []
    many = f"({len(numbers)}) " if len(numbers) > 1 else ""
    if not numbers:
        return "-"
    told = worker.get("progress") or []
    progress = f"  {format_progress(told[0])}" if len(numbers) == 1 and told else ""
    return many + " ".join(str(number) for number in numbers[:50]) + progress


def _events(feed: Feed, lines: int, width: int) -> Group:
    newest = list(feed.events)[-lines:]
    rows: list[RenderableType] = [Text("recent events", style="bright_black")]
    rows.extend(_event(event, width) for event in reversed(newest))
    return Group(*rows)


def _event(event: Body, width: int) -> Text:
    topic = str(event.get("topic", ""))
    kind, _, state = topic.partition(".")
    at = event.get("at")
    line = Text(no_wrap=True)
    line.append(f"{datetime.fromtimestamp(at):%H:%M:%S}  " if isinstance(at, int | float) else "", style="bright_black")
    line.append(f"{plain.line(kind)} ")
    if kind == "task":
        line.append(f"{plain.line(event.get('task'))} ")
        if event.get("id") is not None:
            line.append(f"f{plain.line(event.get('flow'))}/{plain.line(event['id'], 40)} ")
    elif kind == "flow":
        line.append(f"f{plain.line(event.get('flow'))} ")
    elif kind == "worker":
        line.append(f"{plain.line(event.get('worker'))} ")
        state = str(event.get("state", ""))
    elif kind == "limit":
        line.append(f"{plain.line(event.get('bucket'))} sleeps ")
    line.append(plain.line(state), style=style_of(state))
    for name in ("type", "name", "cause", "reason"):
        if event.get(name):
            line.append(f"  {plain.line(event[name], 120)}", style="bright_black")
    line.truncate(width, overflow="ellipsis")
    return line


def _text(value: Any, style: str = "") -> Text:
    return Text("-" if value is None else plain.line(value), style=style)
