"""Which task comes first: critical path, ageing, flows that come slowly, retries."""

from __future__ import annotations

from helpers.rig import Rig, ask
from helpers.tasks import dep, many, new

from gemflowd.core import machine
from gemflowd.core.turn import CursorKind
from gemflowd.model.attempt import Outcome
from gemflowd.model.facts import Hold, Release
from gemflowd.model.rules import Rules


def test_the_longest_path_first():
    rig = Rig()
    #   0 (1 s) -> 2 (9 s); 1 (5 s); 3 (2 s)
    tasks = [new(estimate=1.0), new(estimate=5.0), new(None, dep(0), estimate=9.0), new(estimate=2.0)]
    rig.submit(tasks, critical_path=True)
    rig.slots()
    started = []
    while rig.running():
        started += rig.running()
        rig.end(rig.running()[0])
    assert started == [1, 3, 2, 4]


def test_with_ageing_what_waits_long_enough_comes_first():
    rig = Rig(rules=Rules(ageing=10.0))
    rig.submit([new(priority=5)], "old")
    rig.clock.now += 25
    rig.submit([new(priority=6), new(priority=8)], "new")
    rig.slots()
    order = []
    for _ in range(3):
        order += rig.running()
        rig.end(rig.running()[0])
    assert order == [3, 1, 2]


def test_what_is_ready_is_put_in_order_when_the_rule_changes():
    rig = Rig()
    rig.submit([new(priority=5)], "old")
    rig.clock.now += 25
    rig.submit([new(priority=6)], "new")
    rig.rules = Rules(ageing=10.0)
    rig.crash()
    rig.slots()
    assert rig.running() == [1]
    assert not [cursor for cursor in rig.contents().cursors if cursor[0] is CursorKind.REORDER]


def test_what_comes_back_later_has_its_place_by_the_rule_of_now():
    rig = Rig(rules=Rules(ageing=10.0, retries=9, backoff=1.0))
    rig.slots(2)
    rig.submit(many(2), "old")
    rig.end(1, Outcome.ERROR)
    ask(rig, Hold, 1)
    rig.clock.now += 200
    rig.rules = Rules(ageing=1000.0)
    rig.crash()
    rig.run()
    rig.submit([new(priority=6)], "new")
    ask(rig, Release, 1)
    rig.clock.now += 60
    rig.run()
    assert (rig.task(1).urgency, rig.task(2).urgency, rig.task(3).urgency) == (
        machine.aged(rig.rules, 5, 1_000_000.0),
        machine.aged(rig.rules, 5, 1_000_000.0),
        machine.aged(rig.rules, 6, 1_000_200.0),
    )
    rig.slots()
    assert rig.running() == [3]


def test_a_flow_that_was_received_slowly_does_not_burst_ahead():
    rig = Rig()
    rig.submit(many(3), "slow", complete=False)
    rig.slots()
    rig.submit(many(40), "busy")
    for _ in range(20):
        rig.end(rig.running()[0])
    rig.submit(many(3), "slow", offset=3)
    order = []
    for _ in range(8):
        rig.end(rig.running()[0])
        order += rig.running()
    slow = [number for number in order if number in (1, 2, 3, 44, 45, 46)]
    assert 3 <= len(slow) <= 5, f"turn by turn with the other flow: {order}"


def test_a_retry_takes_a_new_place(rig: Rig):
    rig.submit(many(20))
    for number in range(1, 21):
        rig.end(number, Outcome.PERMANENT)
    rig.retry("f1")
    rig.submit(many(3), "s2")
    order = []
    while rig.running():
        order += rig.running()
        rig.end(rig.running()[0])
    assert max(order.index(number) for number in (21, 22, 23)) < 10, order


def test_completing_a_stream_leaves_its_place(rig: Rig):
    rig.submit(many(50), "before")
    for number in range(1, 51):
        rig.end(number)
    rig.submit([new("a")], "s", stream=True, complete=False)
    rig.submit([new("b")], "s", stream=True, offset=1)
    assert rig.task(52).tag < rig.task(51).tag + 2
