"""`config`: every setting with its origin; changes at run time and their undoing."""

from __future__ import annotations

from gemflowd.model.errors import Refused
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Config, body)

    def answer(result: Body | Refused) -> None:
        reply(result if isinstance(result, Refused) else {"settings": desk.configuration.table()})

    if request.set or request.reset or request.reset_all:
        desk.configuration.change(request.set, None if request.reset_all else request.reset, answer)
    else:
        answer({})
