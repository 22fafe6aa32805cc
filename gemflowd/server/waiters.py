"""Long polls: who waits for which task or flow to end, or for the next log line."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

from gemflowd.model.effects import TaskEnded
from gemflowd.model.refs import FlowRef, NamedTask, Ref

_Table = defaultdict[int, set[asyncio.Event]]


class Waiters:
    """An event per waiting request. A wake-up says "look again", not what happened."""

    def __init__(self) -> None:
        self._by_task: _Table = defaultdict(set)
        self._by_flow: _Table = defaultdict(set)
        self._by_log: _Table = defaultdict(set)
        self._any_log: set[asyncio.Event] = set()
        self._ranges: dict[asyncio.Event, list[tuple[int, int]]] = {}
        self._places: dict[asyncio.Event, list[tuple[_Table, int]]] = {}

    def add(self, refs: Sequence[Ref]) -> asyncio.Event:
        """An event that is set when a task that `refs` name ends."""
        event = asyncio.Event()
        self._places[event] = []
        for ref in refs:
            if isinstance(ref, FlowRef):
                self._put(self._by_flow, ref.number, event)
            elif isinstance(ref, NamedTask):
                self._put(self._by_flow, ref.flow, event)
            elif ref.first == ref.last:
                self._put(self._by_task, ref.first, event)
            else:
                self._ranges.setdefault(event, []).append((ref.first, ref.last))
        return event

    def add_log(self, task: int) -> asyncio.Event:
        """An event that is set when the task has a new log line, or ends."""
        event = asyncio.Event()
        self._places[event] = []
        self._put(self._by_log, task, event)
        self._put(self._by_task, task, event)
        return event

    def add_any_log(self) -> asyncio.Event:
        """An event that is set when any task has a new log line, or ends."""
        event = asyncio.Event()
        self._places[event] = []
        self._any_log.add(event)
        return event

    def _put(self, table: _Table, number: int, event: asyncio.Event) -> None:
        table[number].add(event)
        self._places[event].append((table, number))

    def remove(self, event: asyncio.Event) -> None:
        for table, number in self._places.pop(event, ()):
            table[number].discard(event)
            if not table[number]:
                del table[number]
        self._ranges.pop(event, None)
        self._any_log.discard(event)

    def ended(self, tasks: Iterable[TaskEnded]) -> None:
        if not self._places:
            return
        self._wake_any()
        for ended in tasks:
            for table, number in ((self._by_task, ended.task), (self._by_flow, ended.flow)):
                if number in table:
                    for event in table[number]:
                        event.set()
            for event, spans in self._ranges.items():
                if any(first <= ended.task <= last for first, last in spans):
                    event.set()

    def flows(self, numbers: Iterable[int]) -> None:
        """Flows have ended, or are gone."""
        for number in numbers:
            for event in self._by_flow.get(number, ()):
                event.set()

    def _wake_any(self) -> None:
        for event in self._any_log:
            event.set()

    def logged(self, tasks: set[int]) -> None:
        self._wake_any()
        for number in tasks & self._by_log.keys():
            for event in self._by_log[number]:
                event.set()

    def wake_all(self) -> None:
        """The daemon stops: everyone answers with what there is."""
        for event in self._places:
            event.set()
