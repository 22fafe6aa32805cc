"""The bookkeeping of followed events."""

from __future__ import annotations

from gemflowctl.following import prefixes, wanted
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


def test_topics_as_people_write_them() -> None:
    assert prefixes(("task", "flow", "worker", "task.failed", "log.4")) == (
        "task.",
        "flow.",
        "worker",
        "task.failed",
        "log.4",
    )
    assert wanted("log.4", ("log.4",))
    assert not wanted("log.42", ("log.4",))
    assert wanted("task.failed", ("task.",))
