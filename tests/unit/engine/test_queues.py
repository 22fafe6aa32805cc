"""Queues that are paused or limited."""

from __future__ import annotations

from helpers.rig import Rig, set_queue
from helpers.tasks import many, new


def test_a_paused_queue_starts_nothing_and_the_others_go_on(rig: Rig):
    rig.submit([new(queue="night"), new()])
    assert rig.running() == [1]
    assert set_queue(rig, "night", paused=True) == {"queue": "night", "paused": True, "limit": None}
    rig.submit([new(queue="night"), new()], "s2")
    rig.end(1)
    rig.end(2)
    assert rig.running() == [4]
    rig.crash()
    rig.slots()
    assert rig.running() == [4]
    set_queue(rig, "night", paused=False)
    rig.end(4)
    assert rig.running() == [3]


def test_a_limit_of_a_queue_counts_what_runs_already(rig: Rig):
    rig.slots(3)
    rig.submit(many(6))
    assert len(rig.running()) == 4
    set_queue(rig, most=2)
    rig.end(1)
    rig.end(2)
    assert len(rig.running()) == 2
    rig.end(3)
    assert sorted(rig.running()) == [4, 5]
    rig.crash()
    rig.slots(4)
    assert len(rig.running()) == 2
    set_queue(rig, most=None)
    assert len(rig.running()) == 3
    rig.check()


def test_pausing_a_million_costs_nothing(rig: Rig):
    """No row is touched: the lane is not looked at."""
    rig.submit(many(500, queue="night"), "s1")
    before = rig.store.inner._db.total_changes()
    set_queue(rig, "night", paused=True)
    assert rig.store.inner._db.total_changes() - before < 10
