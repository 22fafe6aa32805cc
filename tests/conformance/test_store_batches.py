"""Batches of model calls, over every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gemflowd.model.batch import Batch, BatchState
from gemflowd.store.sqlite import SqliteStore
from gemflowd.store.tables import BatchItem


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "gemflow.db")
    yield store
    store.close()


def test_a_batch_from_its_first_question_to_its_end(store: SqliteStore) -> None:
    table = store.batches
    assert table.open_for("m", 0) is None
    batch = Batch(7, "uuid", "m", 0)
    table.put(batch)
    assert table.open_for("m", 0) == batch
    assert table.open_for("m", 60) is None, "others have another deadline"
    for task in (3, 1, 2):
        table.add(task, 7, b"{}")
    assert table.item(2) == BatchItem(7, False)
    assert table.item(9) is None
    batch.state, batch.name, batch.items = BatchState.SENT, "batches/1", 3
    table.put(batch)
    assert table.get(7) == batch
    assert table.open_for("m", 0) is None
    assert table.carriers() == {7}
    table.answer(7, [(2, b"first"), (9, b"of nobody")])
    table.answer(7, [(2, b"second")])
    assert table.item(2) == BatchItem(7, True)
    assert store._db.execute("SELECT answer FROM batch_item WHERE task = 2").get == b"first"
    assert table.unanswered(7, 0, 10) == [1, 3]
    assert table.unanswered(7, 1, 10) == [3]
    assert table.unanswered(7, 0, 1) == [1]
    assert not table.waited_for(7), "there are no such tasks"
    table.remove([1])
    table.remove([])
    assert table.item(1) is None
    batch.state, batch.reason = BatchState.OVER, "deadline"
    table.put(batch)
    assert table.carriers() == set()
    table.forget([7, 2, 3])
    assert (table.get(7), table.item(3)) == (None, None)
