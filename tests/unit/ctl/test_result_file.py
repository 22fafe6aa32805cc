"""Files of results that are gone on with after a break, and lines in the form of Google's Batch API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from gemflowctl.errors import InvalidInput
from gemflowctl.output.gemini_batch import to_line
from gemflowctl.output.result_file import ResumedFile


def begin(path: Path, identity: str = "f7") -> ResumedFile:
    return ResumedFile(path, identity, lambda line: line["key"])


def lines(path: Path) -> list[Any]:
    return [json.loads(line)["key"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "torn", [b"", b'{"key"', b'{"key": 2}', b"\0\0\0\n", b'[1]\n{"key": 2}\n', '{"key": "é'.encode()[:-1]]
)
def test_it_goes_on_behind_the_last_whole_line(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "out.jsonl"
    with begin(path) as file:
        file.write({"key": 0})
        file.write({"key": 1})
        part = file.part
    assert not path.exists()
    with part.open("ab") as damaged:
        damaged.write(torn)
    with begin(path) as file:
        assert (file.count, file.last) == (2, {"key": 1})
        for key in (1, 2, 0, 3):
            file.write({"key": key})
        file.finish()
        assert file.count == 4
    assert lines(path) == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_begun_for_other_lines_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with begin(path, "f7") as file:
        file.write({"key": 7})
        other = file.part
    with begin(path, "f8") as file:
        assert file.count == 0
        file.write({"key": 8})
        assert path.read_text() == "old"
        file.finish()
    assert lines(path) == [8]
    assert lines(other) == [7]


def test_only_one_writes_it_and_nothing_is_left_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with begin(path), pytest.raises(click.ClickException, match="another gemflowctl"):
        begin(path)
    assert list(tmp_path.iterdir()) == []
    with begin(path) as file:
        file.write({"key": 1})
        file.drop()
    assert list(tmp_path.iterdir()) == []
    with begin(path) as file:
        file.finish()
    assert path.read_text() == ""
    with pytest.raises(click.ClickException, match="can't be written"):
        begin(tmp_path / "no" / "out.jsonl")


def result(**fields: Any) -> dict[str, Any]:
    return {"id": "k", "number": 4, "type": "gemini", "state": "succeeded", "ok": True, **fields}


def test_a_response() -> None:
    usage = {"prompt_tokens": 3, "cached_tokens": 0, "output_tokens": 0, "thought_tokens": 2, "total_tokens": 5}
    answer = {"text": "yes", "finish_reason": "STOP", "model": "m-1", "usage": usage}
    assert to_line(result(result=answer)) == {
        "key": "k",
        "response": {
            "candidates": [
                {"content": {"parts": [{"text": "yes"}], "role": "model"}, "index": 0, "finishReason": "STOP"}
            ],
            "usageMetadata": {
                "promptTokenCount": 3,
                "candidatesTokenCount": 0,
                "thoughtsTokenCount": 2,
                "totalTokenCount": 5,
            },
            "modelVersion": "m-1",
        },
    }
    calls = {**answer, "text": "", "function_calls": [{"name": "f", "args": {}}]}
    parts = to_line(result(id=None, result=calls))
    assert parts["key"] == "task-4"
    assert parts["response"]["candidates"][0]["content"]["parts"] == [{"functionCall": {"name": "f", "args": {}}}]


@pytest.mark.parametrize(
    ("state", "error", "code", "reason"),
    [
        ("failed", {"class": "permanent", "code": "bad_request", "message": "no"}, 3, "BAD_REQUEST"),
        ("failed", {"class": "timeout", "code": "", "message": "no"}, 4, "TIMEOUT"),
        ("failed", {"class": "permanent", "code": "blocked_safety", "message": "no"}, 2, "BLOCKED_SAFETY"),
        ("cancelled", None, 1, "CANCELLED"),
    ],
)
def test_an_error_is_a_status_with_our_own_code(state: str, error: Any, code: int, reason: str) -> None:
    found = to_line(result(ok=False, state=state, error=error))["error"]
    assert (found["code"], found["message"]) == (code, "no" if error else "the task was cancelled")
    assert (found["details"][0]["reason"], found["details"][0]["domain"]) == (reason, "gemflow")


def test_what_is_no_call_of_a_model_has_no_such_form() -> None:
    with pytest.raises(InvalidInput, match="task 4 is of type echo"):
        to_line(result(type="echo", result={"x": 1}))
