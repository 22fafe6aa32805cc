"""Which slot takes a task, and how many very short ones go over together."""

import pytest

from gemflowd.core.placement import AHEAD_SECONDS, HAND_OVER_MOST, HAND_OVER_SECONDS, WHOLE_SLOT, Means, Placing, Slot
from gemflowd.model.attempt import Kind


def blocking(name: str = "b1") -> Slot:
    return Slot(name, Kind.BLOCKING, 1)


def test_a_type_that_is_not_known_counts_as_a_whole_slot():
    means = Means()
    assert means.of("new") == WHOLE_SLOT
    assert blocking().room(means.of("new")) == 1


def test_a_slow_one_counts_at_once_fast_ones_must_prove_it():
    means = Means()
    means.note("t", 0.001)
    means.note("t", 1.0)
    assert means.of("t") == 1.0
    means.note("t", 0.001)
    assert 0.8 < means.of("t") < 1.0
    for _ in range(200):
        means.note("t", 0.001)
    assert means.of("t") == pytest.approx(0.001, rel=0.1)


def test_what_takes_nothing_is_not_free():
    means = Means()
    means.note("t", 0.0)
    assert means.of("t") > 0
    assert blocking().room(means.of("t")) == HAND_OVER_MOST


def test_as_many_go_over_as_fill_twenty_milliseconds():
    slot = blocking()
    assert slot.room(0.001) == 20
    for number in range(20):
        slot.put(number, 0.001)
    assert slot.room(0.001) == 0
    slot.remove(0)
    slot.remove(1)
    assert slot.room(0.001) in (1, 2)  # in floating point


def test_never_more_than_the_most():
    slot = blocking()
    for number in range(HAND_OVER_MOST):
        slot.put(number, 0.000_05)
    assert slot.room(0.000_05) == 0


@pytest.mark.parametrize("mean", [HAND_OVER_SECONDS, 5.0])
def test_nothing_waits_behind_a_long_or_unknown_task(mean: float):
    slot = blocking()
    slot.put(1, mean)
    assert slot.room(0.000_05) == 0


def test_a_long_task_does_not_go_behind_short_ones():
    slot = blocking()
    slot.put(1, 0.001)
    assert slot.room(HAND_OVER_SECONDS) == 0
    assert slot.room(0.001) == 19


def test_a_long_task_gets_an_empty_slot():
    assert blocking().room(100.0) == 1


def test_a_coroutine_worker_takes_as_many_as_it_has_places():
    slot = Slot("c1", Kind.COROUTINE, 3)
    slot.put(1, 100.0)
    assert slot.room(100.0) == 2
    slot.put(2, 0.1)
    slot.put(3, 0.1)
    assert slot.room(0.1) == 0


def test_a_stopping_slot_takes_nothing():
    slot = blocking()
    slot.stopping = True
    assert slot.room(0.001) == 0


def test_an_empty_slot_has_no_load_left_over():
    slot = blocking()
    for number in range(3):
        slot.put(number, 0.1 / 3)
    for number in range(3):
        slot.remove(number)
    slot.remove(99)
    assert slot.load == 0.0


def test_the_least_loaded_takes_the_next():
    first, second = blocking("b1"), blocking("b2")
    first.put(90, 0.010)
    placing = Placing([first, second])
    assert [placing.place(number, 0.004).name for number in range(4)] == ["b2", "b2", "b2", "b1"]


def test_coroutines_are_spread_by_number_not_by_time():
    first, second = Slot("c1", Kind.COROUTINE, 9), Slot("c2", Kind.COROUTINE, 9)
    first.put(90, 0.001)
    second.put(91, 50.0)
    second.put(92, 50.0)
    placing = Placing([first, second])
    assert [placing.place(number, 1.0).name for number in range(3)] == ["c1", "c1", "c2"]


def test_one_waits_behind_a_short_one_and_no_more():
    first, second = blocking("b1"), blocking("b2")
    placing = Placing([first, second])
    assert first.room(0.05) == 1
    assert first.room(0.05, ahead=True) == 2
    assert [placing.place(number, 0.05, ahead=True).name for number in range(4)] == ["b1", "b2", "b1", "b2"]
    assert placing.place(4, 0.05, ahead=True) is None
    assert first.room(0.05, ahead=True) == 0


@pytest.mark.parametrize(("running", "next_one"), [(0.05, 0.2), (0.2, 0.05), (WHOLE_SLOT, 0.05), (0.05, WHOLE_SLOT)])
def test_nothing_waits_behind_a_long_one_nor_a_long_one_behind_another(running: float, next_one: float):
    slot = blocking()
    slot.put(1, running)
    assert max(running, next_one) > AHEAD_SECONDS
    assert not slot.has_room(next_one, ahead=True)
    assert slot.room(next_one, ahead=True) == 0


def test_no_room_is_no_slot():
    slot = blocking()
    placing = Placing([slot])
    assert placing.place(1, 1.0) is slot
    assert placing.place(2, 1.0) is None
    assert Placing([]).place(3, 1.0) is None
