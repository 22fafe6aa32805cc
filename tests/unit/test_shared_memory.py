"""What is read of the shared memory: single values, pages by prefix, namespaces; nothing that has expired."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from gemflowd.model.errors import Refused
from gemflowd.store import shared_memory
from gemflowd.store.shared_memory import Moment, Page
from gemflowd.store.sqlite import SqliteStore
from gemflowd.store.tables import NewValue

NOW = Moment(1_000.0, 5_000.0)


@pytest.fixture
def store() -> Iterator[SqliteStore]:
    store = SqliteStore(Path(":memory:"))
    yield store
    store.close()


def put(store: SqliteStore, key: str, value: Any = 1, namespace: str = "n", until: float | None = None) -> None:
    store.values.put(namespace, key, NewValue(msgpack.packb(value), 7, 4_000.0, until, None, None, None))


def listed(store: SqliteStore, prefix: str = "", after: str = "", limit: int = 100, values: bool = False) -> Any:
    return shared_memory.listed(store._db, Page("n", prefix, after, limit, values), NOW)


def names(page: dict[str, Any]) -> list[str]:
    return [item["key"] for item in page["items"]]


def test_one_value(store: SqliteStore) -> None:
    put(store, "a", {"x": [1, None]}, until=1_010.0)
    store.values.put("n", "b", NewValue(b"\x01", 8, 4_000.0, None, 3, 2, None))
    assert shared_memory.get(store._db, "n", "a", NOW) == {
        "namespace": "n",
        "key": "a",
        "value": {"x": [1, None]},
        "version": 7,
        "updated": 4_000.0,
        "expires": 5_010.0,
        "writer": {"client": None},
    }
    assert shared_memory.get(store._db, "n", "b", NOW)["writer"] == {"task": 3, "attempt": 2}
    with pytest.raises(Refused) as refused:
        shared_memory.get(store._db, "n", "c", NOW)
    assert (refused.value.code, refused.value.path) == ("not_found", "key")


def test_what_has_expired_is_nowhere(store: SqliteStore) -> None:
    put(store, "a", until=1_000.0)
    put(store, "b", until=1_000.1)
    with pytest.raises(Refused):
        shared_memory.get(store._db, "n", "a", NOW)
    assert names(listed(store)) == ["b"]
    assert shared_memory.namespaces(store._db, NOW) == {"namespaces": [{"namespace": "n", "keys": 1, "bytes": 1}]}
    later = Moment(1_000.1, 0.0)
    assert shared_memory.namespaces(store._db, later) == {"namespaces": []}


@pytest.mark.parametrize("last", ["a", "\u007e", "é", "\ud7ff", "\ue000", "\uffff", "\U0010fffe", "\U0010ffff"])
def test_a_prefix_finds_what_begins_with_it_and_nothing_else(store: SqliteStore, last: str) -> None:
    prefix = "p" + last
    inside = sorted([prefix, prefix + "!", prefix + "z", prefix + "\ue000", prefix + "\U0010ffff"])
    for key in [
        *inside,
        "p",
        "q",
        "o",
        "p" + "A",
        "p" + last[:-1] + chr(max(33, ord(last) - 1) if last != "\ue000" else 0xD7FF),
    ]:
        put(store, key)
    assert names(listed(store, prefix)) == inside


def test_pages_follow_each_other(store: SqliteStore) -> None:
    for number in range(7):
        put(store, f"k{number}", number)
    put(store, "other")
    seen, after = [], ""
    while after is not None:
        page = listed(store, "k", after, limit=3, values=True)
        seen += [(item["key"], item["value"], item["bytes"]) for item in page["items"]]
        after = page["next"]
    assert seen == [(f"k{number}", number, 1) for number in range(7)]
    assert "value" not in listed(store)["items"][0]
    assert names(listed(store, "k", "a", limit=1)) == ["k0"]
    assert names(listed(store, "k", "l")) == []


def test_a_page_with_values_ends_where_it_is_full(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "PAGE_BYTES", 2_500)
    for number in range(5):
        put(store, f"k{number}", "x" * 1_000)
    put(store, "k0", "x" * 9_000)
    assert names(listed(store, values=True)) == ["k0"], "one at least"
    page = listed(store, after="k0", values=True)
    assert (names(page), page["next"]) == (["k1", "k2"], "k2")
    assert len(names(listed(store))) == 5


def test_namespaces_with_their_keys_and_bytes(store: SqliteStore) -> None:
    for namespace, value in (("b", "x" * 10), ("a", 1), ("b", 1)):
        put(store, f"{value}", value, namespace=namespace)
    found = shared_memory.namespaces(store._db, NOW)["namespaces"]
    assert found == [{"namespace": "a", "keys": 1, "bytes": 1}, {"namespace": "b", "keys": 2, "bytes": 12}]
