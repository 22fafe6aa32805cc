"""Tasks with very many dependencies: taken apart and gathered over turns."""

from __future__ import annotations

import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, dep, many, new, submission

from gemflowd.model import facts
from gemflowd.model.attempt import Kind
from gemflowd.model.refs import parse_all
from gemflowd.model.states import On, State


def test_a_task_with_more_dependencies_than_a_turn_takes(monkeypatch: pytest.MonkeyPatch):
    rig = Rig()
    rig.submit(many(3_000))
    last = new("last", *(dep(facts.TaskNumber(number)) for number in range(1, 3_001)))
    answer = Answer()
    rig.post(submission(answer, "s2", [last]))
    rig.turn()
    assert answer.given, "acknowledged before it is taken apart"
    assert 0 < len(rig.contents().edges) < 3_000
    rig.check()
    rig.crash()
    rig.run()
    assert len(rig.check().edges) == 3_000
    assert rig.task(3_001).waiting == 3_000
    rig.cancel("f1")
    assert rig.state(3_001) is State.SKIPPED
    rig.check()


def test_dependencies_that_end_while_they_are_taken_apart():
    rig = Rig()
    rig.slots(1, Kind.COROUTINE, 250)
    rig.submit(many(2_500, kind=Kind.COROUTINE))
    last = new("last", *(dep(facts.TaskNumber(number), On.DONE) for number in range(1, 2_501)))
    rig.post(submission(Answer(), "s2", [last]))
    while rig.executor.running():
        rig.post(facts.AttemptsEnded([rig.executor.ended(order) for order in rig.executor.running()]))
        rig.turn()
        rig.check()
        rig.turn()
    rig.run()
    assert rig.state(2_501) in (State.READY, State.RUNNING)


def test_an_edit_while_its_inputs_are_gathered_does_not_lose_a_task(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.inputs.AT_ONCE", 2)
    rig = Rig()
    rig.submit([new(priority=9), new(priority=9), new(priority=9), new(None, dep(0), dep(1), dep(2))])
    rig.slots()
    for _ in range(2):
        rig.end(rig.running()[0])
    rig.executor.end(rig.attempt(rig.running()[0]))
    while not rig.engine._memory.gathering:
        rig.turn()
    rig.post(facts.Edit(Answer(), parse_all([4]), 7))
    while rig.engine._memory.again or not rig.would_sleep():
        rig._deliver(rig.engine.turn(rig.engine._take()))
    assert rig.running() == [4]


def test_gathered_inputs_in_a_paused_queue_hold_nobody_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.inputs.AT_ONCE", 2)
    rig = Rig()
    rig.submit([new(), new(), new()])
    rig.slots()

    def rest() -> None:
        for _ in range(50):
            if rig.engine._memory.again or not rig.would_sleep():
                rig._deliver(rig.engine.turn([] if rig.engine._inbox.empty() else rig.engine._take()))

    while rig.running():
        rig.executor.end(rig.attempt(rig.running()[0]))
        rest()
    wide = tuple(dep(facts.TaskNumber(number)) for number in (1, 2, 3))
    rig.post(submission(Answer(), "block", [new(priority=9)]))
    rest()
    for name in "abcdef":
        rig.post(submission(Answer(), name, [new(None, *wide, queue=name, priority=8)]))
    rest()
    rig.executor.end(rig.attempt(rig.running()[0]))
    rest()
    started = rig.running()[0]
    for name in "abcdef":
        rig.post(facts.SetQueue(Answer(), name, {"paused": True}))
    rig.post(submission(Answer(), "late", [new(None, *wide), new()]))
    rest()
    rig.executor.end(rig.attempt(started))
    rest()
    done = []
    while rig.running():
        done += rig.running()
        rig.executor.end(rig.attempt(rig.running()[0]))
        rest()
    assert sorted(done) == [11, 12]
