"""Programs, tools and queries of one flow, which work on the same files, through a real daemon."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon, environment, running
from helpers.raw import Raw, Refusal

pytest.importorskip("duckdb")

EXAMPLES = Path(__file__).parents[2] / "examples"
Task = dict[str, Any]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(workers=2, backoff=0.01, grace=2.0) as daemon:
        yield daemon


def task(kind: str, name: str, deps: list[Any] | None = None, **data: Any) -> Task:
    return {"type": kind, "id": name, "deps": deps or [], "data": data, "retries": 0}


def test_a_flow_over_one_file(daemon: Daemon, client: Raw) -> None:
    sold = "import json; open('sales.csv', 'w').write('shop,amount\\n1,2.5\\n2,10\\n'); print(json.dumps([{'shop': 1, 'name': 'Nord'}]))"
    sql = "SELECT name, sum(amount) AS total FROM sales JOIN fetch_ USING (shop) GROUP BY name"
    lines = {
        line["id"]: line
        for line in client.run(
            task("command", "fetch_", args=[sys.executable, "-c", sold]),
            task(
                "tool",
                "more",
                ["fetch_"],
                tool="append_file",
                path="sales.csv",
                content="{{ deps.fetch_.stdout[0].shop }},7\n",
            ),
            task("analysis", "sum", ["fetch_", "more"], sql=sql, files={"sales": "sales.csv"}),
            task("analysis", "file", ["more"], sql="FROM s", files={"s": "sales.csv"}, output="out/sales.parquet"),
            task("tool", "list", ["file"], tool="list_files", recursive=True),
            task(
                "tool", "report", ["sum"], tool="write_file", path="report.txt", content="{{ deps.sum.rows[0].total }}"
            ),
            task("command", "out", ["report"], args=["cat", "report.txt"]),
        )
    }
    assert {name: line["error"] for name, line in lines.items() if not line["ok"]} == {}
    assert lines["sum"]["result"]["rows"] == [{"name": "Nord", "total": 9.5}]
    assert [entry["path"] for entry in lines["list"]["result"]["files"]][:2] == ["out", "out/sales.parquet"]
    assert lines["out"]["result"]["stdout"] == 9.5
    (flow,) = {line["flow"] for line in lines.values()}
    assert (daemon.state / "workspace" / "flows" / str(flow) / "report.txt").read_text() == "9.5"
    assert (daemon.state / "workspace").stat().st_mode & 0o777 == 0o700


def test_flows_have_files_of_their_own_and_in_common(client: Raw) -> None:
    client.run(task("tool", "own", tool="write_file", path="f", content="x"))
    client.run(task("tool", "common", tool="write_file", path="f", content="y", workspace="team"))
    lines = client.run(
        task("tool", "own", tool="read_file", path="f"),
        task("tool", "common", tool="read_file", path="f", workspace="team"),
        task("tool", "out", tool="read_file", path="../../shared/team/f"),
    )
    found = {line["id"]: line["result"]["text"] if line["ok"] else line["error"]["code"] for line in lines}
    assert found == {"own": "not_found", "common": "y", "out": "outside_workspace"}


def test_what_can_be_refused_is_refused_when_it_is_submitted(client: Raw) -> None:
    for bad, place in [
        (task("tool", "a", tool="rm", path="x"), ".tool"),
        (task("tool", "a", tool="read_file", path=7), ".path"),
        (task("tool", "a", tool="list_files", workspace="../x"), ".workspace"),
        (task("analysis", "a", sql=""), ".sql"),
        (task("analysis", "a", sql="FROM t", files={"t": 1}), ".files.t"),
        (task("analysis", "a", sql="FROM t", format="csv"), ""),
        (task("command", "a", args=["true"], workspace="a/b"), ".workspace"),
    ]:
        with pytest.raises(Refusal) as caught:
            client.submit(bad)
        assert (caught.value.code, caught.value.path) == ("invalid_data", f"tasks[0].data{place}")


def test_what_is_off_stays_off(daemon: Daemon, client: Raw) -> None:
    lines = client.run(
        task("tool", "shell", tool="shell", command="true"),
        task("tool", "here", tool="fetch_url", url="http://127.0.0.1:1/"),
        task("tool", "there", tool="fetch_url", url="http://169.254.169.254/latest/meta-data/"),
    )
    assert {line["id"]: line["error"]["code"] for line in lines} == {
        "shell": "not_allowed",
        "here": "refused_address",
        "there": "refused_address",
    }


def test_a_query_that_takes_too_long_is_ended_politely(daemon: Daemon, client: Raw) -> None:
    """It is the query's process that ends, not the worker."""
    before = {worker["pid"] for worker in client("workers")["workers"] if worker["kind"] == "blocking"}
    endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3"
    (line,) = client.run({**task("analysis", "a", sql=endless), "timeout": 0.5})
    assert (line["state"], line["error"]["code"]) == ("failed", "timeout")
    assert before == {worker["pid"] for worker in client("workers")["workers"] if worker["kind"] == "blocking"}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node")
def test_the_example_in_another_language(daemon: Daemon, client: Raw, tmp_path: Path) -> None:
    script = str(EXAMPLES / "other-languages" / "worker.mjs")
    lines = client.run(
        task("echo", "texts", texts=["One two", "two über drei"]),
        task("command", "count", ["texts"], args=["node", script]),
        task(
            "analysis",
            "best",
            ["count"],
            sql="FROM words ORDER BY count DESC, word LIMIT 1",
            files={"words": "words.csv"},
        ),
        task("command", "bad", args=["node", script], stdin={"texts": 1}),
        task("command", "worse", args=["node", script], stdin="no json"),
    )
    found = {line["id"]: line for line in lines}
    assert found["count"]["result"]["stdout"]["words"] == 4
    assert found["best"]["result"]["rows"] == [{"word": "two", "count": 2}]
    logged = client("logs", ref=found["count"]["number"])["lines"]
    assert [entry["text"] for entry in logged] == ["1 of 2 texts", "2 of 2 texts"]
    assert [found[name]["error"]["code"] for name in ("bad", "worse")] == ["data_error", "data_error"]


def test_the_client_submits_them_too(daemon: Daemon, tmp_path: Path) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text(
        "tasks:\n"
        '  - {id: words, type: tool, data: {tool: write_file, path: w.csv, content: "word\\na\\nb\\n"}}\n'
        "  - {id: n, type: analysis, data: {sql: 'SELECT count(*) AS n FROM w', files: {w: w.csv}}, deps: [words]}\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "gemflowctl",
            "--endpoint",
            daemon.endpoint,
            "submit",
            "-f",
            str(flow),
            "--wait",
            "--json",
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"rows": [{"n": 2}]' in done.stdout or '"rows":[{"n":2}]' in done.stdout
