"""Circles in a submission are found and shown; what a retry has to wait for."""

import itertools
import random

import pytest

from gemflowd.core.graph import blocked_by, find_cycle, places, remaining_paths
from gemflowd.model.states import On, State


def circle(parents: list[list[int]]) -> list[int]:
    *pauses, found = find_cycle(parents)
    assert all(pause is None for pause in pauses)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "parents",
    [[], [[]], [[], [0], [0, 1]], [[1], [2], []], [[], [], [0, 1], [2], [2], [3, 4]]],
    ids=["nothing", "one", "triangle", "backwards", "diamond"],
)
def test_no_circle(parents: list[list[int]]):
    assert circle(parents) == []


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ([[0]], [0]),
        ([[1], [0]], [0, 1]),
        ([[], [0, 3], [1], [2]], [1, 3, 2]),
        ([[1], [2], [1], [0]], [1, 2]),  # 0 and 3 wait for the circle, they are not in it
    ],
    ids=["itself", "pair", "three", "with-a-tail"],
)
def test_a_circle_is_shown_each_waiting_for_the_next(parents: list[list[int]], expected: list[int]):
    found = circle(parents)
    assert sorted(found) == sorted(expected)
    for task, following in zip(found, [*found[1:], found[0]], strict=True):
        assert following in parents[task]


def test_one_edge_more_makes_a_circle_of_any_chain():
    rng = random.Random(1)
    order = list(range(500))
    rng.shuffle(order)
    parents: list[list[int]] = [[] for _ in order]
    for before, after in itertools.pairwise(order):
        parents[after].append(before)
    assert circle(parents) == []
    parents[order[100]].append(order[300])
    assert set(circle(parents)) == set(order[100:301])


def test_a_large_graph_is_looked_at_in_pieces():
    parents = [[]] + [[index - 1, max(0, index - 2)] for index in range(1, 20_000)]
    pieces = list(find_cycle(parents))
    assert pieces[-1] == []
    assert len(pieces) > 5
    assert set(map(str, pieces[:-1])) == {"None"}


def test_a_small_graph_is_done_in_one_piece():
    assert len(list(find_cycle([[], [0]]))) == 1


def test_a_retry_waits_for_what_has_not_ended():
    assert blocked_by([]) == 0
    assert blocked_by([(State.SUCCEEDED, On.SUCCESS), (State.RUNNING, On.SUCCESS), (State.BLOCKED, On.DONE)]) == 2


def test_a_retry_that_a_dependency_makes_impossible():
    assert blocked_by([(State.RUNNING, On.SUCCESS), (State.FAILED, On.SUCCESS)]) is None
    assert blocked_by([(State.FAILED, On.FAILURE)]) == 0


def test_the_longest_remaining_path():
    # 0 -> 1 -> 3, 0 -> 2 -> 3; 4 alone, and 10 s more behind it
    parents = [[], [0], [0], [1, 2], []]
    *pauses, found = remaining_paths([1.0, 2.0, 5.0, 1.0, 0.5], parents, [0.0, 0.0, 0.0, 0.0, 10.0])
    assert not any(pauses)
    assert found == [7.0, 3.0, 6.0, 1.0, 10.5]
    *_, alone = remaining_paths([1.0, 2.0, 5.0, 1.0, 0.5], parents)
    assert alone == [7.0, 3.0, 6.0, 1.0, 0.5]


def test_paths_of_many_dependencies_pause():
    parents = [list(range(task)) for task in range(200)]
    *pauses, found = remaining_paths([1.0] * 200, parents)
    assert len(pauses) >= 2 * 19_900 // 5_200
    assert found == [float(200 - task) for task in range(200)]


@pytest.mark.parametrize("count", [0, 1, 5_000, 12_001])
def test_places_by_the_longest_path_the_earlier_of_equal_ones_first(count: int):
    dice = random.Random(count)
    remaining = [float(dice.randrange(100)) for _ in range(count)]
    *pauses, found = places(remaining)
    assert found is not None
    assert len(pauses) >= 2 * (count // 5_000)
    order = sorted(range(count), key=lambda task: found[task])
    assert order == sorted(range(count), key=lambda task: -remaining[task])
