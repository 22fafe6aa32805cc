"""Model calls of running attempts that the cache has something to do with: who makes one, who waits for it, who was served.

Kept in memory alone: after the daemon's end nothing of it runs. A turn that fails takes its changes back. What is decided about
calls is in `engine.cache`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from gemflowd.model.cache import Mode
from gemflowd.model.facts import Reply

Attempt = tuple[int, int]  # task, token
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Cached:
    """Figures of what is stored, which outlive the daemon."""

    entries: int = 0
    bytes: int = 0
    number: int = 0  # the last that was given
    cleared: int = 0  # entries up to this one are as good as gone
    sweeping: bool = False  # some of those are still there

    @classmethod
    def of(cls, meta: Mapping[str, float]) -> Self:
        def figure(name: str) -> int:
            return int(meta.get(f"cache_{name}", 0))

        return cls(
            figure("entries"), figure("bytes"), figure("number"), figure("cleared"), bool(meta.get("cache_sweeping"))
        )

    def to_meta(self) -> dict[str, float]:
        return {
            "cache_entries": self.entries,
            "cache_bytes": self.bytes,
            "cache_number": self.number,
            "cache_cleared": self.cleared,
            "cache_sweeping": self.sweeping,
        }


@dataclass(slots=True, frozen=True)
class Member:
    """An attempt that makes a call or waits for it."""

    mode: Mode
    reply: Reply | None  # owed to who waits


@dataclass(slots=True)
class Call:
    """One that is being made."""

    key: bytes
    model: str
    leader: Attempt
    members: dict[Attempt, Member] = field(default_factory=dict)  # in the order in which they came


@dataclass(slots=True, frozen=True)
class Served:
    """An attempt that got an answer without a call of its own. It counts when the attempt has ended well."""

    model: str
    usage: bytes | None  # of the call that was saved
    entry: int | None  # None: the answer was not stored


@dataclass(slots=True, frozen=True)
class Waited:
    """An attempt that has waited for a call which met a quota, and has been told so."""


class Calls:
    """All of them. Every change is made by a method, so that it can be taken back."""

    def __init__(self) -> None:
        self.attempts: dict[Attempt, Call | Served | Waited] = {}
        self.shared: dict[bytes, Call] = {}  # those that others may wait for
        self._undo: list[Callable[[], Any]] = []

    def begin(self) -> None:
        """A turn begins."""
        if self._undo:
            self._undo.clear()

    def forget(self) -> None:
        """The turn has failed."""
        while self._undo:
            self._undo.pop()()

    def open(self, call: Call, member: Member) -> None:
        """An attempt makes a call."""
        if member.mode.shares:
            self._put(self.shared, call.key, call)
        self.join(call, call.leader, member)

    def join(self, call: Call, attempt: Attempt, member: Member) -> None:
        self._put(call.members, attempt, member)
        self._put(self.attempts, attempt, call)

    def lead(self, call: Call, attempt: Attempt) -> None:
        """One of those that wait makes the call."""
        before, member = call.leader, call.members[attempt]
        self._undo.append(lambda: setattr(call, "leader", before))
        call.leader = attempt
        self._put(call.members, attempt, Member(member.mode, None))

    def serve(self, attempt: Attempt, served: Served | Waited) -> None:
        self._put(self.attempts, attempt, served)

    def part(self, attempt: Attempt) -> None:
        """An attempt has no more to do with calls. With its last member a call is gone."""
        found = self.attempts[attempt]
        self._pop(self.attempts, attempt)
        if isinstance(found, Call):
            self._pop(found.members, attempt)
            if not found.members and self.shared.get(found.key) is found:
                self._pop(self.shared, found.key)

    def _put(self, where: dict[K, V], key: K, value: V) -> None:
        if key in where:
            before = where[key]
            self._undo.append(lambda: where.__setitem__(key, before))
        else:
            self._undo.append(lambda: where.pop(key))
        where[key] = value

    def _pop(self, where: dict[K, V], key: K) -> None:
        before = where.pop(key)
        self._undo.append(lambda: where.__setitem__(key, before))
