"""A log for a person: lines, and the pieces of an answer put together."""

from __future__ import annotations

from typing import Any

from gemflowctl.output.streamed import LogWriter


def shown(*lines: dict[str, Any], timestamps: bool = False) -> str:
    written: list[str] = []
    writer = LogWriter(written.append, timestamps=timestamps)
    for line in lines:
        writer.add({"at": 0.0, "attempt": 1, "stream": "text", **line})
    writer.close()
    writer.close()
    return "".join(written)


def test_pieces_are_one_text() -> None:
    assert shown({"text": "One "}, {"text": "two.\nThree"}) == "One two.\nThree\n"


def test_a_line_begins_on_one_of_its_own() -> None:
    broke = {"stream": "log", "text": "[broke off]"}
    assert shown({"text": "On"}, broke, {"text": "One", "attempt": 2}) == "On\n[broke off]\nOne\n"
    assert shown({"text": "On"}, {"text": "One", "attempt": 2}) == "On\nOne\n"


def test_of_a_flow_each_text_has_its_task() -> None:
    one, two = {"task": 1, "id": "a"}, {"task": 2, "id": None}
    assert shown({"text": "x", **one}, {"text": "y", **two}, {"text": "z", **two}) == "a: x\n2: yz\n"


def test_with_timestamps_pieces_are_lines() -> None:
    assert shown({"text": "x"}, {"text": "y"}, timestamps=True).count("\n") == 2


def test_nothing_moves_the_cursor() -> None:
    assert "\x1b" not in shown({"text": "\x1b[2J"})
