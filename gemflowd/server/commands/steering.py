"""What `cancel`, `retry`, `hold`, `release` and `edit` share: very many tasks by number are steered some at a time.

A fact is decided in one turn of the engine, which nothing may make long. Flows go by cursors there; tasks by number are cut
into pieces here, each decided in a turn of its own, and the counts are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gemflowd.model.errors import Refused
from gemflowd.model.facts import Fact, Reply
from gemflowd.model.refs import Ref, TaskRange
from gemflowd.server.desk import Body, Desk

#: Tasks by number that one turn steers.
PIECE = 1_000

Make = Callable[[Reply, list[Ref]], Fact]


async def steer(desk: Desk, refs: list[Ref], reply: Reply, make: Make) -> None:
    """Carry out a request on what `refs` name. `make` gives the fact for some of them."""
    if sum(_width(ref) for ref in refs) <= PIECE:
        desk.post(make(reply, refs))
        return
    await desk.ask(desk.questions.resolve, refs)  # what does not exist is refused before anything is done
    last = await desk.ask(desk.questions.last_task)
    totals: Body = {}
    for piece in pieces(refs, last):
        try:
            answer = await desk.decide(lambda told, piece=piece: make(told, piece))  # type: ignore[misc]
        except Refused as refused:
            if refused.code != "not_found":
                raise
            continue  # a hole in a range
        for name, count in answer.items():
            totals[name] = totals.get(name, 0) + count
    reply(totals)


def pieces(refs: Sequence[Ref], last: int) -> Iterator[list[Ref]]:
    """The same references in lists of at most `PIECE` tasks; ranges end at the last task that exists."""
    piece: list[Ref] = []
    left = PIECE
    for ref in refs:
        spans: Iterator[Ref] = iter([ref])
        if isinstance(ref, TaskRange):
            end = min(ref.last, last)
            starts = range(ref.first, end + 1, PIECE)
            spans = (TaskRange(first, min(first + PIECE - 1, end)) for first in starts)
        for span in spans:
            width = _width(span)
            if width > left:
                yield piece
                piece, left = [], PIECE
            piece.append(span)
            left -= width
    if piece:
        yield piece


def _width(ref: Ref) -> int:
    return ref.last - ref.first + 1 if isinstance(ref, TaskRange) else 1
