"""Task files: four formats, three kinds of tasks, and errors with their lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gemflowctl.errors import InvalidInput
from gemflowctl.input.check import check_together
from gemflowctl.input.formats import form_of, parse, sniff

LIST = [
    {"id": 1, "task": "one", "agent": "researcher"},
    {"id": "b", "type": "echo", "deps": [1, {"id": 1, "on": "done"}]},
]
YAML = """
# a flow
name: report
tasks:
  - id: 1
    task: one
    agent: researcher
  - {id: b, type: echo, deps: [1, {id: 1, on: done}]}
"""
TOML = """
name = "report"
[[tasks]]
id = 1
task = "one"
agent = "researcher"
[[tasks]]
id = "b"
type = "echo"
deps = [1, {id = 1, on = "done"}]
"""


def tasks(text: str, file: str = "-", form: str | None = None) -> list[dict[str, Any]]:
    return [entry.task for entry in parse(text, file, form).entries]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("\n".join(map(json.dumps, LIST)), "jsonl"),
        (json.dumps(LIST[0]), "jsonl"),
        (json.dumps(LIST), "json"),
        (json.dumps(LIST, indent=2), "json"),
        (json.dumps({"tasks": LIST}), "json"),
        (json.dumps({"name": "report", "tasks": LIST}, indent=1), "json"),
        (YAML, "yaml"),
        ("- type: echo\n", "yaml"),
        (TOML, "toml"),
        ("[[tasks]]\ntype = 'echo'\n", "toml"),
        ("", "jsonl"),
    ],
)
def test_formats_are_told_by_their_look(text: str, form: str) -> None:
    assert sniff(text) == form
    parse(text, "-")


def test_all_formats_mean_the_same() -> None:
    for text in ("\n".join(map(json.dumps, LIST)), json.dumps(LIST), YAML, TOML):
        assert tasks(text) == LIST
    for text in (YAML, TOML):
        assert parse(text, "-").name == "report"


def test_the_suffix_decides() -> None:
    assert [form_of(f"x{suffix}") for suffix in (".jsonl", ".json", ".yaml", ".yml", ".TOML")] == [
        "jsonl",
        "json",
        "yaml",
        "yaml",
        "toml",
    ]
    with pytest.raises(InvalidInput, match="--format"):
        form_of("tasks.txt")


def test_yaml_words_stay_words() -> None:
    (task,) = tasks("- {type: echo, data: {on: yes, off: no, t: true, n: null, x: 1}}\n")
    assert task["data"] == {"on": "yes", "off": "no", "t": True, "n": None, "x": 1}


def test_moments() -> None:
    assert tasks("- {type: echo, run_at: 2030-01-01T00:00:00Z}\n")[0]["run_at"] == 1893456000.0
    assert tasks('{"type": "echo", "run_at": "2030-01-01T01:00:00+01:00"}')[0]["run_at"] == 1893456000.0
    assert tasks("[[tasks]]\ntype = 'echo'\nrun_at = 2030-01-01T00:00:00Z")[0]["run_at"] == 1893456000.0
    assert tasks('{"type": "echo", "expires": "2030-01-01T00:00:00Z"}')[0]["expires"] == 1893456000.0
    assert tasks('{"type": "echo", "expires": 5}')[0]["expires"] == 5.0


def test_every_field_of_a_task() -> None:
    task = {
        "type": "echo",
        "data": {},
        "id": "a",
        "priority": 1,
        "deps": [{"number": 1}],
        "queue": "q",
        "run_at": 1.5,
        "expires_in": 60,
        "timeout": 1,
        "retries": 1,
        "backoff": 0.5,
        "template": False,
        "metadata": {},
        "retry_on": {"TimeoutError": 10, "bad_input": 0},
        "when": "deps.a.ok",
        "key": "k",
        "key_ttl": 60,
        "key_conflict": "reject",
        "resources": {"gpu": 1, "tokens": 0.5},
        "estimate": 3,
    }
    assert tasks(json.dumps(task)) == [task]


@pytest.mark.parametrize(
    ("text", "file", "message"),
    [
        ('{"type": "echo"}\n{"type" "echo"}', "t.jsonl", r"t\.jsonl, line 2: not JSON: .*column 9"),
        ('{"type": "echo"}\n\n[1]', "t.jsonl", "line 3: a task is a map, not a list"),
        ('{"type": "echo", "data": {"x": NaN}}', "t.jsonl", "line 1: .*NaN"),
        ('{"type": "echo", "data": {"x": 1e999}}', "t.jsonl", r"line 1: `data\.x`: NaN and infinities"),
        ('{"type": "echo", "data": {"x": 99999999999999999999}}', "t.jsonl", r"line 1: `data\.x`: .*64 bits"),
        ('{"data": {}}', "t.jsonl", "line 1: a task needs `type`"),
        ('{"type": "echo", "priority": "high"}', "t.jsonl", "line 1: `priority` must be an integer"),
        ('{"type": "echo", "priority": true}', "t.jsonl", "line 1: `priority` must be an integer"),
        ('{"type": "echo", "id": "a b"}', "t.jsonl", "line 1: `id` 'a b' may hold only"),
        ('{"type": "echo", "deps": [{"on": "done"}]}', "t.jsonl", r"line 1: `deps\[0\]` needs either"),
        ('{"type": "echo", "deps": [{"id": "a", "on": "maybe"}]}', "t.jsonl", r"deps\[0\]\.on"),
        ('{"type": "echo", "deps": [{"id": "a", "no": 1}]}', "t.jsonl", r"deps\[0\]\.no"),
        ('{"type": "echo", "deps": [[]]}', "t.jsonl", r"deps\[0\]` must be an id"),
        ('{"type": "echo", "expires": "soon"}', "t.jsonl", "line 1: `expires`: 'soon' is not a moment"),
        ('{"type": "echo", "when": true}', "t.jsonl", "`when` must be a string"),
        ('{"type": "echo", "estimate": "1h"}', "t.jsonl", "`estimate` must be a number"),
        ('{"type": "echo", "key": 5}', "t.jsonl", "`key` must be a string"),
        ('{"type": "echo", "resources": {"gpu": "one"}}', "t.jsonl", r"`resources\.gpu` must be a number"),
        (
            '{"type": "echo", "retry_on": {"TimeoutError": 1.5}}',
            "t.jsonl",
            r"`retry_on\.TimeoutError` must be an integer",
        ),
        ('[{"type": "echo"},\n{"type": }]', "t.json", "line 2: not JSON"),
        ('[{"type": "echo"}, 5]', "t.json", r"tasks\[1\]: a task is a map"),
        ('{"tasks": [], "jobs": 1}', "t.json", "`jobs` is not a field of a flow"),
        ("5", "t.json", "neither a list"),
        ("- type: echo\n- type: echo\n  oops: 1\n", "t.yaml", "line 2: `oops` is not a field"),
        ("tasks:\n  - type: [\n", "t.yaml", "line 3: not YAML"),
        (
            "- type: echo\n  data: {when: 2030-01-01}\n",
            "t.yaml",
            r"line 1: `data\.when`: .*date can't be sent; put dates in quotes",
        ),
        ("- type: echo\n  run_at: 2030-01-01T00:00:00\n", "t.yaml", "line 1: .*no zone"),
        ("a: 1\nb: 2", "t.yaml", "`a` is not a field of a flow"),
        ("[[tasks]]\ntype = \nid = 1", "t.toml", "not TOML: .*line 2"),
    ],
)
def test_errors_name_their_place(text: str, file: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse(text, file)


def test_only_newlines_end_a_json_line() -> None:
    assert tasks('{"type": "echo", "data": {"x": "a\u2028b\x85c"}}', form="jsonl")[0]["data"]["x"] == "a\u2028b\x85c"


def test_what_is_wrong_between_tasks() -> None:
    with pytest.raises(InvalidInput, match=r"line 2: the id '1' was used before \(t\.jsonl, line 1\)"):
        check_together(parse('{"type": "echo", "id": 1}\n{"type": "echo", "id": "1"}', "t.jsonl").entries)
    with pytest.raises(InvalidInput, match="line 1: it waits for 'b'"):
        check_together(parse('{"type": "echo", "deps": ["b"]}', "t.jsonl").entries)
    check_together(parse('{"type": "echo", "deps": ["b"]}', "t.jsonl").entries, grows=True)
    check_together(parse('{"type": "echo", "deps": [{"number": 5}, {"flow": 7, "id": "b"}]}', "t.jsonl").entries)


def test_gemini_batch_lines() -> None:
    line = {
        "key": "request-1",
        "request": {
            "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
            "systemInstruction": {"parts": [{"text": "be"}, {"text": "kind"}]},
            "generationConfig": {"temperature": 0.7},
            "safety_settings": [],
        },
    }
    assert tasks(json.dumps(line)) == [
        {
            "type": "gemini",
            "id": "request-1",
            "data": {
                "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
                "system": "be\nkind",
                "config": {"temperature": 0.7, "safety_settings": []},
            },
        }
    ]
    assert tasks('{"request": {"contents": "x", "system_instruction": "s", "generation_config": {}}}') == [
        {"type": "gemini", "data": {"contents": "x", "system": "s"}}
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"request": 5}, "`request` must be a map"),
        ({"request": {}}, "contents"),
        ({"request": {"contents": "x", "nonsense": 1}}, r"`request\.nonsense`"),
        ({"request": {"contents": "x", "systemInstruction": {"parts": [{"data": 1}]}}}, "must be text"),
        ({"request": {"contents": "x"}, "key": "a b"}, "`id` 'a b'"),
        ({"request": {"contents": "x"}, "priority": 1}, "`priority` is not a field of a Gemini batch line"),
    ],
)
def test_bad_gemini_batch_lines(line: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        tasks(json.dumps(line))
