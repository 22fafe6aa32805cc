"""What is left when the daemon ends, in whatever way: attempts are lost, tasks are not, numbers and events go on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from helpers.rig import Clock, OnDisk, Rig
from helpers.tasks import Answer, many, submission

from gemflowd.engine.clocks import Clocks
from gemflowd.engine.engine import Engine
from gemflowd.model.attempt import HandlerInfo, Kind, Outcome
from gemflowd.model.facts import AttemptsEnded, Catalogue, Configure, Ping, Stop
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
def rig(request: pytest.FixtureRequest, tmp_path):
    rig = Rig(OnDisk(tmp_path / "gemflow.db") if request.param == "sqlite" else None, Rules(lost_limit=2))
    yield rig
    rig.store.close()


def test_what_ran_is_ready_again_with_its_loss_on_record(rig: Rig):
    rig.slots()
    rig.submit(many(2))
    rig.crash()
    task = rig.task(1)
    assert (task.state, task.losses, task.attempts, task.tries, task.reason) == (State.READY, 1, 1, 0, "lost")
    assert rig.check().attempts == {(1, 1): Outcome.LOST}
    rig.slots()
    assert rig.running() == [1], "at its old place"
    assert rig.attempt(1).token == 2


def test_what_runs_at_every_unclean_end_is_quarantined(rig: Rig):
    for _ in range(2):
        rig.slots()
        rig.submit(many(1))
        rig.crash()
    assert rig.state(1) is State.QUARANTINED
    rig.check()


def test_a_clean_end_is_held_against_nobody(rig: Rig):
    for _ in range(4):
        rig.slots()
        rig.submit(many(1))
        rig.stop()
    assert (rig.task(1).state, rig.task(1).losses, rig.task(1).attempts) == (State.READY, 0, 4)


def test_outcomes_of_an_earlier_daemon_are_refused(rig: Rig):
    rig.slots()
    rig.submit(many(1))
    late = rig.executor.ended(rig.attempt(1))
    rig.crash()
    rig.slots()
    rig.post(AttemptsEnded([late]))
    rig.run()
    assert rig.state(1) is State.RUNNING
    assert rig.engine.refused_outcomes == 1
    assert not rig.check().results


def test_events_go_on_where_they_were(rig: Rig):
    rig.submit(many(2))
    before = rig.contents().events[-1]
    rig.crash()
    rig.submit(many(1), "s2")
    batch = rig.effects[-1].events
    assert batch is not None
    assert batch.first == before.last + 1
    assert batch.ordinals["task.ready"] == 2
    rig.check()


def test_what_the_rest_of_the_daemon_needs_is_handed_out(rig: Rig):
    info = HandlerInfo("echo", Kind.BLOCKING, {})
    rig.post(Catalogue([info]), Configure(Answer(), {"workers": 3, "fair": None}, Rules()))
    rig.run()
    rig.crash()
    opened = rig.engine.opened.result(timeout=0)
    assert opened.settings == {"workers": 3}
    assert opened.position == {"next": 1, "topics": {}}
    assert opened.asleep == {}


def test_the_thread_runs_until_it_is_told_to_stop(tmp_path: Path):
    """The only test with the engine's own thread: open, one turn with all that waits, a clean end."""
    clock = Clock()
    delivered = []
    engine = Engine(
        lambda: SqliteStore(tmp_path / "gemflow.db"),
        Rules(),
        Clocks(clock.wall, clock.monotonic),
        delivered.append,
        random.Random(1),
    )
    answers = Answer(), Answer()
    engine.post(submission(answers[0], "s1", many(1)))
    engine.post(Ping(answers[1]))
    engine.post(Stop())
    engine.start().join(timeout=30)
    turn, end = delivered
    assert len(turn.replies) == 2
    assert (end.stopped, end.failure) == (True, None)
    assert not SqliteStore(tmp_path / "gemflow.db").note_start(), "a clean end"


def test_a_store_that_can_not_be_opened_is_said():
    delivered = []

    def fail():
        raise OSError("no")

    engine = Engine(fail, Rules(), Clocks(Clock().wall, Clock().monotonic), delivered.append)
    engine.run()
    assert isinstance(engine.opened.exception(timeout=0), OSError)
    assert delivered[0].stopped
