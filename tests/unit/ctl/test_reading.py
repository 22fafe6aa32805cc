"""Task files as bytes, and JSON lines while they are read."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemflowctl.errors import InvalidInput
from gemflowctl.input import reading
from gemflowctl.input.entry import Document
from gemflowctl.input.files import load
from gemflowctl.input.reading import Source
from gemflowctl.input.task_lines import TaskLines
from gemflowctl.pouring import cut


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as large is small here."""
    monkeypatch.setattr("gemflowctl.input.files.WHOLE_BYTES", 100)
    monkeypatch.setattr(reading, "_READ", 7)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BufferedWriter]:
    """What is written here comes from the standard input."""
    read, write = os.pipe()
    with os.fdopen(read) as standard_input, os.fdopen(write, "wb") as writer:
        monkeypatch.setattr(sys, "stdin", standard_input)
        yield writer


def lines(file: Path, data: bytes) -> list[tuple[int, str]]:
    file.write_bytes(data)
    source = Source(str(file))
    try:
        return [found for found in source.lines() if found]
    finally:
        source.close()


def test_lines_with_their_numbers(tmp_path: Path) -> None:
    file = tmp_path / "x"
    assert lines(file, b"") == []
    assert [(number, line.strip()) for number, line in lines(file, b"\xef\xbb\xbfa\n\n b \r\nc")] == [
        (1, "a"),
        (3, "b"),
        (4, "c"),
    ]
    with pytest.raises(InvalidInput, match="line 2: not UTF-8"):
        lines(file, b"a\n\xff\n")


@pytest.mark.parametrize("ahead", [0, 1, 2, 5, 8, 100])
def test_looking_ahead_loses_nothing(tmp_path: Path, ahead: int) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"one\n\ntwo\nthree\n")
    for read_on in (lambda s: [found[0] for found in s.lines() if found], lambda s: s.whole().count("\n")):
        source = Source(str(file))
        assert source.look(ahead) == b"one\n\ntwo\nthree\n"[:ahead]
        assert source.first_lines().startswith(b"one")
        assert read_on(source) in ([1, 3, 4], 4)
        assert source.read == 15
        source.close()


def test_what_is_small_is_read_and_checked_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"id": "a", "type": "echo"}\n')
    assert isinstance(load([str(file)], None), Document)
    file.write_text('{"type": "echo", "deps": ["b"]}\n')
    with pytest.raises(InvalidInput, match="no task has that id"):
        load([str(file)], None)
    assert isinstance(load([str(file)], None, grows=True), Document)


def test_what_is_large_is_read_while_it_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"type": "echo"}\n\n' * 9 + '{"type": }\n')
    found = load([str(file)], None)
    assert isinstance(found, TaskLines)
    assert found.size == file.stat().st_size
    tasks = iter(found)
    assert [next(tasks) for _ in range(9)] == [{"type": "echo"}] * 9
    assert str(found.place(8)) == f"{file}, line 17"
    assert found.place(9) is None
    with pytest.raises(InvalidInput, match=r"line 19: not JSON"):
        next(tasks)
    found.close()
    with pytest.raises(InvalidInput, match="line 19"):
        load([str(file)], None, whole=True)


def test_other_formats_are_never_streamed(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("[" + ", ".join(['{"type": "echo"}'] * 20) + "]")
    found = load([str(file)], None)
    assert isinstance(found, Document)
    assert len(found.entries) == 20


def test_a_short_pipe_is_read_as_a_whole(pipe: io.BufferedWriter) -> None:
    pipe.write(b'{"id": "b", "type": "echo", "deps": ["a"]}\n{"id": "a", "type": "echo"}')
    pipe.close()
    found = load(["-"], None)
    assert isinstance(found, Document)
    assert len(found.entries) == 2


def test_a_long_pipe_is_streamed_from_its_first_line(pipe: io.BufferedWriter) -> None:
    text = b'\n{"type": "echo"}\n' * 20
    pipe.write(text)
    pipe.close()
    found = load(["-"], None)
    assert isinstance(found, TaskLines)
    assert found.size is None
    assert len(list(found)) == 20
    assert found.read == len(text)


def test_a_stream_does_not_wait_for_more_of_a_pipe(pipe: io.BufferedWriter) -> None:
    pipe.write(b'{"type": "echo"}\n{"type"')
    pipe.flush()
    found = load(["-"], None, eager=True)  # would block if it waited for the end
    assert isinstance(found, TaskLines)
    tasks = iter(found)
    assert next(tasks) == {"type": "echo"}
    assert next(tasks) is None  # nothing more for now
    threading.Thread(target=lambda: (pipe.write(b': "spin"}\n'), pipe.close())).start()
    assert list(tasks) == [{"type": "spin"}]


def test_the_look_of_a_long_pipe_decides(pipe: io.BufferedWriter) -> None:
    pipe.write(b"# tasks\n" + b"- type: echo\n" * 20)
    pipe.close()
    found = load(["-"], None)
    assert isinstance(found, Document)
    assert len(found.entries) == 20


def test_chunks_are_given_out_as_soon_as_another_follows() -> None:
    taken = 0

    def tasks() -> Iterator[dict[str, object]]:
        nonlocal taken
        for _ in range(5):
            taken += 1
            yield {"type": "echo"}

    chunks = cut(tasks(), 10, most=2)
    first = next(chunks)
    assert (first.start, len(first.tasks), first.last, taken) == (10, 2, False, 3)
    assert [(chunk.start, len(chunk.tasks), chunk.last) for chunk in chunks] == [(12, 2, False), (14, 1, True)]
    assert [(chunk.start, chunk.tasks, chunk.last) for chunk in cut(iter([]), 10)] == [(10, [], True)]
    task = {"type": "echo"}
    assert [(len(chunk.tasks), chunk.paused, chunk.last) for chunk in cut(iter([None, task, None, None, task]), 0)] == [
        (1, True, False),
        (1, False, True),
    ]
    with pytest.raises(InvalidInput, match="no task"):
        list(cut(iter([]), 0))
    sizes = [len(chunk.tasks) for chunk in cut(iter([{"data": {"x": "y" * 60}}] * 3), 0, size=100)]
    assert sizes == [1, 1, 1]
