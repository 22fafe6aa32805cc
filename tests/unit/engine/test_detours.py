"""Tasks that name other models, while their own model's limit lets nothing start for long."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from helpers.rig import Rig, set_queue
from helpers.tasks import Answer, new

from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.budget import Action, NewBudget, Scope
from gemflowd.model.facts import AttemptsEnded, ChangeBudget, Drain, NewTask, SetLimit, Starts
from gemflowd.model.rules import Rules
from gemflowd.model.states import State


def rig_with(slots: int = 100, **limits: dict[str, Any]) -> Rig:
    rig = Rig(rules=Rules(limits={f"gemini:{name}": figures for name, figures in limits.items()}))
    rig.slots(1, Kind.COROUTINE, slots)
    return rig


def call(*models: str, **fields: Any) -> NewTask:
    body = msgpack.packb({"data": {}})
    task = new(bucket=f"gemini:{models[0]}", kind=Kind.COROUTINE, body=body, **fields)
    others = "\n".join(f"gemini:{model}" for model in models) if len(models) > 1 else ""
    return replace(task, lane=replace(task.lane, others=others))


def refuse(rig: Rig, number: int, seconds: float) -> None:
    payload = msgpack.packb({"class": "X", "code": "daily_quota", "message": ""})
    rig.post(AttemptsEnded([rig.executor.ended(rig.attempt(number), Outcome.RATE_LIMITED, 0.5, payload, seconds)]))
    rig.run()


def limit(rig: Rig, number: int) -> str | None:
    return rig.engine._memory.lanes[rig.task(number).lane].key.bucket


def test_who_has_another_model_goes_on_with_it_when_the_day_is_used_up():
    rig = rig_with(a={"rpd": 1})
    rig.submit([call("a"), call("a"), call("a", "b"), call("a", "b", "c")])
    assert sorted(rig.running()) == [1, 3, 4]
    start = rig.attempt(3)
    assert (start.attempt, start.note) == (2, (0, msgpack.packb({"model": "b"})))
    assert [limit(rig, number) for number in (2, 3, 4)] == ["gemini:a", "gemini:b", "gemini:b"]
    rows = list(rig.store.inner._db.execute("SELECT outcome, error, seconds FROM attempt WHERE task = 3"))
    ((outcome, error, seconds),) = rows
    assert (outcome, seconds) == (Outcome.AGAIN, 0)
    assert msgpack.unpackb(error)["code"] == "daily_quota"
    rig.submit([call("a", "b")], uuid="later")
    assert sorted(rig.running()) == [1, 3, 4, 5]
    rig.crash()
    rig.slots(1, Kind.COROUTINE, 100)
    assert sorted(rig.running()) == [3, 4, 5]
    assert rig.attempt(3).note == (0, msgpack.packb({"model": "b"}))
    rig.check()


def test_the_next_one_that_can_be_had_is_asked_and_none_where_there_is_none():
    rig = rig_with(a={"rpd": 1}, b={"rpd": 1}, c={"rpd": 2})
    rig.submit([call("a"), call("b")], uuid="first")
    rig.submit([call("a", "b", "c") for _ in range(4)])
    assert sorted(limit(rig, number) or "" for number in rig.running()) == [
        "gemini:a",
        "gemini:b",
        "gemini:c",
        "gemini:c",
    ]
    waiting = [number for number in range(3, 7) if rig.state(number) is State.READY]
    assert len(waiting) == 2
    answer = Answer()
    rig.post(SetLimit(answer, "gemini:a", {"rpd": 100}, False))
    rig.run()
    assert set(waiting) <= set(rig.running())
    rig.check()


def test_what_is_waited_for_a_little_is_waited_for():
    rig = rig_with(a={"rpm": 1})
    rig.submit([call("a", "b"), call("a", "b")])
    assert rig.running() == [1]
    refuse(rig, 1, 60.0)
    assert rig.running() == []
    assert [limit(rig, number) for number in (1, 2)] == ["gemini:a"] * 2


@pytest.mark.parametrize("how", ["parked", "asleep"])
def test_the_other_side_says_that_it_is_for_long(how: str):
    rig = rig_with(slots=1)
    rig.submit([call("a"), call("a", "b")])
    refuse(rig, 1, 3_600.0 if how == "asleep" else 1.0)
    if how == "parked":
        assert rig.running() == []
        rig.clock.now += 2
        rig.run()
        refuse(rig, 1, 1.0)
    assert rig.running() == [2]
    assert limit(rig, 2) == "gemini:b"
    rig.check()


def test_what_is_kept_for_the_urgent_ones_is_kept_and_they_stay():
    rig = rig_with(slots=1, a={"rpd": 10, "reserve": 0.9})
    rig.submit([call("a"), call("a", "b", priority=5), call("a", "b", priority=9)])
    while running := rig.running():
        rig.end(running[0])
    assert [limit(rig, number) for number in (1, 2, 3)] == ["gemini:a", "gemini:b", "gemini:a"]


def test_no_more_go_than_may_start_there_and_the_rest_follows_in_its_order():
    rig = rig_with(slots=10, a={"rpd": 1}, b={"rpm": 50})
    rig.submit([call("a", "b") for _ in range(120)])
    order = []
    while running := rig.running():
        order.append(running[0])
        rig.end(running[0])
    assert order == list(range(1, 52))
    assert [number for number in range(2, 121) if limit(rig, number) == "gemini:b"] == list(range(2, 53))
    patience = rig.engine._patience()
    assert patience is not None, "the one that waits there is woken"
    rig.clock.now += patience
    rig.run()
    assert rig.running()[0] == 52
    rig.check()


def test_a_flow_that_is_cancelled_meanwhile_is_cancelled():
    rig = rig_with(slots=1, a={"rpd": 1})
    rig.submit([call("a", "b") for _ in range(5)])
    rig.cancel("f1")
    rig.end(rig.running()[0], Outcome.CANCELLED)
    assert {rig.state(number) for number in range(1, 6)} == {State.CANCELLED}
    rig.check()


def limits_of(rig: Rig, count: int) -> Counter[str]:
    return Counter((limit(rig, number) or "").removeprefix("gemini:") for number in range(1, count + 1))


def test_what_the_first_other_one_keeps_for_the_urgent_is_asked_of_the_next():
    half = {"rpd": 10, "reserve": 0.5}
    rig = rig_with(a=half, b=half)
    rig.submit([call("a", "b", "c") for _ in range(20)])
    assert limits_of(rig, 20) == {"a": 5, "b": 5, "c": 10}
    assert len(rig.running()) == 20
    rig.submit([call("a", "b", priority=9) for _ in range(12)], uuid="urgent")
    assert len(rig.running()) == 30
    assert [limit(rig, number) for number in (31, 32)] == ["gemini:a"] * 2, "they wait where they are"
    rig.check()


def test_no_more_go_than_their_priority_has_room_for():
    rig = rig_with(a={"rpd": 1}, b={"rpd": 10, "reserve": 0.9})
    rig.submit([call("a", "b") for _ in range(5)])
    assert limits_of(rig, 5) == {"a": 4, "b": 1}


def test_a_queue_that_is_paused_or_full_lets_nobody_go():
    rig = rig_with(a={"rpd": 1})
    set_queue(rig, "default", most=3)
    rig.submit([call("a", "b") for _ in range(9)])
    assert (limits_of(rig, 9), len(rig.running())) == ({"a": 7, "b": 2}, 3)
    set_queue(rig, "default", paused=True)
    for number in rig.running():
        rig.end(number)
    assert limits_of(rig, 9) == {"a": 7, "b": 2}
    set_queue(rig, "default", paused=False)
    assert limits_of(rig, 9) == {"a": 4, "b": 5}


def test_nobody_goes_while_nothing_starts():
    rig = rig_with(slots=2, a={"rpd": 1})
    rig.submit([call("a", "b") for _ in range(9)])
    assert limits_of(rig, 9) == {"a": 8, "b": 1}, "as many as there are slots"
    rig.post(Starts(Answer(), False))
    rig.end(1)
    assert limits_of(rig, 9) == {"a": 8, "b": 1}
    rig.post(Starts(Answer(), True))
    rig.run()
    assert limits_of(rig, 9) == {"a": 7, "b": 2}
    rig.post(Drain())
    rig.end(2)
    assert limits_of(rig, 9) == {"a": 7, "b": 2}


def spend(rig: Rig, number: int) -> None:
    done = rig.executor.ended(rig.attempt(number), Outcome.DONE)
    done.usage = msgpack.packb({"model": "a", "prompt_tokens": 100, "output_tokens": 60, "total_tokens": 160})
    rig.post(AttemptsEnded([done]))
    rig.run()


def test_nobody_goes_while_a_budget_holds():
    rig = rig_with(slots=1, a={"rpd": 1})
    rig.post(ChangeBudget(Answer(), Scope.TOTAL, None, "", None, 160, None, by=False))
    rig.submit([call("a", "b") for _ in range(4)])
    spend(rig, 1)
    assert rig.running() == []
    assert limits_of(rig, 4) == {"a": 3, "b": 1}, "by that one it was found out"
    rig.submit([call("a", "b", "c") for _ in range(4)], uuid="other")
    assert limits_of(rig, 8) == {"a": 7, "b": 1}
    rig.post(ChangeBudget(Answer(), Scope.TOTAL, None, "", None, 1_000_000, None, by=True))
    rig.run()
    assert rig.running() == [2]
    rig.check()


def test_a_flow_whose_budget_holds_stays_and_keeps_nobody_behind_it():
    rig = rig_with(slots=1, a={"rpd": 1})
    rig.submit([call("a", "b") for _ in range(3)], budget=NewBudget(None, 160, Action.HOLD))
    rig.submit([call("a", "b") for _ in range(2)], uuid="other")
    spend(rig, 1)
    assert limits_of(rig, 5) == {"a": 3, "b": 2}, "by one it was found out"
    assert rig.running() == [4]
    rig.check()


def test_who_comes_first_is_not_kept_out_by_those_who_are_there_already():
    rig = rig_with(slots=1, a={"rpd": 1})
    rig.submit([call("a")], uuid="first")
    rig.submit([*(call("b") for _ in range(3)), call("a", "b", priority=1), call("a", "b", priority=6)])
    order = []
    while running := rig.running():
        order.append(running[0])
        rig.end(running[0])
    assert order == [1, 6, 2, 3, 4, 5]
    rig.check()


def test_who_waits_there_is_in_nobody_s_way_who_comes_before():
    rig = rig_with(a={"rpd": 1}, b={"rpm": 1})
    rig.submit([call("a", "b", priority=1) for _ in range(5)])
    assert rig.running() == [1, 2]
    assert limits_of(rig, 5) == {"a": 3, "b": 2}
    rig.submit([call("a", "b", priority=priority) for priority in (1, 2, 3)], uuid="urgent")
    assert [limit(rig, number) for number in range(6, 9)] == ["gemini:a", "gemini:a", "gemini:b"]
    patience = rig.engine._patience()
    assert patience is not None
    rig.clock.now += patience
    rig.run()
    assert rig.running() == [1, 2, 8]
    rig.check()
