"""`limits`: every limit with its figures and what is used of them; figures at run time, and their undoing."""

from __future__ import annotations

import re
from typing import Any, Final

from gemflowd.model import facts
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.model.limit import FIGURES, MAX_NAME, check_figure, plain_name
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]+")


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Limits, body)
    changes = bool(request.set) or request.reset
    if request.limit is None:
        if changes:
            raise Invalid("missing_field", "say which limit is changed", "limit")
    elif len(request.limit) > MAX_NAME or not _NAME.fullmatch(request.limit):
        raise Invalid(
            "invalid_value", f"must have 1 to {MAX_NAME} characters, none of them control characters", "limit"
        )
    name = None if request.limit is None else plain_name(request.limit)
    if not changes or name is None:
        desk.post(facts.AskLimits(reply, name))
    else:
        desk.post(facts.SetLimit(reply, name, _figures(request.set), request.reset))


def _figures(given: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        path = f"set.{name}"
        if name not in FIGURES:
            raise Invalid("unknown_field", f"there is no figure {name[:80]!r}; there are {', '.join(FIGURES)}", path)
        try:
            found[name] = None if value is None else check_figure(name, value)
        except ValueError as error:
            raise Invalid("invalid_value", f"{name} {error}", path) from None
    return found
