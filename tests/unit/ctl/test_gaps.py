"""The bookkeeping of followed events."""

from __future__ import annotations

import pytest

from gemflowctl.following import missed, prefixes, wanted
from gemflowctl.gaps import Cursor


def event(seq: int, topic: str = "t") -> dict[str, object]:
    return {"seq": seq, "topic": topic}


def test_a_message_that_follows_is_taken_whole() -> None:
    cursor = Cursor(1, 1)
    cursor.adopt({"t": 0}, 1)
    assert not cursor.gap("t", 0)
    assert cursor.take("t", 0, [event(1), event(3)]) == [event(1), event(3)]
    assert not cursor.gap("t", 2)
    assert cursor.gap("t", 3)


def test_what_was_fetched_is_not_taken_again() -> None:
    cursor = Cursor(1, 1)
    cursor.adopt({"t": 0}, 1)
    assert cursor.fetched([event(1), event(2)]) == [event(1), event(2)]
    assert cursor.take("t", 0, [event(1), event(2), event(3)]) == [event(3)]
    assert cursor.after("t") == 4


def test_topics_do_not_hide_each_other() -> None:
    cursor = Cursor(1, 1)
    cursor.adopt({"a": 0, "b": 0}, 1)
    assert cursor.take("a", 0, [event(1, "a"), event(3, "a")])
    assert cursor.take("b", 0, [event(2, "b")]) == [event(2, "b")]


def test_an_unknown_topic_may_have_a_past() -> None:
    cursor = Cursor(10, 1)
    cursor.adopt({}, 10)
    assert cursor.gap("new", 0)
    assert cursor.after("new") == 10


def test_another_epoch() -> None:
    cursor = Cursor(1, 1)
    cursor.adopt({"t": 5}, 6)
    assert cursor.restarted(2)
    cursor.adopt({"t": 0}, 6, epoch=2)
    assert not cursor.restarted(2)
    assert not cursor.gap("t", 0)


def page(first: int, last: int, **topics: int) -> dict[str, object]:
    """What `events` says when `first … last` are gone."""
    return {"first_kept": last + 1, "missed": {"first": first, "last": last, "topics": topics}}


def test_what_is_gone_is_counted_from_where_we_were() -> None:
    cursor = Cursor(11, 1)
    cursor.adopt({"t": 5, "u": 3}, 11)
    cursor.take("t", 5, [event(11)])
    assert missed(page(12, 20, t=10, u=3, new=2), 12, ("t", "u", "new"), cursor) == [
        {"topic": "missed", "first": 12, "last": 20, "topics": {"t": 4, "new": 2}}
    ]
    assert cursor.arrived("t") == 10
    assert missed(page(12, 30, t=11), 12, ("t",), cursor)[0]["topics"] == {"t": 1}


def test_fetched_events_move_the_count_on() -> None:
    cursor = Cursor(1, 1)
    cursor.fetched([event(1), event(2), event(3, "u")])
    assert missed(page(4, 9, t=5, u=1), 4, ("t", "u"), cursor)[0]["topics"] == {"t": 3}


def test_nothing_is_told_when_only_others_are_gone() -> None:
    cursor = Cursor(11, 1)
    cursor.adopt({"t": 5}, 11)
    assert missed(page(11, 20, t=5), 11, ("t",), cursor) == []
    assert missed(page(11, 20, t=5, u=9), 11, ("t",), cursor) == []
    assert missed({"first_kept": 11}, 11, ("t",), cursor) == []


def test_after_a_start_in_the_middle_the_counts_are_not_known() -> None:
    cursor = Cursor(11, None)
    assert missed(page(11, 20, t=5), 11, ("t",), cursor) == [{"topic": "missed", "first": 11, "last": 20, "topics": {}}]
    assert missed(page(21, 25, t=7), 21, ("t",), cursor)[0]["topics"] == {"t": 2}


@pytest.mark.parametrize("start", [0, 1])
def test_from_the_first_they_are(start: int) -> None:
    assert missed(page(1, 20, t=5), start, ("t",), Cursor(start, None))[0]["topics"] == {"t": 5}


def test_a_daemon_that_does_not_count() -> None:
    assert missed({"first_kept": 8}, 5, ("t",), Cursor(1, 1)) == [
        {"topic": "missed", "first": 5, "last": 7, "topics": {}}
    ]


def test_topics_as_people_write_them() -> None:
    assert prefixes(("task", "flow", "worker", "task.failed", "log.4")) == (
        "task.",
        "flow.",
        "worker",
        "task.failed",
        "log.4",
    )
    assert {"queue", "memory", "schedule"} < set(prefixes(()))
    assert wanted("log.4", ("log.4",))
    assert not wanted("log.42", ("log.4",))
    assert wanted("task.failed", ("task.",))
