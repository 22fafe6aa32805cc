"""A handler is a function: it is tested as one."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_handlers.words import Count, Counted, count_words

from gemflowd.handlers.errors import Permanent
from gemflowd.worker.context import Context


def context() -> Context:
    return Context(
        task=1,
        flow=1,
        id=None,
        type="count-words",
        attempt=1,
        timeout=60.0,
        results={},
        settings={},
        emit=lambda stream, line: None,
    )


def test_words_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One two two")
    assert count_words(Count([str(path)], most=1), context()) == Counted(3, {"two": 2})


def test_a_file_that_is_not_there_is_not_tried_again() -> None:
    with pytest.raises(Permanent):
        count_words(Count(["/nowhere"]), context())
