"""References and dependencies as they are written."""

from __future__ import annotations

import pytest

from gemflowctl.errors import InvalidInput
from gemflowctl.refs import check, check_all, dependencies


@pytest.mark.parametrize("text", ["42", "42-48", "42-42", "f7", "f7/research-a", "f7/1", "f7/a.b_c-d"])
def test_forms(text: str) -> None:
    assert check(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "x", "f", "f7/", "f7/a b", "48-42", "-1", "4 2", "f7/" + "a" * 129, "99999999999999999999", "٤٢", "f7\n/a"],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        check(text)


def test_one_or_several() -> None:
    assert check_all(42) == ["42"]
    assert check_all("f7") == ["f7"]
    assert check_all([42, "f7", " 3-4 "]) == ["42", "f7", "3-4"]
    with pytest.raises(InvalidInput):
        check_all([])


def test_dependencies() -> None:
    assert dependencies("42") == [{"number": 42}]
    assert dependencies("3-4:failure") == [{"number": 3, "on": "failure"}, {"number": 4, "on": "failure"}]
    assert dependencies("f7/a:done") == [{"flow": 7, "id": "a", "on": "done"}]


@pytest.mark.parametrize("text", ["f7", "42:never", "42:", "x:done", "1-99999"])
def test_what_is_no_dependency(text: str) -> None:
    with pytest.raises(InvalidInput):
        dependencies(text)
