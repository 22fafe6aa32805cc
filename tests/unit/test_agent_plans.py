"""Plans of the agent: what is wrong with one is told with a code and a path; names in templates are those of the flow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemflowd.handlers.agent import prompts, tasks
from gemflowd.handlers.agent.cost import over
from gemflowd.handlers.agent.plan import BadPlan, Bounds, Step, depth_of, read_plan, step_from
from gemflowd.handlers.agent.templating import literal, renamed, result_of
from gemflowd.model.errors import ConfigError
from gemflowd.standin.parse import Asked
from gemflowd.standin.script import load
from gemflowd.templates import render


def bounds(**changed: Any) -> Bounds:
    fields: dict[str, Any] = {
        "types": ("gemini", "tool", "agent"),
        "agents": {"coder": ("read_file", "mcp:web/*", "shell"), "critic": None, "mute": ()},
        "tools": ("write_file",),
        "tasks": 4,
        "depth": 3,
        "nested": True,
        "servers": ("web",),
        "fits": lambda name, data: None if "tool" in data else (".tool", "is needed"),
    }
    return Bounds(**{**fields, **changed})


def item(name: Any = "a", **fields: Any) -> dict[str, Any]:
    return {"id": name, "description": "Do it.", "type": "gemini", "dependencies": [], "priority": "high", **fields}


def problems(*items: Any, **changed: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadPlan) as bad:
        read_plan({"tasks": list(items)}, bounds(**changed))
    return [(problem.code, problem.path) for problem in bad.value.problems]


def test_a_plan_is_read() -> None:
    data = {"tool": "write_file", "path": "x", "content": "{{ deps.b_c.text }}"}
    steps = read_plan(
        {
            "tasks": [
                item("b-c", agent="coder"),
                item(1, type="tool", dependencies=["b-c"], data=json.dumps(data), agent="", priority="low"),
            ]
        },
        bounds(),
    )
    assert steps[1] == Step("1", "Do it.", "tool", None, ("b-c",), "low", data)
    assert depth_of(steps) == 2
    assert [step_from(step.body()) for step in steps] == steps


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ([item(type="command")], [("unknown_type", "tasks[0].type")]),
        ([item(agent="nobody")], [("unknown_agent", "tasks[0].agent")]),
        ([item(type="agent", agent="coder")], [("invalid_value", "tasks[0].agent")]),
        ([item(), item()], [("duplicate_id", "tasks[1].id")]),
        ([item("a b")], [("invalid_value", "tasks[0].id")]),
        ([item("answer")], [("invalid_value", "tasks[0].id")]),
        ([item(priority="now")], [("invalid_value", "tasks[0].priority")]),
        ([item(dependencies=["x"])], [("unknown_dependency", "tasks[0].dependencies[0]")]),
        ([item(dependencies=["b"]), item("b", dependencies=["a"])], [("cycle", "tasks")]),
        ([item(dependencies=["a"])], [("cycle", "tasks")]),
        ([item(str(n)) for n in range(5)], [("too_many_tasks", "tasks")]),
        ([item(str(n), dependencies=[str(n - 1)] * (n > 0)) for n in range(4)], [("too_deep", "tasks")]),
        ([item(data="{}"), item("b", data='{"x": 1}')], [("invalid_data", "tasks[1].data")]),
        ([item(type="tool", data="no JSON")], [("invalid_data", "tasks[0].data"), ("invalid_data", "tasks[0].data.tool")]),
        ([item(type="tool", data='{"tool": "shell"}')], [("invalid_data", "tasks[0].data.tool")]),
        (
            [item(), item("b", type="tool", data='{"tool": "write_file", "content": "{{ deps.a.text }}"}')],
            [("invalid_template", "tasks[1].data"), ("invalid_template", "tasks[1].data")],
        ),
        (
            [item(), item("b", type="tool", dependencies=["a"], data='{"tool": "write_file", "content": "{{ deps.a"}')],
            [("invalid_template", "tasks[1].data")],
        ),
        ([item(tools=["nothing"])], [("unknown_tool", "tasks[0].tools[0]")]),
        ([item(tools=["write_file", "shell"])], [("not_permitted", "tasks[0].tools[1]")]),
        ([item(agent="coder", tools=["write_file"])], [("not_permitted", "tasks[0].tools[0]")]),
        ([item(agent="coder", tools=["shell"])], [("not_permitted", "tasks[0].tools[0]")]),
        ([item(agent="mute", tools=["write_file"])], [("not_permitted", "tasks[0].tools[0]")]),
        ([item(tools=["mcp:web/get"])], [("not_permitted", "tasks[0].tools[0]")]),
        ([item(type="agent", tools=["write_file"])], [("invalid_value", "tasks[0].tools")]),
        ([item(tools="write_file")], [("wrong_type", "tasks[0].tools")]),
        (
            [item(type="tool", data='{"tool": "write_file", "workspace": "of-others"}')],
            [("not_permitted", "tasks[0].data.workspace")],
        ),
        ([item(more=1)], [("unknown_field", "tasks[0].more")]),
        ([item(description=" ")], [("missing_field", "tasks[0].description")]),
        ([7], [("wrong_type", "tasks[0]")]),
        ([], [("empty_plan", "tasks")]),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_told(wrong: list[Any], found: list[tuple[str, str]]) -> None:
    assert problems(*wrong) == found


def test_a_step_has_the_tools_of_its_persona_within_the_bounds() -> None:
    def given(step: dict[str, Any], **changed: Any) -> tuple[str, ...] | None:
        return read_plan({"tasks": [step]}, bounds(**changed))[0].tools

    assert given(item()) is None
    assert given(item(agent="critic")) is None
    assert given(item(agent="critic", tools=["write_file"])) == ("write_file",)
    assert given(item(agent="coder", tools=[])) == ("read_file", "mcp:web/*"), "all but what runs programs"
    assert given(item(agent="coder", tools=["mcp:web/get"])) == ("mcp:web/get",)
    assert given(item(agent="coder"), tools=("shell", "write_file"), named=True) == ("shell",)
    assert given(item(agent="mute")) == ()
    tasks_of = tasks.of_plan({"goal": "g", "max_hops": 3}, [Step("a", "A", "gemini", "mute", (), "high", tools=())], "")
    assert tasks_of[0]["data"]["tools"] == [], "or the submission would give it all that its persona has"


def test_a_plan_stays_where_it_was_put() -> None:
    there = bounds(types=("memory", "mcp"), memory="ours", fits=lambda name, data: None)

    def wrong(kind: str, bounds: Bounds = there, **data: Any) -> list[str]:
        try:
            read_plan({"tasks": [item(type=kind, data=json.dumps(data))]}, bounds)
        except BadPlan as bad:
            return [problem.path for problem in bad.problems]
        return []

    assert wrong("memory", op="get", key="k", namespace="ours") == []
    assert wrong("memory", op="get", key="k", namespace="flow-1") == ["tasks[0].data.namespace"]
    assert wrong("mcp", server="web", tool="get") == []
    named = bounds(types=("mcp",), tools=("mcp:web/get",), named=True, fits=lambda name, data: None)
    assert wrong("mcp", named, server="web", tool="get") == []
    assert wrong("mcp", named, server="web", tool="put") == ["tasks[0].data.tool"]


def test_an_agent_within_an_agent_has_a_depth() -> None:
    assert problems(item(type="agent"), nested=False) == [("too_deep", "tasks[0].type")]


def test_a_circle_is_named() -> None:
    with pytest.raises(BadPlan, match=r"a → c → b → a|b → a → c → b|c → b → a → c"):
        read_plan(
            {"tasks": [item("a", dependencies=["c"]), item("b", dependencies=["a"]), item("c", dependencies=["b"])]},
            bounds(),
        )


def test_what_a_plan_says_is_no_template() -> None:
    step = Step("b", "Explain {{ x }} and {% raw %}{# y", "gemini", "coder", ("a",), "high")
    (task,) = tasks.of_plan({"goal": "{{ goal }}", "model": "m"}, [step], "agent.")
    assert task["deps"] == ["agent.a"]
    assert task["priority"] == 8
    assert task["data"]["model"] == "m"
    said = render(task["data"]["prompt"], {"agent.a": {"text": "from {{ a }}"}})
    assert "Explain {{ x }} and {% raw %}{# y" in said
    assert said.endswith("from {{ a }}")


def test_a_result_is_shown_as_text() -> None:
    for value, shown in (
        ({"text": "said"}, "said"), ({"stdout": "out", "exit_code": 0}, "out"), ("plain", "plain"),
        ({"rows": [1]}, '{"rows": [1]}'), ({"bytes": b"x"}, "(not text)"),
    ):  # fmt: skip
        assert render(result_of("agent.a"), {"agent.a": value}) == shown
    assert render(literal("{{{% {{"), {}) == "{{{% {{"


def test_names_in_templates_are_those_of_the_flow() -> None:
    value = {"a": ["{{ deps.one_two.text }}", "deps.one_two"], "b": "{{ deps['three'] }} {{ deps.other }}"}
    assert renamed(value, ["one-two", "three"], "agent.") == {
        "a": ['{{ deps["agent.one-two"].text }}', "deps.one_two"],
        "b": '{{ deps["agent.three"] }} {{ deps.other }}',
    }


def test_the_writer_is_told_what_failed() -> None:
    done, failed = Step("a", "A", "gemini", None, (), "high"), Step("b", "B", "gemini", None, (), "high")
    said = render(prompts.writer("Goal", [done], [failed], "agent."), {"agent.a": {"text": "found"}})
    assert "found" in said
    assert "- b: B" in said


def test_a_plan_within_a_plan_has_less_depth() -> None:
    step = Step("b", "Plan it", "agent", None, (), "high")
    (task,) = tasks.of_plan({"goal": "g", "nesting": 2, "approve": True, "max_tasks": 3}, [step], "agent.")
    assert task["data"] == {"goal": "Plan it", "nesting": 1, "max_tasks": 3}


@pytest.mark.parametrize("kind", ["tool", "command", "analysis", "gemini.count"])
def test_what_works_with_files_stays_where_the_agent_works(kind: str) -> None:
    data = {"tool": "write_file", "workspace": "of-others"} if kind == "tool" else {"workspace": "of-others"}
    for own in (None, "ours"):
        found = problems(item(type=kind, data=json.dumps(data)), types=(kind,), workspace=own)
        assert found == [("not_permitted", "tasks[0].data.workspace")]
    step = Step("a", "Work", kind, None, (), "high", {"x": 1})
    (task,) = tasks.of_plan({"goal": "g", "workspace": "ours"}, [step], "agent.")
    assert task["data"] == {"x": 1, "workspace": "ours"}
    (task,) = tasks.of_plan({"goal": "g"}, [step], "agent.")
    assert task["data"] == {"x": 1}


def test_a_page_is_fetched_into_no_workspace() -> None:
    step = Step("a", "Fetch it", "tool", None, (), "high", {"tool": "fetch_url", "url": "https://example.org"})
    (task,) = tasks.of_plan({"goal": "g", "workspace": "ours"}, [step], "agent.")
    assert task["data"] == step.data


def test_a_budget_in_the_way() -> None:
    nothing = {"tokens": 0, "money": 0.0}
    budget = {"action": "hold", "tokens": 100, "money": None, "spent": {**nothing, "tokens": 60}, "assumed": nothing}
    assert over({"tokens": 40, "money": None, "budget": budget}) is None
    assert "about 41 tokens" in str(over({"tokens": 41, "money": None, "budget": budget}))
    assert over({"tokens": 41, "money": None, "budget": {**budget, "action": "warn"}}) is None
    assert over({"tokens": 41, "money": None, "budget": None}) is None


# Scripts of the stand-in


def asked(prompt: str, system: str = "") -> Asked:
    return Asked(system, prompt, prompt, None, False, None)


def test_the_first_entry_that_fits_answers(tmp_path: Path) -> None:
    file = tmp_path / "script.yaml"
    file.write_text(
        "- {prompt: one, system: plan, answer: {tasks: []}}\n- {prompt: '(?i)ONE', times: 1, answer: once}\n"
        "- {model: flash, answer: of a model}\n"
    )
    script = load(file)
    assert script.answer("m", asked("one", "you plan")) == '{"tasks": []}'
    assert [script.answer("m", asked("one")) for _ in range(2)] == ["once", None]
    assert script.answer("a-flash", asked("two")) == "of a model"
    lines = tmp_path / "script.jsonl"
    lines.write_text('{"prompt": "x", "answer": "y"}\n\n')
    assert load(lines).answer("m", asked("x")) == "y"


def test_a_script_that_is_none_is_refused_with_all_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "script.yaml"
    file.write_text("- {prompt: '(', answer: x}\n- {times: 0, answer: x}\n- {answr: x}\n- {answer: x, other: 1}\n")
    with pytest.raises(ConfigError) as wrong:
        load(file)
    assert len(wrong.value.problems) == 4
    for text in ("a: [", "a: 1"):
        file.write_text(text)
        with pytest.raises(ConfigError):
            load(file)
