"""Which task starts where: order, fairness, hand-over, limits, inputs."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, dep, many, new

from gemflowd.model.attempt import HandlerInfo, Kind, Outcome
from gemflowd.model.facts import (
    Catalogue,
    Configure,
    Devices,
    Drain,
    Fact,
    Hold,
    MemoryTight,
    Release,
    SetQueue,
    Starts,
)
from gemflowd.model.refs import parse_all
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.store.explain import explain
from gemflowd.store.sql import queries


@pytest.fixture
def rig() -> Rig:
    return Rig()


def order(rig: Rig, most: int = 10_000) -> list[int]:
    """End what runs, one by one, and return the tasks in the order of their starts."""
    while rig.running() and len(rig.executor.started) < most:
        rig.end(rig.running()[0])
    return [start.task for start in rig.executor.started]


def measured(rig: Rig, seconds: float = 0.001, kind: str = "echo") -> None:
    """Make the mean of a type known."""
    rig.engine._memory.means.note(kind, seconds)


# Order


def test_the_highest_priority_starts_first(rig: Rig):
    rig.submit([new(priority=priority) for priority in (0, 5, 9, -3, 9)])
    rig.slots()
    assert order(rig) == [3, 5, 2, 1, 4]


def test_a_flow_of_a_thousand_does_not_starve_one_of_ten(rig: Rig):
    rig.submit(many(1_000))
    rig.slots()
    assert order(rig, 100)[-1] == 100
    rig.submit(many(10), "s2")
    after = order(rig, 130)[100:]
    assert [number for number in after if number > 1_000] == list(range(1_001, 1_011))
    assert set(after[:22]) > set(range(1_001, 1_011))
    assert 4 <= sum(number > 1_000 for number in after[:10]) <= 6, "one of each in turn: the large one goes on too"


def test_a_heavier_flow_gets_more(rig: Rig):
    rig.submit(many(50), weight=1.0)
    rig.submit(many(50), "s2", weight=4.0)
    rig.slots()
    first = order(rig, 50)[:50]
    assert 38 <= sum(number > 50 for number in first) <= 42


def test_without_fairness_it_is_the_order_of_submission():
    rig = Rig(rules=Rules(fair=False))
    for part in range(4):
        rig.submit([new(priority=5 if n else 7) for n in range(3)], f"s{part}", weight=part + 1)
    rig.slots()
    assert order(rig) == [1, 4, 7, 10, 2, 3, 5, 6, 8, 9, 11, 12]


def test_a_retried_task_keeps_its_place(rig: Rig):
    rig.submit(many(3))
    rig.slots()
    rig.end(1, Outcome.LOST)
    assert order(rig) == [1, 1, 2, 3]


def test_more_than_a_window_is_started_in_order(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.dispatch.WINDOW", 16)
    monkeypatch.setattr("gemflowd.core.lanes.WINDOW", 16)
    count = 100
    for part in range(2):
        rig.submit(many(count), f"s{part}")
    rig.slots(1, Kind.BLOCKING)
    rig.slots(1, Kind.COROUTINE, 10)
    measured(rig)
    while rig.running():
        rig.executor.end(rig.executor.running()[0], seconds=0.001)
        rig.run()
    started = [start.task for start in rig.executor.started]
    assert started == sorted(started, key=lambda n: ((n - 1) % count, n))


def test_disabled_means_one_at_a_time_in_order_over_both_kinds():
    rig = Rig(rules=Rules(enabled=False))
    rig.slots(2)
    rig.slots(1, Kind.COROUTINE, 5)
    kinds = [Kind.COROUTINE, Kind.BLOCKING, Kind.COROUTINE, Kind.BLOCKING]
    rig.submit([new(kind=kind) for kind in kinds] + [new(priority=9, kind=Kind.COROUTINE)])
    while rig.running():
        assert len(rig.running()) == 1
        rig.end(rig.running()[0])
    assert [start.task for start in rig.executor.started] == [5, 1, 2, 3, 4]


def test_enabled_again_all_slots_are_used():
    rig = Rig(rules=Rules(enabled=False))
    rig.slots(3)
    rig.submit(many(3))
    assert len(rig.running()) == 1
    rig.post(Configure(Answer(), {"enabled": True}, Rules()))
    rig.run()
    assert len(rig.running()) == 3


# Where, and how many at a time


def test_what_finishes_in_a_replaced_coroutine_worker_counts():
    rig = Rig(rules=Rules(coroutines=5))
    old = rig.slots(1, Kind.COROUTINE, 3)[0]
    rig.submit(many(10, kind=Kind.COROUTINE))
    rig.executor.stop(old)
    rig.slots(1, Kind.COROUTINE, 5)  # as when batch_size grows while three run
    assert rig.running() == [1, 2, 3, 4, 5]
    rig.end(1)
    assert rig.running() == [2, 3, 4, 5, 6]


def test_each_kind_has_its_slots(rig: Rig):
    rig.slots(1)
    rig.slots(1, Kind.COROUTINE, 2)
    rig.submit([*many(2), *many(3, kind=Kind.COROUTINE)])
    assert {start.task: start.slot for start in rig.executor.started} == {1: "b1", 3: "c2", 4: "c2"}


def test_an_unknown_type_goes_over_one_by_one_a_short_one_in_bulk(rig: Rig):
    rig.slots(2)
    rig.submit(many(100))
    assert rig.running() == [1, 2]
    rig.end(1, seconds=0.001)
    assert len(rig.executor.slots["b1"].handed) in (19, 20)  # in floating point
    assert len(rig.executor.slots["b2"].handed) == 1, "never behind one that may be long"


def test_short_tasks_are_spread_over_the_slots(rig: Rig):
    measured(rig)
    rig.slots(4)
    rig.submit(many(8))
    assert [len(slot.handed) for slot in rig.executor.slots.values()] == [2, 2, 2, 2]


def test_a_long_task_is_not_put_behind_short_ones(rig: Rig):
    measured(rig)
    rig.slots()
    rig.submit([*many(3), new(type="long"), *many(3)])
    assert rig.running() == [1, 2, 3]
    for number in (1, 2, 3):
        rig.end(number, seconds=0.001)
    assert rig.running() == [4], "what did not fit keeps its place"
    rig.end(4)
    assert rig.running() == [5, 6, 7]


def test_what_is_held_and_released_in_one_turn_starts_once(rig: Rig, caplog: pytest.LogCaptureFixture):
    """Its key is in the window twice then."""
    rig.slots()
    rig.submit(many(3))
    measured(rig)
    rig.engine._memory.lane_means[rig.task(1).lane] = 0.001  # so that several are taken in one go
    rig.post(Hold(Answer(), parse_all([2])), Release(Answer(), parse_all([2])))
    rig.end(1, seconds=0.001)
    assert sorted(rig.running()) == [2, 3]
    assert not caplog.records, "the turn failed, and its facts were tried one by one"
    rig.check()


def test_behind_a_short_task_the_next_one_waits_in_its_worker(rig: Rig):
    measured(rig, 0.05)
    rig.slots(2)
    rig.submit(many(7))
    assert sorted(rig.running()) == [1, 2, 3, 4]
    assert [len(slot.handed) for slot in rig.executor.slots.values()] == [2, 2]
    rig.end(1, seconds=0.05)
    assert sorted(rig.running()) == [2, 3, 4, 5]
    assert all(start.patience == pytest.approx(0.1) for start in rig.executor.handed())


def test_of_the_last_ones_each_goes_to_a_free_slot(rig: Rig):
    measured(rig, 0.05)
    rig.slots(2)
    rig.submit(many(3))
    assert sorted(rig.running()) == [1, 2]
    rig.end(2, seconds=0.05)
    assert sorted(rig.running()) == [1, 3]
    assert [len(slot.handed) for slot in rig.executor.slots.values()] == [1, 1]


def test_of_the_last_ones_each_goes_to_a_free_slot_whatever_the_types(rig: Rig):
    measured(rig, 0.001)
    measured(rig, 0.09, "slow")
    rig.slots(2)
    rig.submit([new(), new()])
    for number in (1, 2):
        rig.end(number, seconds=0.001)  # the lane's last ones were short: there seems to be room for many
    rig.submit(many(3, type="slow"), "s2")
    assert [len(slot.handed) for slot in rig.executor.slots.values()] == [1, 1]


def test_what_is_more_urgent_does_not_wait_behind_what_waits(rig: Rig):
    measured(rig, 0.05)
    rig.slots(1)
    rig.submit(many(4))
    assert rig.running() == [1, 2]
    rig.submit([new(priority=9)], "s2")
    assert rig.running() == [1], "2 has not begun, and came back"
    rig.end(1, seconds=0.05)
    assert rig.running()[0] == 5
    rig.submit([new(priority=1)], "s3")
    assert len(rig.running()) == 2, "one that is less urgent takes nothing back"
    rig.check()


@pytest.mark.parametrize(
    "fact",
    [
        lambda: Starts(Answer(), on=False),
        lambda: Drain(),
        lambda: MemoryTight(True),
        lambda: SetQueue(Answer(), "default", {"paused": True}),
        lambda: Hold(Answer(), parse_all(["f1"])),
    ],
)
def test_what_has_not_begun_does_not_start_after_a_stop(rig: Rig, fact: Callable[[], Fact]):
    measured(rig, 0.001)
    rig.slots(1)
    rig.submit(many(4))
    assert rig.running() == [1, 2, 3, 4]
    rig.post(fact())
    rig.run()
    assert rig.running() == [1]
    rig.end(1, seconds=0.001)
    assert rig.running() == []
    rig.check()


@pytest.mark.parametrize("fields", [{"bucket": "model"}, {"resources": "disk=1"}, {"memory_mb": 100}])
def test_what_shares_something_does_not_wait_in_a_worker(rig: Rig, fields: dict[str, object]):
    measured(rig, 0.05)
    rig.post(Configure(Answer(), {}, Rules(resources={"disk": 100.0})))
    rig.slots(2)
    rig.submit(many(7, **fields))
    assert sorted(rig.running()) == [1, 2]


def test_what_is_taken_back_waits_until_the_slots_head_has_ended(rig: Rig):
    measured(rig)
    rig.slots()
    rig.submit(many(5))
    assert rig.running() == [1, 2, 3, 4, 5]
    rig.executor.take_back("b1")
    rig.run()
    assert rig.running() == [1], "not handed over to the same slot again"
    rig.slots()
    assert {start.slot for start in rig.executor.handed() if start.task > 1} == {"b2"}
    for number in (2, 3, 4, 5):
        rig.end(number, seconds=0.001)
    rig.submit(many(1), "s2")
    assert rig.attempt(6).slot == "b2"
    rig.end(1)
    rig.check()


def test_what_was_taken_back_starts_with_a_new_token_and_no_attempt_on_record(rig: Rig):
    measured(rig)
    rig.slots()
    rig.submit(many(2))
    (back,) = rig.executor.take_back("b1")
    rig.end(1, seconds=0.001)
    again = rig.attempt(2)
    assert again.token > back.token
    assert again.attempt == 1
    assert rig.check().attempts == {(1, 1): Outcome.DONE}


def test_a_stale_take_back_says_nothing_of_the_slot(rig: Rig):
    from gemflowd.model.facts import TakenBack

    measured(rig)
    rig.slots()
    rig.submit(many(2))
    rig.post(TakenBack([(1, 99), (2, 99), (77, 1)]))
    rig.submit(many(2), "s2")
    assert rig.running() == [1, 2, 3, 4]


def test_a_stopping_slot_gets_nothing_new(rig: Rig):
    rig.slots(2)
    rig.executor.stop("b1")
    rig.submit(many(2))
    assert [start.slot for start in rig.executor.started] == ["b2"]
    rig.executor.kill("b1")
    rig.run()
    rig.check()


def test_a_dead_slot_takes_only_its_own_along(rig: Rig):
    rig.slots(2)
    rig.submit(many(3))
    rig.executor.kill("b1")
    rig.run()
    assert rig.task(1).crashes == 1
    assert rig.task(2).crashes == 0
    assert sorted(rig.running()) == [2]
    rig.check()


def test_suspects_run_again_each_alone(rig: Rig):
    rig.slots(1, Kind.COROUTINE, 3)
    rig.submit(many(3, kind=Kind.COROUTINE))
    rig.executor.kill("c1")
    rig.slots(2)
    rig.slots(1, Kind.COROUTINE, 3)
    assert [start.slot for start in rig.executor.handed()] == ["b2", "b3"]
    rig.check()


def test_suspects_of_a_flow_that_came_in_chunks_run_again(rig: Rig):
    """Their new lane belongs to the flow, and the flow is complete: it is open."""
    rig.slots(1, Kind.COROUTINE, 2)
    rig.submit(many(2, kind=Kind.COROUTINE), complete=False)
    rig.submit([], offset=2)
    rig.executor.kill("c1")
    rig.slots(2)
    assert sorted(rig.running()) == [1, 2]
    rig.crash()
    rig.slots(2)
    assert sorted(rig.running()) == [1, 2]


# Limits


def test_429_puts_the_bucket_to_sleep_and_it_wakes_on_time(rig: Rig):
    rig.slots(1, Kind.COROUTINE, 2)
    model = {"kind": Kind.COROUTINE, "bucket": "model"}
    rig.submit([*many(3, **model), new(kind=Kind.COROUTINE)])
    rig.end(1, Outcome.RATE_LIMITED, retry_after=30.0)
    assert sorted(rig.running()) == [2, 4], "one without the bucket goes on"
    rig.end(2)
    assert rig.running() == [4]
    assert rig.engine._memory.buckets["model"].in_flight == 0
    assert rig.engine._patience() == 30.0
    rig.clock.now += 29.9
    rig.submit(many(1, **model), "s2")
    assert rig.running() == [4]
    rig.clock.now += 0.1
    rig.run()
    assert rig.running() == [4, 1]
    assert rig.task(1).tries == 0
    rig.check()


def test_a_bucket_sleeps_over_a_restart(rig: Rig):
    rig.slots()
    rig.submit(many(1, bucket="model"))
    rig.end(1, Outcome.RATE_LIMITED, retry_after=30.0)
    rig.crash()
    rig.slots()
    assert rig.running() == []
    rig.clock.now += 30.0
    rig.run()
    assert rig.running() == [1]


def test_a_bucket_that_wakes_while_nobody_looks_is_not_missed(rig: Rig):
    """It wakes after the last turn has read the clock, and before the engine asks how long it may sleep."""
    rig.slots()
    rig.submit(many(1, bucket="model"))
    rig.executor.end(rig.attempt(1), Outcome.RATE_LIMITED, retry_after=0.1)
    rig.turn()
    rig.clock.now += 0.2
    assert not rig.would_sleep()
    rig.run()
    assert rig.running() == [1]


# What goes over


def test_what_an_attempt_is_given(rig: Rig):
    rig.slots()
    rig.submit([new("a", body=b"BODY", timeout=7.5)])
    (start,) = rig.executor.started
    assert (start.task, start.flow, start.id, start.type, start.attempt) == (1, 1, "a", "echo", 1)
    assert (start.body, start.inputs, start.timeout, start.token) == (b"BODY", None, 7.5, 1)


def test_the_timeout_is_the_tasks_then_the_handlers_then_the_settings(rig: Rig):
    rig.slots(3)
    rig.post(Catalogue([HandlerInfo("slow", Kind.BLOCKING, {}, timeout=60.0), HandlerInfo("echo", Kind.BLOCKING, {})]))
    rig.submit([new(type="slow", timeout=5.0), new(type="slow"), new()])
    assert [start.timeout for start in rig.executor.started] == [5.0, 60.0, 300.0]
    rig.crash()
    rig.slots(3)
    assert [start.timeout for start in rig.executor.started] == [5.0, 60.0, 300.0], "the catalogue is remembered"


def test_dependents_get_the_results(rig: Rig):
    rig.slots()
    rig.submit([new("a"), new(), new("c", dep(0), dep(1))])
    rig.end(1, payload=msgpack.packb({"text": "A"}))
    rig.end(2, payload=msgpack.packb([1, 2]))
    inputs = rig.attempt(3).inputs
    assert inputs is not None
    assert msgpack.unpackb(inputs) == {"a": {"text": "A"}, "2": [1, 2]}


def test_too_large_inputs_fail_the_task_and_free_its_slot():
    rig = Rig(rules=Rules(max_inputs_bytes=10))
    rig.slots()
    rig.submit([new("a"), new("b", dep(0)), new("c", dep(1))])
    rig.submit(many(1), "s2")
    rig.end(1, payload=msgpack.packb("x" * 50))
    assert rig.state(2) is State.FAILED
    assert rig.state(3) is State.SKIPPED
    assert rig.running() == [4]
    rig.check()


# Memory caps


def test_a_task_with_a_memory_cap_has_its_worker_for_itself(rig: Rig):
    measured(rig)
    (slot,) = rig.slots()
    rig.submit([new(queue="other")], "s0")
    rig.end(1, seconds=0.001)
    rig.submit([*many(3), new(memory_mb=512), *many(3)])
    assert [order.task for order in rig.executor.handed()] == [2, 3, 4]
    for number in (2, 3, 4):
        rig.end(number, seconds=0.001)
    (alone,) = rig.executor.handed()
    assert (alone.task, alone.memory_mb, alone.slot) == (5, 512, slot)
    rig.engine._forget()  # a turn failed, and all is loaded again
    rig.submit([new(queue="other")], "s2")
    assert [order.task for order in rig.executor.handed()] == [5]
    rig.end(5, seconds=0.001)
    assert sorted(order.task for order in rig.executor.handed()) == [6, 7, 8, 9]


def test_what_was_over_its_cap_runs_again_alone(rig: Rig):
    measured(rig)
    rig.submit(many(3, kind=Kind.COROUTINE))
    rig.slots(kind=Kind.COROUTINE, size=3)
    rig.slots()
    rig.end(2, Outcome.MEMORY)
    (again,) = [order for order in rig.executor.handed() if order.task == 2]
    assert again.slot.startswith("b")
    rig.submit(many(2), "s2")
    assert [order.task for order in rig.executor.handed() if order.slot == again.slot] == [2]
    rig.end(2, Outcome.MEMORY)
    assert rig.state(2) is State.FAILED


# GPUs


@pytest.fixture
def gpus() -> Rig:
    rig = Rig(rules=Rules(resources={"gpu": 2.0}))
    rig.post(Devices(("0", "GPU-1")))
    rig.slots(4)
    return rig


def devices(rig: Rig) -> dict[int, tuple[str, ...]]:
    return {order.task: order.devices for order in rig.executor.handed()}


def test_shares_of_a_device_go_together_and_a_whole_one_is_whole(gpus: Rig):
    gpus.submit([*many(2, resources="gpu=0.5"), *many(2, resources="gpu=1"), new()])
    assert devices(gpus) == {1: ("0",), 2: ("0",), 3: ("GPU-1",), 5: ()}
    gpus.end(1)
    assert 4 not in devices(gpus), "half a device is free, and it needs a whole one"
    gpus.end(2)
    assert devices(gpus)[4] == ("0",)


def test_what_is_free_on_several_devices_is_not_one_device(gpus: Rig):
    gpus.submit(many(4, resources="gpu=0.5"))
    assert devices(gpus) == {1: ("0",), 2: ("0",), 3: ("GPU-1",), 4: ("GPU-1",)}
    gpus.end(1)
    gpus.end(3)
    gpus.submit([new(resources="gpu=1")], "s2")
    why = explain(gpus.store._db, queries(), gpus.task(5), {"gpu": 2.0}, gpus.engine.free_devices)
    (reason,) = why["reasons"]
    assert (reason["code"], reason["resource"], reason["needed"], reason["used"]) == ("resource", "gpu", 1.0, 1.0)
    assert "as whole devices; free of each: 0.5, 0.5" in reason["message"]
    gpus.submit([new(resources="gpu=0.25")], "s3")
    assert devices(gpus) == {2: ("0",), 4: ("GPU-1",), 6: ("0",)}, "it waits, and holds up nobody"
    assert gpus.engine.free_devices == (0.25, 0.5)
    gpus.end(4)
    assert devices(gpus)[5] == ("GPU-1",)


def test_devices_come_back_however_an_attempt_ends(gpus: Rig):
    whole = new(resources="gpu=2", retries=0)
    gpus.submit([whole, whole, whole])
    gpus.end(1, Outcome.LOST)
    assert devices(gpus) == {1: ("0", "GPU-1")}
    gpus.executor.take_back(gpus.attempt(1).slot, keep=0)
    gpus.run()
    assert devices(gpus) == {1: ("0", "GPU-1")}
    gpus.executor.kill(gpus.attempt(1).slot)
    gpus.run()
    gpus.end(1, Outcome.PERMANENT)
    gpus.end(2, Outcome.CANCELLED)
    assert devices(gpus) == {3: ("0", "GPU-1")}
    gpus.store.fail = ("commit", RuntimeError("a defect"))
    gpus.executor.end(gpus.attempt(3), Outcome.PERMANENT)
    gpus.run()
    gpus.submit([whole], "s2")
    assert devices(gpus) == {4: ("0", "GPU-1")}
    gpus.crash()
    gpus.post(Devices(("0", "GPU-1")))
    gpus.slots()
    assert devices(gpus) == {4: ("0", "GPU-1")}
    gpus.check()


def test_where_no_devices_are_known_amounts_count():
    rig = Rig(rules=Rules(resources={"gpu": 2.0}))
    rig.slots(4)
    rig.submit([new(resources="gpu=1"), *many(3, resources="gpu=0.5")])
    assert devices(rig) == {1: (), 2: (), 3: ()}
