"""`batch_join`, `batch_take`: what attempts of `gemini` tasks want of a batch; the others: of those that carry one.

Not for clients. What they mean is in `model.batch`.
"""

from __future__ import annotations

from typing import Final

from gemflowd.model import batch, facts
from gemflowd.model.errors import Invalid
from gemflowd.model.facts import Reply, Speaker
from gemflowd.protocol import messages
from gemflowd.server.desk import Body, Desk

_MOST_ANSWERS: Final = 500
_MOST_NAME: Final = 300


def join(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    it = messages.read(messages.BatchJoin, body)
    if not 0 < len(it.request) <= batch.MOST_BYTES:
        raise Invalid("invalid_value", f"must have at most {batch.MOST_BYTES} bytes", "request")
    if not 0 < len(it.model) <= _MOST_NAME or not 0 <= it.until < 1 << 40:
        raise Invalid("invalid_value", "needs a model, and a moment or 0", "model")
    desk.post(facts.BatchCall(reply, batch.Join(it.model, it.request, it.until), speaker))


async def take(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    it = messages.read(messages.BatchTake, body)
    found = await desk.decide(lambda told: facts.BatchCall(told, batch.Take(it.late), speaker))
    # The engine has other things to do than to read it.
    reply({"answer": await desk.ask(desk.questions.batch_answer, speaker.task)} if found.get("ready") else found)


def begin(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    messages.read(messages.Body, body)
    desk.post(facts.BatchCall(reply, batch.Begin(), speaker))


async def questions(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    it = messages.read(messages.BatchQuestions, body)
    reply(await desk.ask(desk.questions.batch_questions, speaker.task, it.after))


def name(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    it = messages.read(messages.BatchName, body)
    if not 0 < len(it.name) <= _MOST_NAME:
        raise Invalid("invalid_value", f"must have 1 to {_MOST_NAME} characters", "name")
    desk.post(facts.BatchCall(reply, batch.Name(it.name), speaker))


def answers(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    it = messages.read(messages.BatchAnswers, body)
    if len(it.answers) > _MOST_ANSWERS:
        raise Invalid("invalid_value", f"at most {_MOST_ANSWERS} at a time", "answers")
    desk.post(facts.BatchCall(reply, batch.Answers(it.answers), speaker))


def end(desk: Desk, body: Body, reply: Reply, speaker: Speaker) -> None:
    it = messages.read(messages.BatchEnd, body)
    desk.post(facts.BatchCall(reply, batch.End(it.reason[:64] or "unanswered"), speaker))
