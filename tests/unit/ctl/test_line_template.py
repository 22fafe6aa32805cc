"""Templates of tasks, filled from lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemflowctl.errors import InvalidInput
from gemflowctl.input.entry import Place
from gemflowctl.input.files import load
from gemflowctl.input.line_template import LineTemplate, read

PLACE = Place("in.jsonl", line=3)
LINE = {"n": 3, "q": "why?", "none": None, "a b": "spaced", "a.b": "dotted", "a": {"b": 1, "list": [{"c": "deep"}]}}


def data(template: Any, line: dict[str, Any] | None = None) -> Any:
    return LineTemplate({"type": "echo", "data": {"x": template}})(line or LINE, PLACE)["data"]["x"]


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ n }}", 3),
        ("{{n}}", 3),
        (" {{ n }}", " 3"),
        ("{{ none }}", None),
        ("{{ a }}", {"b": 1, "list": [{"c": "deep"}]}),
        ("{{ a b }} {{ a.b }}", "spaced dotted"),
        ("{{ a.list.0.c }}", "deep"),
        ("{{ n }}{{ none }}{{ a.list }}", '3null[{"c": "deep"}]'),
        ("{{ line.n }}", 3),
        ("{{ '{{' }} n }} }", "{{ n }} }"),
        (["{{ n }}", {"k": "{{ q }}"}], [3, {"k": "why?"}]),
        ({"{{ n }}": 1}, {"{{ n }}": 1}),  # keys stay
        ("{ n } {% n %}", "{ n } {% n %}"),
    ],
)
def test_placeholders(template: Any, value: Any) -> None:
    assert data(template) == value


def test_the_whole_line_unless_it_has_such_a_field() -> None:
    assert data("{{ line }}") == LINE
    assert data("{{ line }}", {"line": "mine"}) == "mine"


def test_what_is_put_in_is_not_looked_at_again_not_even_by_the_daemon() -> None:
    hostile = {"q": "{{ n }} {{ deps.a }}", "n": 1}
    assert data("{{ q }}", hostile) == data("{{ q }}{{ '' }}", hostile) == hostile["q"]
    waits = {"type": "echo", "data": {"x": "{{ q }}"}, "deps": ["a"]}
    assert LineTemplate(waits)(hostile, PLACE)["template"] is False
    with pytest.raises(InvalidInput, match="line 3: `template: true`"):
        LineTemplate({**waits, "template": True})(hostile, PLACE)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ m }}", "in.jsonl, line 3: there is no field `m`, which the template needs in `data.x`"),
        ("{{ a.c }}", "no field `a.c`"),
        ("{{ a.list.1 }}", "no field `a.list.1`"),
        ("{{ n | upper }}", r"no field `n \| upper`"),
        ("{{ n", "`data.x`: `{{` opens no placeholder"),
        ("{{ {n} }}", "opens no placeholder"),
        ("{{ }}", "names no field"),
        ([{"y": "{{ m }}"}], r"in `data.x\[0\].y`"),
    ],
)
def test_what_can_t_be_filled_is_named(template: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        data(template)


def test_the_id_is_the_template_s_the_key_or_the_line() -> None:
    echo: dict[str, Any] = {"type": "echo"}
    assert LineTemplate(echo)({"key": "k", "n": 1}, PLACE)["id"] == "k"
    assert LineTemplate(echo)({"n": 1}, PLACE)["id"] == 3
    assert LineTemplate(echo)({"n": 1}, Place("in.yaml", line=9, index=0))["id"] == 1
    assert LineTemplate(echo, "n")({"key": "k", "n": 1}, PLACE)["id"] == 1
    assert LineTemplate({**echo, "id": "x-{{ n }}"})({"key": "k", "n": 1}, PLACE)["id"] == "x-1"
    for line, says in (
        ({"key": "k"}, "no field `n`"),
        ({"n": 1.5}, "a string or an integer"),
        ({"n": "a/b"}, "`id` 'a/b'"),
    ):
        with pytest.raises(InvalidInput, match=f"line 3: .*{says}"):
            LineTemplate(echo, "n")(line, PLACE)
    with pytest.raises(InvalidInput, match="--id-field"):
        LineTemplate({**echo, "id": "x"}, "n")


def test_a_gemini_batch_line_is_a_template_too() -> None:
    template = LineTemplate({"request": {"contents": [{"parts": [{"text": "{{ q }}"}]}]}})
    task = template({"key": "k", "q": "why?"}, PLACE)
    assert task == {"type": "gemini", "id": "k", "data": {"contents": [{"parts": [{"text": "why?"}]}]}}


def test_templates_from_text_and_files(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"type": "echo", "data": {"x": "{{ n }}"}}')
    (tmp_path / "t.yaml").write_text('type: echo\ndata: {x: "{{ n }}"}\n')
    (tmp_path / "t.toml").write_text('type = "echo"\n[data]\nx = "{{ n }}"\n')
    for text in (
        (tmp_path / "t.json").read_text(),
        *(f"{at}{tmp_path}/t.{s}" for at in ("", "@") for s in ("json", "yaml", "toml")),
    ):
        assert read(text)({"n": 1}, PLACE)["data"] == {"x": 1}
    for text, says in (
        ("{", "not JSON"),
        ("{}", "one task"),
        (f"{tmp_path}/no.json", "can't be read"),
        ("nothing", "format"),
    ):
        with pytest.raises(InvalidInput, match=says):
            read(text)


def test_one_task_for_each_key_of_a_file(tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text('{"key": "a"}\n\n{"key": "b"}\n{"key": "a"}\n')
    with pytest.raises(InvalidInput, match=r"line 4: the id 'a' was used before .*line 1"):
        load([str(lines)], None, make=LineTemplate({"type": "echo"}))
