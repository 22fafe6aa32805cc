"""The log of one attempt: lines from pieces, limits, and what is told of what was dropped."""

from __future__ import annotations

from typing import Any

import pytest

from gemflowd.host import logs
from gemflowd.worker import wire
from gemflowd.worker.log import CUT, MAX_BYTES, MAX_LINE, MAX_LINES, Log
from gemflowd.worker.progress import EVERY, MOST, Progress


class Sent:
    def __init__(self) -> None:
        self.messages: list[list[Any]] = []
        self.log = Log(3, 2, self.messages.append)

    @property
    def lines(self) -> list[tuple[str, str]]:
        assert all(message[:3] == [wire.LOG, 3, 2] for message in self.messages)
        return [(message[4], message[5]) for message in self.messages]


def test_lines_are_put_together_from_pieces() -> None:
    sent = Sent()
    for piece in ("a", "b\nc", "", "\n\nd", "e"):
        sent.log.feed("stdout", piece)
    sent.log.feed("stdout", "raw ", "raw")
    sent.log.feed("stderr", "other\n")
    sent.log("log", "logged")
    assert sent.lines == [("stdout", "ab"), ("stdout", "c"), ("stdout", ""), ("stderr", "other"), ("log", "logged")]
    sent.log.close()
    assert sent.lines[5:] == [("stdout", "de"), ("stdout", "raw ")]
    sent.log("log", "late")
    sent.log.feed("stdout", "late\n")
    assert len(sent.lines) == 7


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        (["1 %\r", "2 %\r", "3 %\n"], "3 %"),
        (["dos\r\n"], "dos"),
        (["dos\r", "\n"], "dos"),
        (["1 %\r2 %\r"], "2 %"),
        (["x" * MAX_LINE, "\r", "end\n"], "end"),
    ],
)
def test_of_what_is_written_over_the_last_is_kept(pieces: list[str], line: str) -> None:
    sent = Sent()
    for piece in pieces:
        sent.log.feed("stdout", piece)
    sent.log.close()
    assert sent.lines == [("stdout", line)]


def test_a_long_line_is_cut_and_does_not_fill_the_memory() -> None:
    sent = Sent()
    for _ in range(100):
        sent.log.feed("stdout", "y" * MAX_LINE)
    assert sum(map(len, (sent.log._waiting or {}).values())) <= MAX_LINE + 1
    sent.log.feed("stdout", "\nnext\n")
    sent.log("log", "z" * 2 * MAX_LINE)
    assert sent.lines == [("stdout", "y" * MAX_LINE + CUT), ("stdout", "next"), ("log", "z" * MAX_LINE + CUT)]


@pytest.mark.parametrize("text", ["x", "y" * 1000])
def test_what_is_too_much_is_counted(text: str) -> None:
    sent = Sent()
    fit = min(MAX_LINES, MAX_BYTES // len(text))
    for _ in range(fit + 5):
        sent.log("log", text)
    sent.log.feed("stdout", "a\nb\nc")
    assert len(sent.lines) == fit + 1
    assert "the log is full" in sent.lines[-1][1]
    sent.log.close()
    assert sent.lines[-1] == ("log", "[7 lines more were not kept]")


def test_characters_that_can_not_be_stored_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", {"sk-very-secret"})
    sent = Sent()
    sent.log("log", "a\ud800b")
    sent.log.feed("stdout", "{'KEY': 'sk-very-secret'}\n")
    assert sent.lines == [("log", "a?b"), ("stdout", f"{{'KEY': '{logs.BLANK}'}}")]


def test_progress_is_told_now_and_then_and_the_last_always() -> None:
    sent: list[list[Any]] = []
    waiting: list[tuple[float, Any]] = []
    progress = Progress(1, 2, sent.append, lambda seconds, action: waiting.append((seconds, action)))
    for number in range(100):
        progress(number, 100, "m" * 1000)
    assert [message[4] for message in sent] == [0.0]
    (seconds, tell), *more = waiting
    assert more == []
    assert 0 < seconds <= EVERY
    tell()
    assert [message[4] for message in sent] == [0.0, 99.0]
    assert sent[1][:3] == [wire.PROGRESS, 1, 2]
    assert sent[1][5:] == [100.0, "m" * MOST]
    tell()
    progress.tell()
    assert len(sent) == 2, "nothing is told twice"
