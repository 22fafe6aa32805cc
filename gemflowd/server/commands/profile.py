"""`profile`: which one is in force, what of it is shadowed; and another one."""

from __future__ import annotations

from gemflowd.model.errors import Refused
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk, renamed_path


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Profile, body)

    def answer(result: Body | Refused) -> None:
        reply(result if isinstance(result, Refused) else desk.configuration.profile())

    if request.name is None:
        answer({})
    else:
        with renamed_path("set.profile", "name"):
            desk.configuration.change({"profile": request.name}, [], answer)
