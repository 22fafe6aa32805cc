"""`when`: what it sees, what it costs, and that it is judged over turns."""

from __future__ import annotations

import msgpack
import pytest
from helpers.rig import Rig, ask, set_queue, words
from helpers.tasks import dep, new

from gemflowd.conditions import problem
from gemflowd.model import facts
from gemflowd.model.attempt import Outcome
from gemflowd.model.rules import Rules
from gemflowd.model.states import On, State


@pytest.mark.parametrize(
    ("expression", "state"),
    [
        ("deps.a.ok", State.READY),
        ("deps.a.result.score > 0.5", State.READY),
        ("deps.a.result.score > 0.9", State.SKIPPED),
        ("deps.b.state == 'failed' && deps.b.error.code == 'boom'", State.READY),
        ("deps.b.result.x", State.SKIPPED),
        ("has(deps.b.result)", State.SKIPPED),
        ("1", State.SKIPPED),
        ("deps.a.result.list[5] == 1", State.SKIPPED),
        ("deps.all(name, deps[name].state != 'cancelled')", State.READY),
    ],
)
def test_when(expression: str, state: State):
    rig = Rig(rules=Rules(retries=0))
    rig.slots(2)
    deps = (dep(0, On.DONE), dep(1, On.DONE))
    rig.submit([new("a"), new("b"), new("c", *deps, when=expression, queue="later"), new("d", dep(2))])
    set_queue(rig, "later", paused=True)
    rig.end(1, payload=msgpack.packb({"score": 0.7, "list": []}))
    rig.crash()
    rig.slots(2)
    rig.end(2, Outcome.PERMANENT, payload=msgpack.packb({"class": "Bang", "code": "boom", "message": "m"}))
    assert rig.state(3) is state
    assert rig.state(4) is (State.SKIPPED if state is State.SKIPPED else State.BLOCKED)
    if state is State.SKIPPED:
        assert expression in (rig.task(3).reason or "")
    rig.check()


def test_an_expression_over_a_result_is_refused_for_its_cost():
    for expression in (
        "deps.a.result.l.all(x, x in deps.a.result.l)",
        "[1].map(x, x)",
        "deps.all(a, deps.all(b, true))",
    ):
        assert "of macros only one" in (problem(expression) or "")
    assert problem("deps.exists(name, deps[name].ok)") is None
    assert problem("a" * 501) == "it must have 1 to 500 characters"


def test_very_many_conditions_are_judged_over_turns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 60)
    rig = Rig()
    rig.slots()
    rig.submit(
        [
            new("a"),
            *(new(None, dep(0), when="deps.a.ok") for _ in range(50)),
            *(new(None, dep(0), when="!deps.a.ok") for _ in range(50)),
        ]
    )
    set_queue(rig, paused=True)
    rig.executor.end(rig.attempt(1), payload=b"\x01")
    turns = 0
    while not rig.would_sleep():
        rig.turn()
        rig.check()
        turns += 1
        if turns == 5:
            rig.crash()
    assert turns > 10
    assert (words(rig).count("ready"), words(rig).count("skipped")) == (50, 50)


def test_large_results_are_not_looked_at():
    rig = Rig()
    rig.slots()
    rig.submit([new("a"), new("b", dep(0), when="deps.a.ok")])
    rig.end(1, payload=msgpack.packb("x" * 70_000))
    assert rig.state(2) is State.SKIPPED
    assert "at most 16384" in (rig.task(2).reason or "")


def test_what_was_judged_is_not_judged_again(rig: Rig):
    rig.slots()
    rig.submit([new("a"), new("b", dep(0, On.DONE), when="deps.a.state == 'failed'", queue="later", delay=5.0)])
    set_queue(rig, "later", paused=True)
    rig.end(1, Outcome.ERROR, payload=msgpack.packb({"class": "Boom"}))
    assert rig.state(2) is State.SCHEDULED
    ask(rig, facts.Hold, 2)
    rig.retry(1)
    rig.end(1)
    assert ask(rig, facts.Release, 2).body["released"] == 1
    assert rig.state(2) is State.SCHEDULED, "it was true when all was settled"
    rig.crash()
    rig.clock.now += 6
    rig.run()
    assert rig.state(2) is State.READY
    rig.cancel(2)
    rig.retry(2)
    assert rig.state(2) is State.SKIPPED, "a retry asks again"
    rig.check()
