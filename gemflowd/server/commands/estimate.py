"""`estimate`: what calls of models would cost, and what budget the flow of the task that asks has. For running attempts alone."""

from __future__ import annotations

from typing import Final

from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply, Speaker
from gemflowd.model.prices import MOST_TOKENS, Tokens, money_of
from gemflowd.model.refs import FlowRef, TaskRange
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

_MOST: Final = 1_000


async def ask(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    request = messages.read(messages.Estimate, body)
    if len(request.calls) > _MOST:
        raise Invalid("invalid_value", f"at most {_MOST} calls", "calls")
    prices = desk.configuration.prices()
    tokens, money = 0, 0
    unpriced: set[str] = set()
    for index, call in enumerate(request.calls):
        if not (0 <= call.prompt_tokens <= MOST_TOKENS and 0 <= call.output_tokens <= MOST_TOKENS):
            raise Invalid("invalid_value", "no number of tokens", f"calls[{index}]")
        model = call.model or desk.personas.expand({}, f"calls[{index}]")["model"]
        used = Tokens(call.prompt_tokens, 0, call.output_tokens, 0, call.prompt_tokens + call.output_tokens)
        cost = prices.cost(model, used)
        tokens += used.total
        money += cost or 0
        if cost is None:
            unpriced.add(model)
    task = (await desk.ask(desk.questions.items, [TaskRange(speaker.task, speaker.task)]))["items"][0]
    flow = (await desk.ask(desk.questions.items, [FlowRef(task["flow"])]))["items"][0]
    reply(
        {
            "tokens": tokens,
            "money": None if unpriced else money_of(money),
            "currency": prices.currency,
            "unpriced": sorted(unpriced),
            "budget": flow.get("budget"),
        }
    )
