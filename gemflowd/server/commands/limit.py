"""`limit`: a running attempt puts the limit that it falls under to sleep. Not for clients: they fall under none."""

from __future__ import annotations

from typing import Final

from gemflowd.model import facts
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply, Speaker
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

#: Seconds for which it may sleep, as with `RateLimited`.
_LEAST: Final = 0.05
_MOST: Final = 86_400.0


def sleep(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    request = messages.read(messages.Limit, body)
    if not _LEAST <= request.seconds <= _MOST:  # NaN is not between anything
        raise Invalid("invalid_value", f"must be from {_LEAST:g} to {_MOST:g}", "seconds")
    desk.post(facts.SleepLimit(reply, request.seconds, speaker))
