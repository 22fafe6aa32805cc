"""What every store tells of a flow for its critical path: `store.base.PathTable`.

Does not cover: what is made of it (tests/unit/engine/test_ordering.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.turns import make_flow, make_task, make_turn

from gemflowd.core.turn import Chunk
from gemflowd.model.states import On
from gemflowd.model.task import Dependency, Ordering
from gemflowd.store.sqlite import SqliteStore

Kind = Callable[..., Any]
STORES: dict[str, Kind] = {"sqlite": SqliteStore}


@pytest.fixture(params=STORES.values(), ids=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    opened = request.param(tmp_path / "gemflow.db")
    turn = make_turn()
    turn.new_flows = [
        make_flow(1, ordering=Ordering.WANTED),
        make_flow(2, ordering=Ordering.NOW),
        make_flow(3, ordering=Ordering.NOW),
    ]
    turn.new_tasks = [
        (make_task(number, flow=2, type=f"t{number}", estimate=None if number == 2 else number / 2), b"")
        for number in range(1, 6)
    ]
    pairs = [(1, 2), (1, 3), (2, 3), (2, 5), (4, 5)]
    turn.dependencies = [Dependency(parent, child, On.DONE, parent == 1) for parent, child in pairs]
    turn.chunks = [Chunk(2, start, count, first, start == 5, b"") for start, count, first in CHUNKS]
    opened.begin()
    opened.write(turn)
    opened.commit()
    yield opened
    opened.close()


CHUNKS = [(0, 2, 1), (2, 1, 3), (3, 2, 4), (5, 0, 0)]


def test_the_first_flow_that_is_to_be_put_in_order(store: Any) -> None:
    assert store.paths.next_flow() == 2
    (flow,) = store.flows([2])
    flow.ordering = Ordering.NONE
    turn = make_turn()
    turn.changed_flows = {2: flow}
    store.begin()
    store.write(turn)
    store.commit()
    assert store.paths.next_flow() == 3
    assert [flow.ordering for flow in store.flows([1, 2, 3])] == [Ordering.WANTED, Ordering.NONE, Ordering.NOW]


def test_chunks_that_have_tasks(store: Any) -> None:
    assert store.paths.chunks(2, -1, 2) == [(0, 2, 1), (2, 1, 3)]
    assert store.paths.chunks(2, 2, 2) == [(3, 2, 4)]
    assert store.paths.chunks(1, -1, 9) == []


def test_types_and_estimates(store: Any) -> None:
    assert store.paths.estimates(1, 3) == [(1, "t1", 0.5), (2, "t2", None), (3, "t3", 1.5)]
    assert [task.estimate for task in store.tasks([2, 5])] == [None, 2.5]


def test_dependencies_page_by_page_settled_or_not(store: Any) -> None:
    assert store.paths.edges((1, 0), 3, 3) == [(1, 2), (1, 3), (2, 3)]
    assert store.paths.edges((2, 3), 3, 3) == [(2, 5)]
    assert store.paths.edges((2, 3), 5, 3) == [(2, 5), (4, 5)]
