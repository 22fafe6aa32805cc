"""When a schedule runs: its next run, what becomes of runs that were missed, and of one whose predecessor still goes on.

Pure: no clock, no store. The calendar is cronsim's, time zones are the machine's (read once each, then kept by the
standard library). What a cron expression means when clocks are set forward or back is cronsim's rule, which is that of
Debian's cron (docs/semantics.md, "Schedules").
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import Enum
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from gemflowd.model.errors import Invalid, echo
from gemflowd.model.schedule import Schedule

#: Seconds that a run may be late and is no misfire.
GRACE: Final = 60.0
#: Missed runs that are looked at, from the latest back: some ms at most, however long the daemon was down.
MOST_WALKED: Final = 100
#: Names that cronsim does not know.
_NAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MOST_CHARACTERS: Final = 200
#: First and last of each field, from seconds to weekdays; and what has a step, by numbers.
_RANGES: Final = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_STEPS: Final = re.compile(r"(?:\*|(\d{1,9})(?:-(\d{1,9}))?)/(\d{1,9})")
#: What a local time that came twice may be ahead of the moment that is meant.
_FOLD: Final = 2 * 3600


class Overlap(Enum):
    """What becomes of a run."""

    FIRE = "fire"
    REPLACE = "replace"  # fire it, and cancel its predecessor
    WAIT = "wait"
    SKIP = "skip"


@dataclass(slots=True, frozen=True)
class Plan:
    """What a schedule does now. Runs are the moments for which they were due, in order."""

    fire: list[float]
    skipped: int  # runs that are not made up for; of very many only as many as were looked at
    last_skipped: float | None
    next_run: float | None
    walked: int  # how much work it was to say so


def first_run(cron: str, zone: str, now: float) -> float:
    """Check an expression and a zone, and say when it runs first after `now`.

    Raises:
        Invalid: `cron` or `zone` is no such thing, or there is no such run in the next 50 years.
    """
    if len(cron) > _MOST_CHARACTERS:
        raise Invalid("invalid_value", f"must have at most {_MOST_CHARACTERS} characters", "cron")
    _zone(zone)
    _check_steps(cron)
    try:
        run = next_run(cron, zone, now)
    except CronSimError as error:
        help_ = f"write five fields (minute hour day month weekday), six with seconds first, or {', '.join(_NAMES)}"
        raise Invalid("invalid_value", f"{str(error).lower()} in {echo(cron)}; {help_}", "cron") from None
    if run is None:
        raise Invalid("invalid_value", f"{echo(cron)} is never, as far as 50 years from now", "cron")
    return run


def _check_steps(cron: str) -> None:
    """A step that is larger than what it steps through comes once, which is not what was meant: cronsim lets it pass.

    Raises: Invalid.
    """
    fields = cron.split()
    for (first, last), field in zip(_RANGES[-len(fields) :], fields, strict=False):
        for part in field.split(","):
            span = _STEPS.fullmatch(part)
            if span is None:
                continue  # no step, or names
            begin, end = int(span[1] or first), int(span[2] or last)
            if int(span[3]) > end - begin:
                message = f"the step of {echo(part)} is larger than what it steps through, {begin} to {end}"
                raise Invalid("invalid_value", message, "cron")


def next_run(cron: str, zone: str, after: float) -> float | None:
    """The first run after a moment, None where there is none."""
    return next(_runs_after(cron, zone, after), None)


def plan(schedule: Schedule, now: float, most: int) -> Plan:
    """What a schedule does whose next run has come.

    Args:
        most: runs that it may fire now; the next one is the schedule's next run then.
    """
    cron, zone, first = schedule.cron, schedule.zone, schedule.next_run
    assert first is not None, schedule
    assert first <= now, schedule
    late = now - GRACE
    missed: list[float] = []
    if first < late:
        missed = _runs_before(cron, zone, late, first)
        on_time = [*_until(_runs_after(cron, zone, math.ceil(late) - 1), now)]
    else:
        on_time = [first, *_until(_runs_after(cron, zone, first), now)]
    keep = {"skip": 0, "once": 1, "all": schedule.misfire_limit}[schedule.misfire]
    made_up = missed[-keep:] if keep else []
    left_out = missed[: len(missed) - len(made_up)]
    due = made_up + on_time
    if schedule.overlap == "cancel" and len(due) > 1:  # each would be cancelled by the next at once
        left_out, due = left_out + due[:-1], due[-1:]
    following = due[most] if len(due) > most else next_run(cron, zone, now)
    return Plan(due[:most], len(left_out), max(left_out, default=None), following, len(missed) + len(on_time))


def overlap(schedule: Schedule, *, busy: bool) -> Overlap:
    """What becomes of one run. `busy`: its predecessor has not ended."""
    if not busy or schedule.overlap == "allow":
        return Overlap.FIRE
    if schedule.overlap == "cancel":
        return Overlap.REPLACE
    if schedule.overlap == "queue" and schedule.waiting is None:
        return Overlap.WAIT
    return Overlap.SKIP


def _until(runs: Iterator[float], last: float) -> Iterator[float]:
    for run in runs:
        if run > last:
            return
        yield run


def _runs_after(cron: str, zone: str, after: float) -> Iterator[float]:
    """All runs after a moment. They are at whole seconds."""
    last = after
    for moment in CronSim(_NAMES.get(cron, cron), datetime.fromtimestamp(math.floor(after), _zone(zone))):
        run = moment.timestamp()
        if run > last:  # where an hour comes twice cronsim may begin with a run of the first time
            last = run
            yield run


def _runs_before(cron: str, zone: str, before: float, first: float) -> list[float]:
    """The runs from `first`, which is one, to those before a moment: the last ones, where there are very many."""
    end = datetime.fromtimestamp(math.ceil(before), _zone(zone))
    runs = CronSim(_NAMES.get(cron, cron), end, reverse=True)
    if end.fold and runs.fixup_tz is not None:
        # An hour comes twice, and cronsim counts from its first time: runs of that one would be passed over.
        end = datetime.fromtimestamp(math.ceil(before) + _FOLD, _zone(zone))
        runs = CronSim(_NAMES.get(cron, cron), end, reverse=True)
    found: list[float] = []
    for moment in runs:
        run = moment.timestamp()
        if run <= first:
            break
        if run < (found[-1] if found else before):
            found.append(run)
            if len(found) == MOST_WALKED:
                return found[::-1]
    return [first, *found[::-1]]


def _zone(name: str) -> tzinfo:
    """Raises: Invalid."""
    if name == "UTC":
        return UTC  # as cronsim knows it; it has less to do then
    try:
        if len(name) <= _MOST_CHARACTERS:
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass
    raise Invalid("invalid_value", f"{echo(name)} is no IANA time zone; write Europe/Berlin, or UTC", "zone")
