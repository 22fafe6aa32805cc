"""`usage`: what model calls have used and cost, by model, flow, day or tier."""

from __future__ import annotations

from typing import Final

from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.protocol.moments import parse_moment
from gemflowd.server.desk import Body, Desk

_BY: Final = ("model", "flow", "day", "tier")
_MOST: Final = 5_000


async def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Usage, body)
    if request.by not in _BY:
        raise Invalid("invalid_value", f"must be one of {', '.join(_BY)}", "by")
    if not 1 <= request.limit <= _MOST:
        raise Invalid("invalid_value", f"must be from 1 to {_MOST}", "limit")
    since = None
    if request.since is not None:
        try:
            since = parse_moment(request.since)
        except ValueError as error:
            raise Invalid("invalid_value", str(error), "since") from None
        if not 0 <= since <= 1e12:
            raise Invalid("invalid_value", "must be from 0 to 1e+12", "since")
    found = await desk.ask(desk.questions.usage, request.by, since, request.after, request.limit)
    prices = desk.configuration.prices()
    table = {"file": prices.file, "date": prices.date, "source": prices.source, "models": len(prices.models)}
    reply({**found, "currency": prices.currency, "prices": table})
