"""What is written: harmless text, JSON, tables, times, results."""

from __future__ import annotations

import json as stdlib_json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemflowctl.errors import TaskFailed
from gemflowctl.output import json, plain, table
from gemflowctl.results import from_line, success
from gemflowctl.times import format_bytes, format_seconds, parse_duration, parse_moment, parse_since


def test_text_keeps_its_lines_and_loses_its_controls() -> None:
    assert plain.text("a\tb\nc\r\x1b[2J\x7f\x9b\u202e") == "a\tb\nc\\r\\x1b[2J\\x7f\\x9b\\u202e"
    assert plain.line("a\tb\nc") == "a\\tb\\nc"
    assert plain.line("grüße 🙂") == "grüße 🙂"
    assert plain.line("x" * 10, 5) == "xxxx…"


@given(st.text(st.characters(codec=None)))  # surrogates too
def test_no_control_character_gets_through(text: str) -> None:
    for shown in (plain.line(text), json.dumps(text)):
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
        shown.encode()
    assert stdlib_json.loads(json.dumps(text)) == text


def test_json_of_bytes() -> None:
    assert json.dumps({"x": b"ab"}) == '{"x": {"$bytes": "YWI="}}'


def test_a_plain_table() -> None:
    assert table.plain_table(["a", "number"], [["x\n", None], ["longer", 5]]) == "A       NUMBER\nx\\n     -\nlonger  5"


def test_a_drawn_table_does_not_read_markup() -> None:
    drawn = table.drawn_table(["a", "state"], [["[red]x\x1b", "failed"]], width=40, color=False)
    assert "[red]x\\x1b" in drawn
    assert "\x1b" not in drawn
    assert "\x1b[31mfailed" in table.drawn_table(["a", "state"], [["x", "failed"]], width=40, color=True)


def test_durations() -> None:
    assert [parse_duration(text) for text in ("90", "90s", "1.5m", "2h", "1d", "200ms", "3 min")] == [
        90,
        90,
        90,
        7200,
        86400,
        0.2,
        180,
    ]
    for text in ("", "x", "-1", "1y", "1h30m", "nan"):
        with pytest.raises(ValueError):
            parse_duration(text)
    assert [format_seconds(value) for value in (None, 0.0354, 1.25, 59.9, 185, 7800, 360000)] == [
        "-",
        "35 ms",
        "1.2 s",
        "59.9 s",
        "3m05s",
        "2h10m",
        "4d04h",
    ]
    assert [format_bytes(value) for value in (None, 512, 43_100_000, 2_000_000_000)] == [
        "-",
        "512 B",
        "43.1 MB",
        "2.0 GB",
    ]


def test_moments() -> None:
    assert parse_moment("2030-01-01T00:00:00Z") == parse_moment(1893456000) == 1893456000.0
    assert parse_since("1h", 7200.0) == 3600.0
    for wrong in ("2030-01-01T00:00:00", "2030-01-01", "soon", float("nan"), True, None):
        with pytest.raises(ValueError):
            parse_moment(wrong)


def test_results() -> None:
    good = from_line({"number": 1, "type": "echo", "state": "succeeded", "ok": True, "result": 5, "new_field": 1})
    assert (good.ok, good.unwrap(), good.error) == (True, 5, None)
    bad = from_line(
        {"number": 1, "state": "failed", "ok": False, "error": {"class": "timeout", "code": "c", "message": "late"}}
    )
    with pytest.raises(TaskFailed, match="task 1 failed: late") as caught:
        bad.unwrap()
    assert caught.value.result is bad
    with pytest.raises(TaskFailed, match="task 1 skipped: skipped"):
        from_line({"number": 1, "state": "skipped", "ok": False}).unwrap()


def test_success() -> None:
    assert success({"succeeded": 1, "skipped": 3})
    assert not success({"skipped": 3})
    assert not success({"succeeded": 3, "quarantined": 1})
    assert not success({})
