"""Windows: what they know of a lane, what they leave to the store; and the choice between lanes."""

from dataclasses import replace

from helpers.turns import make_task

from gemflowd.core import lanes
from gemflowd.core.lanes import Window, key_of, pick
from gemflowd.model.attempt import Kind
from gemflowd.model.lane import Lane, LaneKey


def keys(*numbers: int) -> list[tuple[int, float, int]]:
    return [(0, 0.0, number) for number in numbers]


class Unlimited:
    def take(self, lane: int) -> bool:
        return True


class Few:
    """So many of each lane."""

    def __init__(self, **left: int) -> None:
        self.left = {int(name[1:]): count for name, count in left.items()}

    def take(self, lane: int) -> bool:
        self.left[lane] -= 1
        return self.left[lane] >= 0


def drain(window: Window) -> list[int]:
    found = []
    while window.head() is not None:
        found.append(window.pop()[2])
    return found


def test_the_key_is_priority_then_tag_then_number():
    order = [
        make_task(9, urgency=9, tag=5.0),
        make_task(4, priority=5, tag=1.0),
        make_task(5, priority=5, tag=1.0),
        make_task(1, priority=5, tag=2.0),
        make_task(0, urgency=-1, tag=0.0),
    ]
    lane = Lane(1, LaneKey("q", None, Kind.BLOCKING))
    assert sorted(order, key=lambda task: key_of(task, lane)) == order
    assert key_of(order[0], replace(lane, shift=2.0)) == (-9, 7.0, 9)


def test_a_new_window_must_be_filled_and_remembers_nothing():
    window = Window()
    window.push((0, 0.0, 1))
    assert window.must_fill
    assert window.head() is None


def test_filled_with_all_there_is_it_knows_everything():
    window = Window()
    window.fill(keys(1, 3), None)
    window.push((0, 0.0, 2))
    window.push((0, 0.0, 1_000))
    assert drain(window) == [1, 2, 3, 1_000]
    assert not window.must_fill, "empty, and the store has no more either"


def test_what_lies_behind_the_bound_is_left_to_the_store():
    window = Window()
    window.fill(keys(1, 3), (0, 0.0, 3))
    window.push((0, 0.0, 4))
    window.push((0, 0.0, 2))
    window.push((-1, 9.0, 99))  # a higher priority is before the bound
    assert drain(window) == [99, 1, 2, 3]
    assert window.must_fill


def test_an_empty_window_with_a_bound_still_takes_what_comes_before_it():
    window = Window()
    window.fill([], (0, 0.0, 10))
    window.push((0, 0.0, 5))
    assert not window.must_fill
    assert drain(window) == [5]
    assert window.must_fill


def test_a_window_does_not_grow_without_end(monkeypatch):
    monkeypatch.setattr(lanes, "WINDOW", 4)
    window = Window()
    window.fill([], None)
    for number in range(20, 3, -1):  # one more than four times the window
        window.push((0, 0.0, number))
    assert len(window._heap) == 4
    assert drain(window) == [4, 5, 6, 7]
    assert window.must_fill, "the rest is in the store"


def test_pick_merges_lanes_in_order():
    windows = {1: Window(), 2: Window()}
    windows[1].fill(keys(1, 4, 5), None)
    windows[2].fill(keys(2, 3, 6), None)
    assert pick(windows, [1, 2], 5, Unlimited()) == [
        (1, keys(1)[0]),
        (2, keys(2)[0]),
        (2, keys(3)[0]),
        (1, keys(4)[0]),
        (1, keys(5)[0]),
    ]
    assert drain(windows[2]) == [6]


def test_pick_looks_only_at_the_lanes_that_may_run():
    windows = {1: Window(), 2: Window()}
    windows[1].fill(keys(1), None)
    windows[2].fill(keys(2), None)
    assert [key[2] for _, key in pick(windows, [2], 9, Unlimited())] == [2]
    assert pick(windows, [], 9, Unlimited()) == []


def test_pick_stops_where_the_store_may_have_something_earlier():
    windows = {1: Window(), 2: Window()}
    windows[1].fill(keys(1), (0, 0.0, 1))  # the store has more
    windows[2].fill(keys(5), None)
    assert [key[2] for _, key in pick(windows, [1, 2], 9, Unlimited())] == [1], "2, 3 or 4 may be in lane 1"
    assert windows[1].must_fill


def test_pick_goes_on_when_a_lane_is_known_to_be_empty():
    windows = {1: Window(), 2: Window()}
    windows[1].fill(keys(1), None)
    windows[2].fill(keys(5), None)
    assert [key[2] for _, key in pick(windows, [1, 2], 9, Unlimited())] == [1, 5]


def test_pick_leaves_alone_what_is_over_its_quota():
    windows = {1: Window(), 2: Window()}
    windows[1].fill(keys(1, 2, 3), None)
    windows[2].fill(keys(5, 6), None)
    assert [key[2] for _, key in pick(windows, [1, 2], 9, Few(_1=2, _2=9))] == [1, 2, 5, 6]
    assert drain(windows[1]) == [3]
