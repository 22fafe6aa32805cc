"""Replies of requests that need several turns: they come when the cursors that carry them out are through."""

from __future__ import annotations

from dataclasses import dataclass

from gemflowd.core.turn import Cursor, CursorKind, Turn
from gemflowd.model.errors import Refused
from gemflowd.model.facts import Reply

Counts = dict[str, int]


@dataclass(slots=True)
class _Waiting:
    """A reply that comes when its cursors are through."""

    reply: Reply
    answer: Counts | Refused
    cursors: set[tuple[CursorKind, int]]

    def copy(self) -> _Waiting:
        answer = dict(self.answer) if isinstance(self.answer, dict) else self.answer
        return _Waiting(self.reply, answer, set(self.cursors))


class Replies:
    """Those that are owed. When the daemon dies meanwhile the client asks again."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._before: list[_Waiting] = []  # as it was when the turn began

    def begin(self) -> None:
        """A turn begins."""
        self._before = [it.copy() for it in self._waiting]

    def forget(self) -> None:
        """The turn failed; those who waited before it wait on."""
        self._waiting, self._before = self._before, []

    def owe(self, reply: Reply, answer: Counts | Refused, cursors: list[tuple[CursorKind, int]]) -> None:
        self._waiting.append(_Waiting(reply, answer, set(cursors)))

    def count(self, kind: CursorKind, target: int, what: str) -> None:
        """One more, in the answer to who waits for that cursor."""
        for waiting in self._waiting:
            if (kind, target) in waiting.cursors and isinstance(waiting.answer, dict):
                waiting.answer[what] += 1

    def finished(self, turn: Turn, cursor: Cursor) -> None:
        """A cursor is through, or was overtaken."""
        for waiting in self._waiting:
            waiting.cursors.discard((cursor.kind, cursor.target))
            if not waiting.cursors:
                turn.replies.append((waiting.reply, waiting.answer))
        self._waiting = [waiting for waiting in self._waiting if waiting.cursors]
