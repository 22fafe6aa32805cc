"""Tools for models: conversations whose questions and calls are tasks, with a real daemon, client, SDK and MCP servers."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.ctl import Ctl
from helpers.daemon import HELPERS, PATIENCE, Daemon, running
from helpers.mcp_server import TOKEN
from helpers.raw import Raw, Refusal
from helpers.standin import StandInProcess, stand_in

SERVER = [sys.executable, str(HELPERS / "mcp_server.py")]
SECRET = "hunter2-and-more"
READER = """
name = "reader"
description = "Reads."
system = "You read."
tools = ["read_file", "memory.get", "mcp:web/*"]
"""
#: A handler of somebody else's, which tells what it sees of the settings.
LOOKS = """
from gemflowd.handlers.registry import task


@task("looks")
async def looks(data, context):
    return sorted(context.settings)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInProcess]:
    with stand_in(tmp_path_factory.mktemp("stand-in")) as process:
        yield process


@pytest.fixture(scope="module")
def daemon(model: StandInProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("mcp")
    (directory / "headers").write_text(f"# for the server\nAuthorization: Bearer {TOKEN}\n")
    (directory / "variables").write_text(f"SECRET={SECRET}\n")
    (directory / "personas").mkdir()
    (directory / "personas" / "reader.toml").write_text(READER)
    (directory / "looks.py").write_text(LOOKS)
    web = subprocess.Popen([*SERVER, "--http"], stdout=subprocess.PIPE, text=True)
    assert web.stdout is not None
    url = f"http://127.0.0.1:{web.stdout.readline().strip()}/mcp"
    servers = {
        "calc": {"command": SERVER, "env_file": str(directory / "variables")},
        "web": {"url": url, "headers_file": str(directory / "headers")},
        "gone": {"command": [sys.executable, "-c", "import sys; sys.exit('it is broken')"]},
    }
    settings: dict[str, Any] = {"mcp": {"servers": servers}, "personas": [str(directory / "personas")]}
    settings |= {"handlers": ["looks"], "handler_path": [str(directory)]}
    with running(env=model.env, workers=1, batch_size=10, backoff=0.01, **settings, **model.settings) as daemon:
        yield daemon
        log = daemon.log_text()
    web.terminate()
    web.communicate()
    assert TOKEN not in log
    assert SECRET not in log


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.endpoint) as client:
        yield client


def ask(prompt: str, *tools: str, **data: Any) -> dict[str, Any]:
    return {"id": "asks", "type": "gemini", "data": {"prompt": prompt, "model": "m", "tools": list(tools), **data}}


def call(name: str, turn: int | str = 1, **arguments: Any) -> str:
    said = "".join(f" {key}={value}" for key, value in arguments.items())
    return f"[[stand-in:call name={name} turn={turn}{said}]]"


def settled(client: Raw, *tasks: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The lines of a flow that has ended, by number."""
    flow = client.submit(*tasks)["flow"]
    client.wait(f"f{flow}")
    return {line["number"]: line for line in client.results(f"f{flow}")}


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A file for the tool `hold`, and what waits until a call of it has begun."""
    path = tmp_path / "go"
    os.mkfifo(f"{path}.begun")
    pipe = os.open(f"{path}.begun", os.O_RDWR | os.O_NONBLOCK)

    def until_begun() -> None:
        assert select.select([pipe], [], [], PATIENCE)[0], f"no call has begun after {PATIENCE:g} s"

    yield path, until_begun
    os.close(pipe)


@pytest.fixture
def ctl(daemon: Daemon, tmp_path: Path) -> Ctl:
    return Ctl(daemon.endpoint, tmp_path)


def test_questions_and_calls_are_tasks_and_dependents_wait_for_the_answer(client: Raw, model: StandInProcess) -> None:
    prompt = " ".join((
        "Work.", call("write_file", path="a.txt", content="hello"), call("calc__add", a=":2", b=":3"),
        call("read_file", 2, path="a.txt"), call("read_file", 2, path="missing"), call("memory_set", 2, key="k", value="v"),
        call("calc__fail", 3, word="indeed"), call("shell", 3, command="ls"), call("list_files", 3, limit=":0"),
        call("memory_set", 3, key="k", value="v", namespace="of-others"), call("read_file", 3, path="x", workspace="w"),
    ))  # fmt: skip
    before = len(model.lines())
    task = ask(prompt, "write_file", "read_file", "list_files", "memory.set", "mcp:calc/*")
    after = {"id": "after", "type": "echo", "data": {"said": "{{ deps.asks.text }}"}, "deps": ["asks"]}
    lines = settled(client, task, after)
    first, *_ = lines
    assert lines[first]["type"] == "gemini.tools"
    result = lines[first]["result"]
    assert result["hops"] == 4
    assert lines[first + 1]["result"]["said"] == result["text"]
    done = {lines[it["task"]]["number"]: lines[it["task"]] for it in result["calls"]}
    assert [it["tool"] for it in result["calls"]] == [
        "write_file", "mcp:calc/add", "read_file", "read_file", "memory.set", "mcp:calc/fail",
    ]  # fmt: skip
    written, added, read, missing, remembered, failed = (line["result"] for line in done.values())
    assert (written["created"], added["structured"], read["text"]) == (True, {"result": 5}, "hello")
    assert missing["error"]["code"] == "not_found"
    assert remembered["version"] == 1
    assert failed["error"]["code"] == "tool_error"
    assert SECRET not in failed["error"]["message"]
    questions = [line for line in lines.values() if line["type"] == "gemini"]
    asked = model.lines()[before:]
    assert [line["status"] for line in asked] == [200] * 4, "signatures came back as they were"
    assert result["usage"]["total_tokens"] == sum(line["usage"]["total_tokens"] for line in questions) > 0
    assert (
        client("memory_list", namespace=f"flow-{lines[first]['flow']}", prefix="", values=True)["items"][0]["value"]
        == "v"
    )
    told = client.show(questions[-1]["number"])["data"]["contents"][-1]["parts"]
    errors = [part["function_response"]["response"].get("error") for part in told]
    assert errors[0]["code"] == "tool_error"
    assert "may not call it" in errors[1]
    assert "limit" in errors[2]
    assert "'namespace'" in errors[3]
    assert "'workspace'" in errors[4]


def test_the_final_answer_is_asked_for_as_json_by_itself(client: Raw, model: StandInProcess) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    before = len(model.lines())
    config = {"toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}}
    lines = settled(client, ask(call("list_files"), "list_files", schema=schema, max_hops=2, config=config))
    result = lines[min(lines)]["result"]
    assert set(result["parsed"]) == {"n"}
    assert (result["hops"], len(result["calls"])) == (3, 1), "the last question counts, but is none of `max_hops`"
    assert [line["status"] for line in model.lines()[before:]] == [200] * 3


def test_over_http_with_a_header(client: Raw) -> None:
    lines = settled(client, ask(f"Add. {call('web__add', a=':20', b=':22')}", "mcp:web/add"))
    (made,) = [line for line in lines.values() if line["type"] == "mcp"]
    assert made["result"]["structured"] == {"result": 42}


def test_a_secret_that_a_tool_tells_is_not_in_its_result(client: Raw) -> None:
    (line,) = client.run({"type": "mcp", "data": {"server": "calc", "tool": "tell", "arguments": {"word": "well"}}})
    assert line["result"]["text"] == "well and […]"
    assert line["result"]["structured"] == {"result": "well and […]"}
    assert SECRET not in str(line)


def test_a_server_that_does_not_start_and_one_that_ends(client: Raw) -> None:
    gone = {"type": "mcp", "data": {"server": "gone", "tool": "x"}, "retries": 0}
    end = {"type": "mcp", "data": {"server": "calc", "tool": "end"}, "retries": 0}
    (first,) = client.run(gone)
    assert first["error"]["code"] == "mcp_unreachable"
    assert "it is broken" in first["error"]["message"]
    assert client.run(end)[0]["error"]["code"] == "mcp_unreachable"
    (again,) = client.run({"type": "mcp", "data": {"server": "calc", "tool": "add", "arguments": {"a": 1, "b": 1}}})
    assert again["result"]["text"] == "2"
    (unknown,) = client.run({"type": "mcp", "data": {"server": "none", "tool": "add"}})
    assert unknown["error"]["code"] == "unknown_server"


def test_other_handlers_see_nothing_of_the_servers(client: Raw) -> None:
    lines = settled(client, {"type": "looks"})
    (seen,) = (line["result"] for line in lines.values())
    assert "workspace" in seen
    assert "mcp" not in seen


def test_what_is_no_tool_is_refused_and_what_a_server_has_not_is_said(client: Raw) -> None:
    for tools, code in (
        (["fly"], "unknown_tool"),
        (["mcp:nobody/x"], "unknown_tool"),
        (["memory.eat"], "unknown_tool"),
    ):
        with pytest.raises(Refusal) as refused:
            client.submit(ask("x", *tools))
        assert (refused.value.code, refused.value.path) == (code, "tasks[0].data.tools")
    (line,) = client.run(ask("x", "mcp:calc/fly"))
    assert line["error"]["code"] == "unknown_tool"
    assert "add" in line["error"]["message"]


def test_a_persona_permits_its_own_tools(client: Raw) -> None:
    with pytest.raises(Refusal) as refused:
        client.submit(ask("x", "write_file", "mcp:calc/add", agent="reader"))
    assert refused.value.code == "not_permitted"
    some = client.submit(ask("Say it.", "write_file", "read_file", "mcp:web/add", agent="reader"))["first"]
    assert client.show(some)["data"]["tools"] == ["read_file", "mcp:web/add"]
    all_of_them = client.submit({"task": "Say it.", "agent": "reader"})["first"]
    assert client.show(all_of_them)["data"]["tools"] == ["read_file", "memory.get", "mcp:web/*"]
    none = client.submit(ask("Say it.", agent="reader"))["first"]
    assert client.show(none)["type"] == "gemini"
    assert client("handlers")["mcp"] == ["calc", "gone", "web"]


def test_the_number_of_questions_is_bounded(client: Raw) -> None:
    prompt = f"On and on. {call('list_files', 'any')}"
    lines = settled(client, ask(prompt, "list_files", max_hops=3))
    assert lines[min(lines)]["error"]["code"] == "max_hops"
    assert sum(line["type"] == "gemini" for line in lines.values()) == 3


def test_after_a_question_that_failed_a_retry_goes_on_from_there(client: Raw, model: StandInProcess) -> None:
    prompt = f"Go on. {call('write_file', path='x', content='y')} [[stand-in:400 times=1]]"
    flow = client.submit(ask(prompt, "write_file"))
    client.wait(f"f{flow['flow']}")
    line = client.results(str(flow["first"]))[0]
    assert line["error"]["code"] == "hop_failed"
    client("retry", refs=[f"f{flow['flow']}"])
    client.wait(f"f{flow['flow']}")
    line = client.results(str(flow["first"]))[0]
    assert (line["state"], line["result"]["hops"]) == ("succeeded", 2)


def test_the_tasks_are_submitted_with_what_the_first_one_says(client: Raw) -> None:
    task = {**ask(f"x {call('list_files')}", "list_files"), "priority": 9, "queue": "slow", "retry_on": {"timeout": 7}}
    lines = settled(client, task)
    assert len(lines) == 4
    for number in lines:
        shown = client.show(number)
        assert (shown["priority"], shown["queue"]) == (9, "slow")
        assert shown["retry_on"] == ({} if shown["type"] == "tool" else {"timeout": 7})
    with pytest.raises(Refusal):
        client.submit({**task, "budget": {"tokens": 10}})


def test_killed_between_two_questions_nothing_is_asked_twice(
    client: Raw, daemon: Daemon, model: StandInProcess, held: tuple[Path, Callable[[], None]]
) -> None:
    path, until_begun = held
    prompt = f"Wait. {call('list_files')} {call('calc__hold', 2, path=path)} {call('list_files', 3)}"
    before = len(model.lines())
    flow = client.submit(ask(prompt, "mcp:calc/hold", "list_files"))
    until_begun()
    daemon.kill()
    path.touch()
    daemon.restart()
    client.wait(f"f{flow['flow']}")
    assert client.results(str(flow["first"]))[0]["result"]["hops"] == 4
    asked = model.lines()[before:]
    assert len(asked) == len({line["prompt"] for line in asked}) == 4


def test_cancelled_in_the_middle(client: Raw, daemon: Daemon, held: tuple[Path, Callable[[], None]]) -> None:
    path, until_begun = held
    events = daemon.subscriber("task.blocked")
    flow = client.submit(ask(f"Wait. {call('calc__hold', path=path)}", "mcp:calc/hold"))
    until_begun()
    for _ in ("the question", "the call"):  # it holds no slot meanwhile
        events.until("task.blocked", task=flow["first"])
    client("cancel", refs=[f"f{flow['flow']}"])
    client.wait(f"f{flow['flow']}")
    states = [line["state"] for line in client.results(f"f{flow['flow']}")]
    assert states == ["cancelled", "succeeded", "cancelled"]
    (again,) = client.run({"type": "mcp", "data": {"server": "calc", "tool": "add", "arguments": {"a": 1, "b": 2}}})
    assert again["result"]["text"] == "3"


def test_prompt_prints_the_answer_alone_and_doctor_asks_the_servers(ctl: Ctl) -> None:
    done = ctl("prompt", f"Look. {call('list_files')}", "--tool", "list_files", "--model", "m", "--wait")
    assert done.returncode == 0
    assert done.stdout.count("[stand-in]") == 1
    said = ctl("doctor", status=1)
    assert "mcp calc" in said.stdout
    assert "answers, with 5 tools" in said.stdout
    assert "it is broken" in said.stdout
    shown = ctl("config")
    assert "stdio" in shown.stdout
    assert "mcp_server.py" not in shown.stdout
