"""Why a task is not running, in words: the reasons of `explain`, one sentence for each code. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gemflowctl.steps import Body
from gemflowctl.times import format_moment, format_utc

#: Dependencies that are named; of more it is said how many.
_NAMED: Final = 5


def sentence(reason: Body) -> str:
    """The reason as the end of `task 42: ready; …`. A code that is not known says what the daemon says."""
    say = _SENTENCES.get(reason["code"])
    try:
        return str(reason.get("message") or reason["code"]) if say is None else say(reason)
    except (KeyError, TypeError, ValueError):
        # A daemon that says less than this version knows of.
        return str(reason.get("message") or reason["code"])


def _blocked(reason: Body) -> str:
    deps = reason["deps"]
    waiting = max(int(reason.get("waiting") or 0), len(deps))
    named = ", ".join(_dependency(dep) for dep in deps[:_NAMED])
    more = waiting - min(len(deps), _NAMED)
    return f"it waits for {_many(waiting, 'task')}: {named}" + (f" and {more} more" if more else "")


def _dependency(dep: Body) -> str:
    name = f"{dep['number']} ({dep['id']})" if dep.get("id") is not None else str(dep["number"])
    on = dep.get("on", "success")
    return f"{name} is {dep['state']}" + (
        "" if on == "success" else f" and must end with {on}" if on != "done" else " and must end"
    )


def _limited(reason: Body) -> str:
    return f"{reason['running']} of at most {reason['limit']} tasks of the queue {reason['queue']} run"


def _held(reason: Body) -> str:
    if reason.get("max_errors") is not None:
        return f"its flow is held until somebody releases it: too many of its tasks have failed (max_errors {reason['max_errors']})"
    return "it is held until somebody releases it" + (f": {reason['why']}" if reason.get("why") else "")


def _used_up(reason: Body) -> str:
    name, figure, until = reason["bucket"], reason["figure"], reason.get("until")
    if figure == "cap":
        return f"{name} has complained of too many calls; it gets at most {reason['limit']} at a time"
    if figure == "in_flight":
        return f"{reason['limit']} calls of {name} run, as many as may at a time"
    waiting = f"waiting for {_FIGURES.get(figure, figure)} of {name}"
    return waiting if until is None else f"{waiting} until {format_utc(until)}"


def _breaker(reason: Body) -> str:
    until = reason.get("until")
    then = "one call tries whether it works again" if until is None else f"the next one tries at {format_moment(until)}"
    return f"{reason['failures']} calls of {reason['bucket']} in a row have failed; {then}"


def _resource(reason: Body) -> str:
    name, needed, total, used = (reason[field] for field in ("resource", "needed", "total", "used"))
    if not total or needed > total:
        return f"it needs {needed:g} of the resource {name}, but there is only {total or 0:g} in all"
    return f"it needs {needed:g} of the resource {name}, of which {used:g} of {total:g} is in use"


def _behind(reason: Body) -> str:
    if reason.get("more"):
        return f"more than {reason['ahead']} tasks start before it"
    return f"{_many(reason['ahead'], 'task')} start{'s' if reason['ahead'] == 1 else ''} before it"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


#: Figures of limits as people write them.
_FIGURES: Final = {"rpm": "RPM", "tpm": "TPM", "rpd": "RPD", "spend": "spend"}

_SENTENCES: Final[dict[str, Callable[[Body], str]]] = {
    "running": lambda _: "it runs",
    "ended": lambda _: "it has ended",
    "blocked": _blocked,
    "scheduled": lambda reason: f"it is not due before {format_moment(reason['due'])}",
    "held": _held,
    "missing_handler": lambda reason: f"there is no handler for its type {reason['type']} any more",
    "receiving": lambda _: "its flow has not been received as a whole yet",
    "ordering": lambda _: "its flow is being put in order by its critical path",
    "queue_paused": lambda reason: f"the queue {reason['queue']} is paused",
    "queue_limit": _limited,
    "limit_reached": _used_up,
    "limit_breaker": _breaker,
    "limit_asleep": lambda reason: f"the limit {reason['bucket']} sleeps until {format_moment(reason['until'])}",
    "resource": _resource,
    "no_worker": lambda reason: f"no {reason['kind']} worker is free",
    "sequential": lambda _: "parallel execution is disabled, and another task runs",
    "memory": lambda _: "all workers together have the memory that they may have",
    "draining": lambda _: "the daemon is stopping and starts nothing more",
    "drain": lambda _: "the daemon was told to start nothing more (`drain`)",
    "behind": _behind,
    "starting": lambda _: "nothing stands in its way, it starts in a moment",
}
