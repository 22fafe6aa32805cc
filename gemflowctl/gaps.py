"""Which events of each topic were delivered, and whether some are missing. Pure.

`seq` numbers all stored events; within a topic it only rises, so it tells what is old. The ordinal counts the events of a
topic without gaps, so it tells what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gemflowctl.steps import Bodies, Body


class Cursor:
    """Args: everything before `start` counts as delivered; `epoch` is the daemon's."""

    def __init__(self, start: int, epoch: object) -> None:
        self._base = start - 1
        self._epoch = epoch
        self._last: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        #: A topic that is not in `_expected` has had nothing up to here; not known before the ordinals were taken over once.
        self._complete = start <= 1

    def after(self, topic: str) -> int:
        """The first `seq` of the topic that was not delivered."""
        return max(self._last.get(topic, self._base), self._base) + 1

    def restarted(self, epoch: object) -> bool:
        """Whether this comes from another run of the daemon, whose ordinals are compared anew."""
        return epoch != self._epoch

    def gap(self, topic: str, ordinal: int) -> bool:
        """Whether events are missing before the one with this ordinal. Of an unknown topic they may be."""
        return ordinal > self._expected.get(topic, -1)

    def take(self, topic: str, topic_first: int, events: Bodies) -> Bodies:
        """The events of a message that are new."""
        self._expected[topic] = max(self._expected.get(topic, 0), topic_first + len(events))
        return self._new(topic, events)

    def fetched(self, events: Iterable[Body]) -> Bodies:
        """The events of a page, of any topics, that are new. A page has no gaps, so each moves the ordinal on by one."""
        found: Bodies = []
        for event in events:
            new = self._new(event["topic"], [event])
            arrived = self.arrived(event["topic"])
            if new and arrived is not None:
                self._expected[event["topic"]] = arrived + 1
            found += new
        return found

    def arrived(self, topic: str) -> int | None:
        """The ordinal that the next event of a topic will have; None where that is not known."""
        return self._expected.get(topic, 0 if self._complete else None)

    def missed(self, ordinals: Mapping[str, int]) -> dict[str, int]:
        """Events are gone; the topics have had so many by then. How many of each are gone, where that can be told."""
        counts: dict[str, int] = {}
        for topic, ordinal in ordinals.items():
            arrived = self.arrived(topic)
            if arrived is not None and ordinal > arrived:
                counts[topic] = ordinal - arrived
            self._expected[topic] = max(arrived or 0, ordinal)
        return counts

    def adopt(self, ordinals: Mapping[str, int], before: int, epoch: object = None) -> None:
        """Everything before `before` was delivered: take over the ordinals that the topics have there.

        Events that were fetched although they are numbered `before` or higher make the next message of their topic look
        partly old; `take` drops those by their `seq`.
        """
        if epoch is not None:
            if epoch != self._epoch:
                self._expected.clear()
            self._epoch = epoch
        self._expected.update(ordinals)
        self._complete = True
        self._base = max(self._base, before - 1)

    def _new(self, topic: str, events: Bodies) -> Bodies:
        last = max(self._last.get(topic, self._base), self._base)
        found = [event for event in events if event["seq"] > last]
        if found:
            self._last[topic] = found[-1]["seq"]
        return found
