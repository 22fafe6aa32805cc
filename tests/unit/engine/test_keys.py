"""Unique keys: return, reject, replace; freed at the end or by time."""

from __future__ import annotations

from helpers.rig import Rig
from helpers.tasks import Answer, new, submission

from gemflowd.model.facts import Delete, UniqueKey
from gemflowd.model.refs import FlowRef
from gemflowd.model.states import State


def keyed(conflict: str = "return", ttl: float | None = None, **fields: object):
    return new(None, key=UniqueKey("k", ttl, conflict), **fields)


def test_a_second_submission_is_answered_with_the_first_task():
    rig = Rig()
    first = rig.submit([keyed()], "s1").body
    second = rig.submit([keyed(body=b"other")], "s2").body
    assert (second["first"], second["flow"], second["repeated"], second["key"]) == (1, first["flow"], True, "returned")
    assert list(rig.check().tasks) == [1]


def test_a_repeat_of_such_a_submission_is_answered_the_same_later():
    rig = Rig()
    rig.slots()
    rig.submit([keyed()], "s1")
    again = [keyed(body=b"other")]
    rig.submit(again, "s2")
    rig.end(1)
    rig.crash()
    assert rig.submit(again, "s2").body["first"] == 1, "the key is free, but that submission had its answer"
    assert rig.submit([keyed()], "s2").code == "submission_reused"
    assert rig.submit([keyed()], "s3").body["first"] == 2


def test_reject_and_of_several_each_counts():
    rig = Rig()
    rig.submit([keyed()], "s1")
    assert rig.submit([keyed("reject")], "s2").code == "duplicate_key"
    assert rig.submit([new(), keyed("reject")], "s3").code == "duplicate_key"
    assert list(rig.check().tasks) == [1], "nothing of the refused flow"


def test_replace_takes_the_place_of_what_has_not_started():
    rig = Rig()
    rig.submit([keyed(due=rig.clock.now + 50)], "s1")
    assert rig.submit([keyed("replace")], "s2").body["first"] == 2
    assert (rig.state(1), rig.task(1).reason) == (State.CANCELLED, "replaced by task 2")
    rig.slots()
    assert rig.submit([keyed("replace")], "s3").code == "duplicate_key", "it runs"
    rig.end(2)
    assert rig.submit([keyed("reject")], "s4").body["first"] == 3
    rig.check()


def test_two_that_come_in_one_turn():
    rig = Rig()
    answers = Answer(), Answer()
    rig.post(submission(answers[0], "s1", [keyed()]), submission(answers[1], "s2", [keyed("reject")]))
    rig.run()
    assert answers[0].body["first"] == 1
    assert answers[1].code == "duplicate_key"


def test_with_a_time_of_its_own_the_end_does_not_free_it():
    rig = Rig()
    rig.slots()
    rig.submit([keyed(ttl=60.0)], "s1")
    rig.end(1)
    assert rig.submit([keyed()], "s2").body["first"] == 1
    rig.clock.jump(3600)
    assert rig.submit([keyed("reject")], "s3").code == "duplicate_key", "setting the clock does not free it"
    rig.post(Delete(Answer(), [FlowRef(1)]))
    rig.run()
    assert rig.submit([keyed("reject")], "s3").code == "duplicate_key", "nor does deleting the task"
    rig.clock.now += 61
    assert rig.submit([keyed("reject")], "s4").body["first"] == 2
