"""Following events without missing or repeating one. Steps, shared by both clients; the bookkeeping is in `gaps.py`.

ZeroMQ may drop messages, and what is published before the subscription has arrived is not seen. So: subscribe, ask the
daemon for the ordinals of the topics, fetch what is older, and compare again whenever it is quiet for a while.
"""

from __future__ import annotations

from typing import Final

from gemflowctl import ops
from gemflowctl.gaps import Cursor
from gemflowctl.paging import results
from gemflowctl.refs import RefLike, check
from gemflowctl.steps import Bodies, Body, Emit, Listen, Receive, Steps
from gemflowctl.waiting import Progress, results_in_order, status_of
from gemflowd.model.states import TERMINAL
from gemflowd.protocol.endpoints import events_endpoint

#: Seconds without a message after which the ordinals are compared: soon at first, for what the subscription came too late for.
_FIRST_QUIET: Final = 0.3
_QUIET: Final = 5.0
_PAGE: Final = 1000
_RESULTS_AT_ONCE: Final = 1000
ENDED_TOPICS: Final = tuple(sorted(f"task.{state.word}" for state in TERMINAL))
_FLOW_ENDED_TOPICS: Final = ("flow.succeeded", "flow.failed", "flow.cancelled")
#: Topics whose events are not stored: there is nothing to fetch.
_UNSTORED: Final = ("stats", "log.", "progress.")


def prefixes(topics: tuple[str, ...]) -> tuple[str, ...]:
    """What to subscribe to; none means everything that is stored. `task` and `flow` mean all their states."""
    if not topics:
        return ("task.", "flow.", "worker", "limit", "queue", "memory", "schedule", "budget")
    return tuple(f"{topic}." if topic in ("task", "flow", "log", "progress") else topic for topic in topics)


def wanted(topic: str, topics: tuple[str, ...]) -> bool:
    """Whether a topic is one of `prefixes(…)`; `log.4` is not `log.42`."""
    return any(topic == prefix if prefix[-1].isdigit() else topic.startswith(prefix) for prefix in topics)


class EventFeed:
    """Events of some topics, from a number or from now on.

    Args:
        endpoint: the daemon's client endpoint; the events socket is asked for.
        topics: prefixes, as `prefixes` gives them.
        start: the first `seq` wanted; None for what comes from now on.
    """

    def __init__(self, endpoint: str, topics: tuple[str, ...], start: int | None) -> None:
        self._endpoint = endpoint
        self._topics = topics
        self._stored = tuple(topic for topic in topics if not topic.startswith(_UNSTORED))
        self._start = start
        self._cursor: Cursor | None = None
        self._quiet = _FIRST_QUIET

    def open(self) -> Steps[Bodies]:
        """Subscribe; the events from `start` on that are there already."""
        yield Listen(events_endpoint(self._endpoint), self._topics)
        return (yield from self._compare())

    def next(self) -> Steps[Bodies]:
        """The next events; empty after a while in which there were none."""
        assert self._cursor is not None
        received = yield Receive(self._quiet)
        if received is None:
            self._quiet = _QUIET
            return (yield from self._compare())
        topic, message = received
        if not wanted(topic, self._topics):
            return []
        if topic.startswith(_UNSTORED):
            return list(message["events"])
        if self._cursor.restarted(message.get("epoch")):
            return (yield from self._compare())
        if self._cursor.gap(topic, message["topic_first"]):
            before = yield from self._refill(topic, message["first"], message["events"])
            return before + self._cursor.take(topic, message["topic_first"], message["events"])
        return self._cursor.take(topic, message["topic_first"], message["events"])

    def _compare(self) -> Steps[Bodies]:
        """Ask for the ordinals, and fetch what is missing of each topic that is further on than we are."""
        if not self._stored:
            self._cursor = self._cursor or Cursor(0, None)
            return []
        reply: Body = yield ops.subscribe(self._stored)
        found: Bodies = []
        if self._cursor is None:
            self._cursor = Cursor(reply["next"] if self._start is None else self._start, reply["epoch"])
            if self._start is not None and self._start < reply["next"]:
                found = yield from self._fetch(self._start, self._stored, reply["next"])
            self._cursor.adopt(reply["topics"], reply["next"])
            return found
        restarted = self._cursor.restarted(reply["epoch"])
        behind = tuple(
            topic for topic, ordinal in reply["topics"].items() if restarted or self._cursor.gap(topic, ordinal)
        )
        if behind:
            # All in one, so that what is gone is told once; what was delivered of one of them is not delivered again.
            found = yield from self._fetch(min(map(self._cursor.after, behind)), behind, reply["next"])
        self._cursor.adopt(reply["topics"], reply["next"], reply["epoch"])
        return sorted(found, key=lambda event: event.get("seq") or 0)

    def _refill(self, topic: str, before: int, seen: Bodies) -> Steps[Bodies]:
        assert self._cursor is not None
        target = min((event["seq"] for event in seen), default=before)
        return (yield from self._fetch(self._cursor.after(topic), (topic,), target))

    def _fetch(self, start: int, topics: tuple[str, ...], target: int) -> Steps[Bodies]:
        """Stored events from `start` up to at least `target`; an event of topic `missed` tells of those that are gone."""
        assert self._cursor is not None
        found: Bodies = []
        while start < target:
            page: Body = yield ops.events(start, topics, _PAGE)
            found += missed(page, start, topics, self._cursor)
            found += self._cursor.fetched(event for event in page["events"] if wanted(event["topic"], self._stored))
            if page["next"] <= start:
                break
            start = page["next"]
        return found


def missed(page: Body, start: int, topics: tuple[str, ...], cursor: Cursor) -> Bodies:
    """The event that tells of events that were deleted before we could fetch them, of topics that are wanted; or none.

    `topics` in it says how many of each, of those where that is known: not after a start in the middle.
    """
    if page["first_kept"] <= start:
        return []
    gone = page.get("missed") or {}
    ordinals = {topic: count for topic, count in gone.get("topics", {}).items() if wanted(topic, topics)}
    certain = bool(gone) and all(cursor.arrived(topic) is not None for topic in ordinals)
    counts = cursor.missed(ordinals)
    if certain and not counts:
        return []  # what is gone was of other topics, or was delivered before
    first, last = gone.get("first", start), gone.get("last", page["first_kept"] - 1)
    return [{"topic": "missed", "first": first, "last": last, "topics": counts}]


def events(endpoint: str, topics: tuple[str, ...], start: int | None, follow: bool) -> Steps[None]:
    """Emits events: with `follow` for ever, else the stored ones from `start` on."""
    if not follow:
        yield from _stored_events(prefixes(topics), start)
        return
    feed = EventFeed(endpoint, prefixes(topics), start)
    found = yield from feed.open()
    while True:
        for event in found:
            yield Emit(event)
        found = yield from feed.next()


def _stored_events(topics: tuple[str, ...], start: int | None) -> Steps[None]:
    cursor = None if start is None else Cursor(start, None)
    start = 1 if start is None else start
    while True:
        page: Body = yield ops.events(start, topics, _PAGE)
        # Who asked for whatever is stored has missed nothing.
        for event in missed(page, start, topics, cursor) if cursor else ():
            yield Emit(event)
        found = [event for event in page["events"] if wanted(event["topic"], topics)]
        for event in cursor.fetched(found) if cursor else found:
            yield Emit(event)
        if page["next"] <= start:  # an empty page may have looked at so much only
            return
        start = page["next"]


def flow_results(
    endpoint: str, flow: RefLike, *, as_completed: bool, after: int | None = None, progress: Progress | None = None
) -> Steps[None]:
    """Emits each result line of a flow once, until all have ended and none can be added.

    Args:
        as_completed: soon after its task ended, and not in order of submission.
        after: in order of submission only: begin behind the task with this number.
        progress: called with the tasks that have ended, and with all, whenever something may have changed.
    """
    if as_completed:
        return _as_completed(endpoint, flow, progress)
    return results_in_order(flow, after, progress)


def _as_completed(endpoint: str, flow: RefLike, progress: Progress | None) -> Steps[None]:
    ref = check(flow)
    number = int(ref.removeprefix("f"))
    feed = EventFeed(endpoint, ENDED_TOPICS + _FLOW_ENDED_TOPICS, None)
    yield from feed.open()
    item = yield from status_of(ref)
    seen: set[int] = set()
    yield from _unseen([ref], seen)
    while len(seen) < item["total"] or item.get("state") in ("open", "active"):
        if progress is not None:
            progress(len(seen), item["total"])
        found = yield from feed.next()
        if any(event["topic"] == "missed" for event in found):
            yield from _unseen([ref], seen)
        ended = sorted({event["task"] for event in found if event.get("flow") == number and "task" in event} - seen)
        for first in range(0, len(ended), _RESULTS_AT_ONCE):
            yield from _unseen([str(task) for task in ended[first : first + _RESULTS_AT_ONCE]], seen)
        if len(seen) >= item["total"]:
            # It may have grown, or be open for more.
            item = yield from status_of(ref)


def _unseen(refs: list[str], seen: set[int]) -> Steps[None]:
    """Emit the result lines that were not emitted yet."""
    steps = results(refs)
    answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return
        if isinstance(step, Emit):
            answer = None
            if step.value["number"] not in seen:
                seen.add(step.value["number"])
                yield step
        else:
            answer = yield step
