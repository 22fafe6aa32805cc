"""The autonomous agent on the stand-in with a script: `run`, a plan that is mended, refused, shown or approved, and daemons that die."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import Daemon, environment, running
from helpers.raw import PATIENCE, Raw, Refusal
from helpers.standin import StandInProcess, stand_in

from gemflowd.handlers.agent.schema import PRIORITIES

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent" / "web-scraper.yaml"
SCRAPER = "Build a web scraper that collects headlines and writes a report"


def item(name: str, *after: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": name, "description": f"Step {name} of it.", "type": "gemini", "dependencies": list(after), "priority": "high", **fields
    }  # fmt: skip


def planned(prompt: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {"system": "You are a planner", "prompt": prompt, "answer": {"tasks": list(items)}}


#: It fails: there is no such file.
BAD = item("bad", type="tool", data='{"tool": "read_file", "path": "nothing"}')
SCRIPT = [
    planned(
        "GOAL-SLOW", item("a"), item("b", description="[[stand-in:slow seconds=1 times=1]] Slow."), item("c", "a", "b")
    ),
    planned("GOAL-BAD", item("a", type="command")),
    planned("GOAL-LONG", *(item(f"s{n}", *([f"s{n - 1}"] if n else [])) for n in range(12))),
    planned("GOAL-INNER", item("x"), item("y", "x")),
    planned("GOAL-NESTED", item("part", type="agent", description="GOAL-INNER"), item("end", "part")),
    planned("GOAL-FAILS", item("good"), BAD, item("never", "bad")),
    planned("GOAL-NOTHING", item("bad", type="tool", data='{"tool": "read_file", "path": "nothing"}')),
    planned("GOAL-TWO", item("a", agent="critic", priority="critical"), item("b", "a", priority="low")),
    planned(
        "GOAL-TOOLS",
        item("looks", agent="clerk", description="[[stand-in:call name=write_file path=kept content=it]] Keep it."),
    ),
    planned(
        "GOAL-STRAYS",
        item("shell", agent="clerk", tools=["shell"]),
        item("other", type="tool", data='{"tool": "read_file", "path": "x", "workspace": "of-others"}'),
    ),
    {"system": "You are a writer", "answer": "The answer."},
]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("script") / "script.jsonl"
    file.write_text("".join(json.dumps(entry) + "\n" for entry in SCRIPT))
    return file


CLERK = """
name = "clerk"
description = "Keeps things."
system = "You keep things."
tools = ["write_file", "shell"]
"""


@pytest.fixture(scope="module")
def daemon(script: Path) -> Iterator[Daemon]:
    personas = script.parent / "personas"
    personas.mkdir()
    (personas / "clerk.toml").write_text(CLERK)
    with running("--offline", "--script", str(script), workers=1, batch_size=20, personas=[str(personas)]) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.endpoint) as client:
        yield client


@pytest.fixture
def ctl(daemon: Daemon, tmp_path: Path) -> Ctl:
    return Ctl(daemon.endpoint, tmp_path)


def by_id(client: Raw, flow: int) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in client.results(f"f{flow}")}


def test_a_goal_becomes_an_answer(ctl: Ctl, client: Raw) -> None:
    done = ctl("run", "GOAL-TWO", "please")
    assert done.stdout == "The answer.\n"
    assert "succeeded  a (gemini)" in done.stderr
    flow = int(done.stderr.partition("flow f")[2].partition(":")[0])
    lines = by_id(client, flow)
    assert list(lines) == ["agent", "agent.plan", "agent.plan.ask-1", "agent.a", "agent.b", "agent.answer"]
    assert lines["agent"]["result"] == {
        "text": "The answer.",
        "goal": "GOAL-TWO please",
        "steps": ["a", "b"],
        "failed": [],
    }
    a, b = (client.show(lines[name]["number"]) for name in ("agent.a", "agent.b"))
    assert (a["priority"], b["priority"]) == (PRIORITIES["critical"], PRIORITIES["low"])
    assert client.show(lines["agent"]["number"])["attempts"] == 4


def test_the_example_is_mended_and_runs(tmp_path: Path) -> None:
    with running("--offline", "--script", str(EXAMPLE), workers=1) as daemon, Raw(daemon.endpoint) as client:
        ctl = Ctl(daemon.endpoint, tmp_path)
        plan = ctl.lines("run", "--dry-run", SCRAPER)[1]["plan"]
        assert plan["rounds"] == 2
        assert "write_scraper" in [task["id"] for task in plan["tasks"]]
        assert [line["id"] for line in client.results("f1")] == ["plan", "plan.ask-1", "plan.ask-2"], (
            "nothing of it is run"
        )
        assert "unknown_agent" in ctl("logs", "f1/plan").stdout
        reply, line = ctl.lines("run", SCRAPER)
        assert line["ok"]
        lines = by_id(client, reply["flow"])
        assert len(lines["agent.recall_pages"]["result"]["value"]) == 3, "they share the memory"
        assert lines["agent.save_scraper"]["result"]["path"] == "scraper.md"


def test_a_plan_that_stays_wrong_is_given_up(ctl: Ctl, client: Raw) -> None:
    failed = ctl("run", "GOAL-BAD", status=1)
    assert "there is no plan" in failed.stderr
    assert "(unknown_type)" in failed.stderr
    (refused, *_) = ctl.lines("list", "--state", "failed", "--type", "agent.plan")
    (line,) = client.results(refused["number"])
    assert line["error"]["code"] == "bad_plan"
    assert "tasks[0].type" in line["error"]["message"]
    assert "too_deep" in ctl("run", "--dry-run", "GOAL-LONG", status=1).stderr
    assert "too_many_tasks" in ctl("run", "--dry-run", "--max-tasks", "5", "GOAL-LONG", status=1).stderr


def test_a_retried_flow_goes_on_where_it_failed(ctl: Ctl, client: Raw) -> None:
    reply, failed = ctl.lines("run", "--workspace", "shared", "GOAL-NOTHING", status=1)
    flow = f"f{reply['flow']}"
    assert failed["error"]["code"] == "no_result"
    client.run(
        {"type": "tool", "data": {"tool": "write_file", "path": "nothing", "content": "y", "workspace": "shared"}}
    )
    ctl("retry", flow)
    assert client.wait(flow)["tasks"] == {"succeeded": 5}
    assert by_id(client, reply["flow"])["agent"]["result"]["steps"] == ["bad"]


def test_a_plan_above_the_budget_is_refused(ctl: Ctl) -> None:
    assert (
        "over_budget"
        in ctl("run", "--dry-run", "--budget-tokens", "20000", "GOAL-LONG", "--max-depth", "20", status=1).stderr
    )


def test_a_budget_that_has_no_room_is_told_and_raised(daemon: Daemon, client: Raw) -> None:
    command = [
        sys.executable,
        "-m",
        "gemflowctl",
        "--endpoint",
        daemon.endpoint,
        "run",
        "--budget-tokens",
        "1",
        "GOAL-TWO",
    ]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    assert running.stderr is not None
    said = next(line for line in running.stderr if "has no room" in line)
    client("budget_raise", of=said.partition("budget raise ")[2].partition("`")[0], tokens=1_000_000)
    assert running.communicate(timeout=PATIENCE)[0] == "The answer.\n"


def test_a_step_plans_its_own_part_and_others_wait_for_it(ctl: Ctl, client: Raw) -> None:
    reply, line = ctl.lines("run", "GOAL-NESTED")
    assert line["ok"]
    lines = by_id(client, reply["flow"])
    assert lines["agent.part"]["result"]["steps"] == ["x", "y"]
    end, inner = (client.show(lines[name]["number"]) for name in ("agent.end", "agent.part.answer"))
    assert end["attempts_log"][0]["started"] >= inner["attempts_log"][0]["finished"]
    assert ctl("run", "--dry-run", "--nesting", "0", "GOAL-NESTED", status=1).stderr.count("too_deep")


def test_the_model_of_a_step_has_the_tools_of_its_persona(ctl: Ctl, client: Raw) -> None:
    (_, line) = ctl.lines("run", "--workspace", "desk", "--max-hops", "2", "GOAL-TOOLS")
    assert line["ok"]
    lines = by_id(client, line["flow"])
    assert lines["agent.plan"]["result"]["tasks"][0]["tools"] == ["write_file"], "shell was not named"
    step = lines["agent.looks"]["result"]
    assert (step["hops"], [it["tool"] for it in step["calls"]]) == (2, ["write_file"])
    read = client.run({"type": "tool", "data": {"tool": "read_file", "path": "kept", "workspace": "desk"}})
    assert read[0]["result"]["text"] == "it"
    assert ctl("run", "--max-hops", "1", "GOAL-TOOLS", status=1).stderr.count("max_hops"), (
        "a step's questions are bounded"
    )


def test_a_plan_that_would_go_beyond_what_it_may_is_refused(ctl: Ctl) -> None:
    said = ctl("run", "--dry-run", "GOAL-STRAYS", status=1).stderr
    assert "tasks[0].tools[0]" in said
    assert "tasks[1].data.workspace" in said
    assert "there is no tool 'nonsense'" in ctl("run", "--dry-run", "--tool", "nonsense", "GOAL-TWO", status=1).stderr


def test_an_answer_without_what_failed(ctl: Ctl, client: Raw) -> None:
    done = ctl("run", "GOAL-FAILS")
    assert "without what these steps should have brought: bad, never" in done.stderr


def test_a_plan_waits_for_approval(ctl: Ctl, client: Raw) -> None:
    flow = ctl("--quiet", "run", "--approve", "--detach", "GOAL-TWO").stdout.strip()
    agent = client.wait(f"{flow}/agent.plan") and client.show(f"{flow}/agent")
    while agent["state"] != "held":  # its next attempt is on the way
        assert not agent["state"].startswith("succ")
        agent = client.show(f"{flow}/agent")
    assert "waits for approval" in ctl("explain", f"{flow}/agent").stdout
    assert [line["id"] for line in client.results(flow)] == ["agent.plan", "agent.plan.ask-1"]
    ctl("release", f"{flow}/agent")
    assert client.wait(flow)["tasks"] == {"succeeded": 6}
    shown = ctl("run", "--approve", "--yes", "GOAL-TWO")
    assert "critic" in shown.stdout
    assert shown.stdout.endswith("The answer.\n")


@pytest.mark.parametrize(("word", "status"), [("y", 0), ("n", 1)])
def test_a_person_is_asked_on_a_terminal(daemon: Daemon, word: str, status: int) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as terminal, os.fdopen(theirs, "rb") as inside:
        terminal.write(f"{word}\n".encode())
        ran = subprocess.run(
            [sys.executable, "-m", "gemflowctl", "run", "--approve", "GOAL-TWO"],
            env=environment(GEMFLOW_ENDPOINT=daemon.endpoint),
            stdin=inside, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ran.returncode == status, ran.stderr
    assert "Run this plan?" in ran.stderr
    assert ("The answer." in ran.stdout) == (word == "y")


def test_a_killed_daemon_repeats_no_step(script: Path, tmp_path: Path) -> None:
    with stand_in(tmp_path, "--script", str(script)) as model:
        daemon = Daemon(env=model.env, workers=1, **model.settings)
        try:
            daemon.start()
            number = daemon.client().submit({"id": "agent", "type": "agent", "data": {"goal": "GOAL-SLOW"}})["flow"]
            # Killed when the plan is made, and when its first step has ended while the second runs.
            for name in ("agent.plan", "agent.a"):
                daemon.client().wait(_when_there(daemon, f"f{number}/{name}"))
                daemon.kill()
                daemon.start()
            client = daemon.client()
            assert client.wait(f"f{number}")["tasks"] == {"succeeded": 7}
            lines = by_id(client, number)
            assert lines["agent"]["result"]["text"] == "The answer."
            _once(client, model, lines.values())
        finally:
            daemon.close()


def _when_there(daemon: Daemon, ref: str) -> str:
    """The reference, when there is such a task."""
    with daemon.subscriber("task.") as events, daemon.client() as client:
        while True:
            try:
                client.show(ref)
            except Refusal:  # not yet
                events.next()
            else:
                return ref


def _once(client: Raw, model: StandInProcess, lines: Iterable[dict[str, Any]]) -> None:
    """Every question was answered once, but for those whose attempt was under way when the daemon died."""
    answered = Counter(line["prompt"] for line in model.lines() if line["outcome"] == "answered")
    lost = [
        line["id"]
        for line in lines
        for attempt in client.show(line["number"])["attempts_log"]
        if line["type"] == "gemini" and attempt["outcome"] == "lost"
    ]
    assert answered.total() - len(answered) <= len(lost), (answered, lost)
