"""Cutting a list of tasks into requests, and the order that this needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemflowctl import chunks
from gemflowctl.errors import InvalidInput
from gemflowctl.order import dependencies_first


def spans(sizes: list[int], start: int = 0, **limits: int) -> list[tuple[int, int]]:
    return [(chunk.start, chunk.stop) for chunk in chunks.cut(sizes, start, **limits)]


def test_by_count_and_by_size() -> None:
    assert spans([1] * 5, tasks=2) == [(0, 2), (2, 4), (4, 5)]
    assert spans([4, 4, 4, 20, 1], size=10) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert spans([1] * 5, 3, tasks=2) == [(3, 5)]
    assert spans([]) == []


@given(st.lists(st.integers(1, 50)), st.integers(1, 5), st.integers(1, 100))
def test_chunks_cover_everything_within_the_limits(sizes: list[int], tasks: int, size: int) -> None:
    found = list(chunks.cut(sizes, tasks=tasks, size=size))
    assert [index for chunk in found for index in range(chunk.start, chunk.stop)] == list(range(len(sizes)))
    for chunk in found:
        assert chunk.size == sum(sizes[chunk.start : chunk.stop])
        assert chunk.stop - chunk.start == 1 or (chunk.stop - chunk.start <= tasks and chunk.size <= size)


def test_what_cannot_be_sent_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        chunks.sizes([{"type": "echo"}, {"type": "echo", "data": {"x": {1, 2}}}])
    assert caught.value.path == "tasks[1].data.x"


def tasks(**deps: list[object]) -> list[dict[str, object]]:
    return [{"id": name, "deps": these} for name, these in deps.items()]


def test_what_is_in_order_stays() -> None:
    assert dependencies_first(tasks(a=[], b=["a"], c=["b", {"id": "a", "on": "done"}])) == [0, 1, 2]


def test_what_is_needed_comes_just_before() -> None:
    assert dependencies_first(tasks(a=["d"], b=[], c=[], d=["e"], e=[])) == [4, 3, 0, 1, 2]


def test_integers_and_strings_are_the_same_name() -> None:
    assert dependencies_first([{"deps": ["2"]}, {"id": 2}]) == [1, 0]


def test_others_flows_and_unknown_names_do_not_matter() -> None:
    assert dependencies_first(tasks(a=["nobody", {"flow": 3, "id": "b"}, {"number": 9}], b=[])) == [0, 1]


def test_a_circle_is_told() -> None:
    with pytest.raises(InvalidInput, match="a → b → c → a"):
        dependencies_first(tasks(x=[], a=["b"], b=["c"], c=["a"]))
    with pytest.raises(InvalidInput, match="a → a"):
        dependencies_first(tasks(a=["a"]))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_each_comes_after_what_it_needs(edges: list[tuple[int, int]]) -> None:
    needs: dict[int, list[int]] = {index: [] for index in range(31)}
    for low, high in ((min(edge), max(edge)) for edge in edges if edge[0] != edge[1]):
        needs[low].append(high)
    order = dependencies_first([{"id": index, "deps": these} for index, these in needs.items()])
    place = {index: position for position, index in enumerate(order)}
    assert sorted(order) == list(range(31))
    assert all(place[need] < place[index] for index, these in needs.items() for need in these)


def test_a_chain_of_a_hundred_thousand_backwards() -> None:
    count = 100_000
    chain = [{"id": index, "deps": [index + 1] if index + 1 < count else []} for index in range(count)]
    assert dependencies_first(chain) == list(range(count - 1, -1, -1))
