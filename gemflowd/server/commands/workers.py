"""`workers`: the worker processes, and how many there shall be. `restart_workers`: fresh ones in their place."""

from __future__ import annotations

from gemflowd.model.errors import Refused
from gemflowd.model.facts import Reply
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk, renamed_path


def handle(desk: Desk, body: Body, reply: Reply) -> None:
    request = messages.read(messages.Workers, body)

    def answer(result: Body | Refused) -> None:
        reply(result if isinstance(result, Refused) else {"workers": desk.workers(), **desk.configuration.size()})

    if request.count is None:
        answer({})
    else:
        with renamed_path("set.workers", "count"):
            desk.configuration.change({"workers": request.count}, [], answer)


def restart(desk: Desk, body: Body, reply: Reply) -> None:
    messages.read(messages.Body, body)
    reply({"restarting": desk.restart_workers()})
