"""`gemflowctl limits [NAME | set NAME FIGURE=VALUE… | reset NAME]`: what models and other limits allow, and what is used of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session, session_of
from gemflowctl.steps import Bodies, Body

_ACTIONS: Final = ("get", "set", "reset")
#: Figures that count something, in the order of the table.
_COUNTED: Final = ("rpm", "tpm", "rpd", "spend", "requests", "tokens")
#: Those that say how, with their defaults left out.
_RULES: Final = ("reserve", "reserve_from", "zone", "breaker", "breaker_pause")


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Actions and the names of limits; then figures. A daemon that does not answer at once completes nothing."""
    given: Sequence[str] = context.params.get("arguments") or ()
    if given and given[0] == "set" and len(given) > 1:
        from gemflowd.model.limit import FIGURES

        return [f"{name}=" for name in FIGURES if name.startswith(incomplete)]
    names: list[str] = [] if given else list(_ACTIONS)
    session = session_of(context)
    session.reply_timeout = min(session.reply_timeout, 1.0)
    with contextlib.suppress(Exception), session.client() as client:
        names += [limit["limit"] for limit in client.limits()]
    return [name for name in names if name.startswith(incomplete)]


@click.command(
    "limits",
    cls=Command,
    epilog="""
    gemflowctl limits
    gemflowctl limits gemini:gemini-2.5-flash
    gemflowctl limits set gemini:gemini-2.5-flash rpm=1000 tpm=1000000 rpd=10000 reserve=0.1
    gemflowctl limits set gemini spend=10 in_flight=200
    gemflowctl limits set gemini:gemini-2.5-flash rpm=none
    gemflowctl limits reset gemini:gemini-2.5-flash
    """,
)
@click.argument(
    "arguments", nargs=-1, metavar="[NAME | set NAME FIGURE=VALUE... | reset NAME]", shell_complete=_complete
)
@click.pass_obj
def command(session: Session, arguments: tuple[str, ...]) -> None:
    """Show what limits allow and what is used of it, set figures at run time, or take them back.

    FIGURE is rpm, tpm (requests and input tokens in any minute), rpd (requests a day), spend (in any 10 minutes), in_flight (calls at a
    time), requests and tokens (in any `per` seconds), per, reserve (a share that is kept for priorities from reserve_from on), zone (in
    which the day turns), breaker (failures in a row that stop it) or breaker_pause (seconds). `none` takes one back.

    `set` is kept over restarts. `reset` takes back what was set and what was learned, and wakes the limit up. With --json: one limit on
    each line.
    """
    action, *rest = arguments if arguments and arguments[0] in _ACTIONS else ("get", *arguments)
    if action == "get" and len(rest) > 1:
        raise click.UsageError("one NAME, or none for all limits; to change one: `limits set NAME FIGURE=VALUE`")
    if action == "reset" and len(rest) != 1:
        raise click.UsageError("`limits reset` needs one NAME")
    if action == "set" and len(rest) < 2:
        raise click.UsageError("`limits set` needs a NAME and at least one FIGURE=VALUE")
    figures = dict(_pair(argument) for argument in rest[1:])
    with session.client() as client:
        if action == "get":
            found = client.limits(rest[0] if rest else None)
        else:
            found = [client.set_limit(rest[0], reset=action == "reset", **figures)]
    if session.console.as_json:
        session.console.json_lines(found)
    elif not found:
        session.console.note("there are no limits yet; one appears with its first task, or with `limits set`")
    else:
        _show(session, found)


def _pair(argument: str) -> tuple[str, Any]:
    name, equals, text = argument.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{argument!r} is not FIGURE=VALUE")
    if text.lower() in ("none", "null"):
        return name, None
    for kind in (int, float):
        try:
            return name, kind(text)
        except ValueError:
            continue
    return name, text


def _show(session: Session, found: Bodies) -> None:
    shown = [name for name in _COUNTED if any(_has(limit, name) for limit in found)]
    headings = ["limit", "in flight", *shown, "state", "rules", "origin"]
    session.console.table(headings, [_row(limit, shown) for limit in found])


def _row(limit: Body, shown: Sequence[str]) -> list[object]:
    most = limit["figures"]["in_flight"]["value"]
    running = f"{limit['in_flight']}" if most is None else f"{limit['in_flight']}/{most}"
    return [
        limit["limit"],
        running,
        *(_used(limit, name) for name in shown),
        _state(limit),
        _rules(limit),
        _origin(limit),
    ]


def _has(limit: Body, name: str) -> bool:
    return limit["figures"][name]["value"] is not None or (name == "rpm" and bool(limit["used"].get(name)))


def _used(limit: Body, name: str) -> str | None:
    used, most = limit["used"].get(name), limit["figures"][name]["value"]
    if most is None:
        return None if not used else f"{used:.12g}"
    window = f" in {limit['figures']['per']['value']:g} s" if name in ("requests", "tokens") else ""
    return f"{used or 0:.12g}/{most:.12g}{window}"


def _state(limit: Body) -> str:
    from gemflowctl.times import format_moment

    states = []
    breaker: Mapping[str, Any] = limit["breaker"]
    if limit["parked_until"] is not None:
        states.append(f"parked until {format_moment(limit['parked_until'])}")
    if limit["asleep_until"] is not None:
        states.append(f"asleep until {format_moment(limit['asleep_until'])}")
    if breaker["state"] == "open":
        states.append(f"breaker open until {format_moment(breaker['until'])}")
    elif breaker["state"] != "closed":
        states.append(f"breaker {breaker['state']}")
    if limit["cap"] is not None:
        states.append(f"at most {limit['cap']} at a time, after complaints")
    return ", ".join(states) or "open"


def _rules(limit: Body) -> str | None:
    """What is not as it is everywhere."""
    rules = [
        f"{name}={limit['figures'][name]['value']}" for name in _RULES if limit["figures"][name]["origin"] != "default"
    ]
    return " ".join(rules) or None


def _origin(limit: Body) -> str | None:
    """Where its figures come from, by origin where there are several."""
    by_origin: dict[str, list[str]] = {}
    for name, figure in limit["figures"].items():
        if figure["origin"] != "default":
            by_origin.setdefault(figure["origin"], []).append(name)
    if len(by_origin) <= 1:
        return next(iter(by_origin), None)
    return "; ".join(f"{origin}: {', '.join(names)}" for origin, names in by_origin.items())
