"""An executor that runs nothing: slots, what is in them, and facts about it when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgpack

from gemflowd.core.placement import HAND_OVER_MOST
from gemflowd.model.attempt import TAKE_BACK_AFTER, Ended, Kind, Outcome, Start
from gemflowd.model.effects import Retract
from gemflowd.model.facts import AttemptsEnded, Fact, SlotDown, SlotStopping, SlotUp, TakenBack

#: What an attempt that ended as `again` has said: the daemon reads it.
_AGAIN = msgpack.packb({"class": "Again", "code": "again", "message": "again"})


@dataclass
class FakeSlot:
    name: str
    kind: Kind
    size: int
    stopping: bool = False
    handed: list[Start] = field(default_factory=list)  # the first of a blocking one runs, the others wait behind it


class FakeExecutor:
    """Model of an executor. It keeps what an executor promises, and asserts what it may expect of the engine."""

    def __init__(self, report: Callable[[Fact], None]) -> None:
        self._report = report
        self._numbers = 0
        self.slots: dict[str, FakeSlot] = {}
        self.past: list[tuple[int, int]] = []  # (task, token) of attempts that it has no more
        self.asked: set[tuple[int, int]] = set()  # to be cancelled
        self.started: list[Start] = []  # all, in order

    # What the engine wants

    def start(self, starts: Sequence[Start]) -> None:
        refused = []
        live = {order.task for order in self.handed()}
        for order in starts:
            assert order.task not in live, f"task {order.task} has a live attempt already"
            live.add(order.task)
            self.started.append(order)
            slot = self.slots.get(order.slot)
            if slot is None or slot.stopping:
                refused.append((order.task, order.token))
                self.past.append(refused[-1])
                continue
            slot.handed.append(order)
            most = slot.size if slot.kind is Kind.COROUTINE else HAND_OVER_MOST
            assert len(slot.handed) <= most, f"slot {slot.name} has {len(slot.handed)} attempts"
            if any(other.memory_mb is not None for other in slot.handed):
                assert slot.kind is Kind.BLOCKING
                assert len(slot.handed) == 1, "who has a memory cap of its own has its worker for itself"
        if refused:
            self._report(TakenBack(refused))

    def cancel(self, task: int, token: int) -> None:
        self.asked.add((task, token))

    def retract(self, what: Retract) -> None:
        for slot in self.slots.values():
            if slot.kind is not Kind.BLOCKING or not slot.handed:
                continue
            if what is Retract.ALL or slot.handed[0].patience > TAKE_BACK_AFTER:
                self.take_back(slot.name)

    # What a test wants to happen

    def handed(self) -> list[Start]:
        return [order for slot in self.slots.values() for order in slot.handed]

    def running(self) -> list[Start]:
        """Attempts that have really started."""
        return [
            order
            for slot in self.slots.values()
            for order in (slot.handed[:1] if slot.kind is Kind.BLOCKING else slot.handed)
        ]

    def add(self, kind: Kind = Kind.BLOCKING, size: int = 1) -> str:
        self._numbers += 1
        name = f"{kind.word[0]}{self._numbers}"
        self.slots[name] = FakeSlot(name, kind, size)
        self._report(SlotUp(name, kind, size, pid=self._numbers))
        return name

    def end(
        self,
        order: Start,
        outcome: Outcome = Outcome.DONE,
        *,
        seconds: float = 1.0,
        payload: bytes | None = None,
        retry_after: float | None = None,
    ) -> None:
        self._report(AttemptsEnded([self.ended(order, outcome, seconds, payload, retry_after)]))

    def ended(
        self,
        order: Start,
        outcome: Outcome = Outcome.DONE,
        seconds: float = 1.0,
        payload: bytes | None = None,
        retry_after: float | None = None,
    ) -> Ended:
        """The attempt is over; what is to be reported of it."""
        self.slots[order.slot].handed.remove(order)
        self.past.append((order.task, order.token))
        if payload is None:
            payload = _AGAIN if outcome is Outcome.AGAIN else b"%d:%d" % (order.task, order.token)
        return Ended(order.task, order.token, outcome, payload, seconds, retry_after)

    def take_back(self, name: str, keep: int = 1) -> list[Start]:
        """What is handed over to a slot behind the first `keep` comes back."""
        slot = self.slots[name]
        back, slot.handed = slot.handed[keep:], slot.handed[:keep]
        self.past += [(order.task, order.token) for order in back]
        if back:
            self._report(TakenBack([(order.task, order.token) for order in back]))
        return back

    def stop(self, name: str) -> None:
        """The slot finishes what it runs; what waits behind that comes back."""
        slot = self.slots[name]
        slot.stopping = True
        self._report(SlotStopping(name))
        if slot.kind is Kind.BLOCKING:
            self.take_back(name)

    def kill(self, name: str, *, innocent: bool = False) -> None:
        """The worker dies: what had not started comes back, what had is blamed where there is one culprit."""
        slot = self.slots[name]
        if slot.kind is Kind.BLOCKING:
            self.take_back(name)
        ran = list(slot.handed)
        blame = Outcome.LOST if innocent else Outcome.CRASH if len(ran) == 1 else Outcome.SUSPECT
        ended = [self.ended(order, blame) for order in ran]
        if ended:
            self._report(AttemptsEnded(ended))
        del self.slots[name]
        self._report(SlotDown(name, pid=1, cause="SIGKILL"))
