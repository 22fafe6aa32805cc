"""The task type `analysis` with the real DuckDB: what it reads, what it gives, and that nothing leads out of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from gemflowd.handlers.analysis import handler, sandbox
from gemflowd.handlers.analysis.handler import analysis
from gemflowd.handlers.errors import AttemptCancelled, Permanent
from gemflowd.handlers.workspace import workspace
from gemflowd.model.values import check_value
from tests.helpers.contexts import make_context

pytest.importorskip("duckdb")

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "ws" / "flows" / "7"
    found.mkdir(parents=True)
    return found


@pytest.fixture
def run(root: Path) -> Run:
    def run(
        sql: str, results: dict[str, Any] | None = None, settings: dict[str, Any] | None = None, **data: Any
    ) -> Any:
        known = {"workspace": str(root.parents[1]), "memory_mb": 512, **(settings or {})}
        context, _ = make_context("analysis", results=results, settings=known)
        result = analysis({"sql": sql, **data}, context)
        check_value(result, "result")
        return result

    return run


def refused(action: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Permanent) as caught:
        action()
    return caught.value.code, caught.value.message


def test_results_values_and_files_together(run: Run, root: Path) -> None:
    (root / "sales.csv").write_text("shop,amount,day\n1,2.5,2024-01-01\n2,10,2024-01-02\n1,4,2024-01-03\n")
    (root / "more.jsonl").write_text('{"shop": 2, "amount": 100.25, "day": "2024-02-01"}\n')
    found = run(
        """
        SELECT name, sum(amount) AS total, max(day) AS "last", count(*) AS n, any_value(factor) * 1.10 AS f
        FROM (FROM sales UNION ALL BY NAME FROM more) JOIN "find-shops" USING (shop) CROSS JOIN factors
        GROUP BY name ORDER BY name
        """,
        {"find-shops": {"stdout": [{"shop": 1, "name": "Nord"}, {"shop": 2, "name": "Süd"}], "exit_code": 0}},
        files={"sales": "sales.csv", "more": ["more.jsonl"]},
        values={"factors": [{"factor": 2}]},
    )
    assert found == {
        "columns": ["name", "total", "last", "n", "f"],
        "rows": [
            {"name": "Nord", "total": 6.5, "last": "2024-01-03", "n": 2, "f": 2.2},
            {"name": "Süd", "total": 110.25, "last": "2024-02-01", "n": 2, "f": 2.2},
        ],
        "row_count": 2,
        "truncated": False,
    }


def test_what_has_the_same_name_is_told_apart(run: Run) -> None:
    sql = "SELECT a.x AS own, b.x AS dep FROM t a, deps.t b"
    assert run(sql, {"t": [{"x": "dep"}]}, values={"t": [{"x": "own"}]})["rows"] == [{"own": "own", "dep": "dep"}]


def test_one_analysis_after_the_other(run: Run) -> None:
    first = run("SELECT 1 AS a, 'x' AS b WHERE false")
    assert run("SELECT count(a) AS n FROM first", {"first": first})["rows"] == [{"n": 0}]
    second = run("SELECT i, [i] AS l, {'k': i} AS s FROM range(3) t(i)")
    assert run("SELECT sum(i + l[1] + s.k) AS n FROM second", {"second": second})["rows"] == [{"n": 9}]


def test_several_statements(run: Run) -> None:
    sql = """
    CREATE TEMP TABLE t AS SELECT i, i % 3 AS r FROM range(10) s(i); -- with a comment; in it
    DELETE FROM t WHERE i = 0;
    CREATE MACRO twice(x) AS 2 * x;
    PIVOT t ON r USING twice(sum(i));
    """
    assert run(sql)["rows"] == [{"0": 36, "1": 24, "2": 30}]


def test_limit_and_equal_names(run: Run) -> None:
    found = run("SELECT i, i FROM range(10) t(i)", limit=3)
    assert found["rows"] == [{"i": 0, "i_1": 0}, {"i": 1, "i_1": 1}, {"i": 2, "i_1": 2}]
    assert (found["row_count"], found["truncated"]) == (3, True)
    assert run("SELECT i FROM range(10) t(i)", limit=10)["truncated"] is False


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_files_that_are_written_can_be_read(run: Run, root: Path, kind: str) -> None:
    sql = "SELECT i, 'text, ' || i AS t, DATE '2024-01-01' + i::INT AS d FROM range(5000) t(i); -- all"
    written = run(sql, output=f"out/data.{kind}")
    size = (root / "out" / f"data.{kind}").stat().st_size
    assert written == {"path": f"out/data.{kind}", "format": kind, "size": size, "row_count": 5000}
    sql = "SELECT count(*) AS n, sum(i) AS s, max(d)::DATE AS d, any_value(t) LIKE 'text, %' AS t FROM x"
    found = run(sql, files={"x": f"out/data.{kind}"})["rows"]
    assert found == [{"n": 5000, "s": 12497500, "d": "2037-09-08", "t": True}]
    assert [path.name for path in (root / "out").iterdir()] == [f"data.{kind}"]


def test_formats_are_named_or_guessed(run: Run, root: Path) -> None:
    import gzip

    (root / "a.csv.gz").write_bytes(gzip.compress(b"x\n1\n"))
    (root / "plain").write_text("x\n2\n")
    sql = "SELECT (SELECT x FROM a) + (SELECT x FROM b) AS s"
    assert run(sql, files={"a": "a.csv.gz", "b": {"path": "plain", "format": "csv"}})["rows"] == [{"s": 3}]
    for files in ({"a": "plain"}, {"a": ["a.csv.gz", "b.csv"]}, {"a": ["a.csv", "b.json"]}):
        assert refused(lambda files=files: run("FROM a", files=files))[0] == "bad_format"  # type: ignore[misc]
    assert refused(lambda: run("SELECT 1", output="x.xlsx"))[0] == "bad_format"


def test_what_is_wrong_is_said_in_the_terms_of_the_task(run: Run, root: Path) -> None:
    code, message = refused(lambda: run("SELECT\n  nothing FROM range(1)"))
    assert code == "sql_error"
    assert "nothing" in message
    assert refused(lambda: run("  -- nothing at all"))[0] == "sql_error"
    (root / "bad.parquet").write_text("no parquet")
    code, message = refused(lambda: run("FROM t", files={"t": "bad.parquet"}))
    assert (code, "bad.parquet" in message, "/proc/" in message) == ("sql_error", True, False)
    assert refused(lambda: run("FROM t", files={"t": "../secret.csv"}))[0] == "outside_workspace"
    assert refused(lambda: run("SELECT 1", output="../x.csv"))[0] == "outside_workspace"
    assert refused(lambda: run("CREATE TABLE t (a INT)", output="x.csv"))[0] == "sql_error"
    assert not (root / "x.csv").exists()


@pytest.mark.parametrize("depth", [100, 400, 600, 900, 5000])
def test_json_of_any_depth_is_an_answer_or_a_refusal(depth: int) -> None:
    context, _ = make_context("analysis", settings={"memory_mb": 512})
    try:
        result = analysis({"sql": f"SELECT CAST(repeat('[', {depth}) || repeat(']', {depth}) AS JSON) AS a"}, context)
    except Permanent as refusal:
        assert refusal.code == "bad_result"
        assert depth > 400
    else:
        assert result["row_count"] == 1


def test_memory_and_size_are_bounded(run: Run, root: Path) -> None:
    for sql in (
        "SELECT count(*) FROM (SELECT DISTINCT i::VARCHAR || 'x' FROM range(30000000) t(i))",
        "SELECT repeat('x', 1000000000) AS x",  # these two DuckDB's own limit does not see
        "SELECT len(range(500000000)) AS x",
    ):
        assert refused(lambda sql=sql: run(sql, settings={"memory_mb": 200}))[0] == "out_of_memory"  # type: ignore[misc]
    big = "SELECT i AS column_with_a_name FROM range(200000) t(i)"
    assert refused(lambda: run(big, settings={"max_result_mb": 1}, limit=1_000_000))[0] == "result_too_large"
    code, message = refused(lambda: run("FROM range(1000000)", settings={"analysis_max_file_mb": 1}, output="big.csv"))
    assert (code, "large" in message) == ("sql_error", True)
    assert list(root.iterdir()) == []


def test_files_may_be_replaced_meanwhile(root: Path) -> None:
    """Between the moment when it is said which files may be read, and the reading."""
    context, _ = make_context(settings={"workspace": str(root.parents[1])})
    (root / "f.csv").write_text("x\n1\n")
    (root / "next").write_text("x\n2\n")
    with workspace(context) as files, files.pinned("f.csv") as descriptor:
        assert asked(descriptor, "SELECT x FROM input", REPLACING.format(root=root))["outcomes"][0].count("[{'x': 1}]")
    assert (root / "f.csv").read_text() == "x\n2\n"


def test_a_file_that_can_not_be_linked_is_copied(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    (root / "f.csv").write_text("x\n1\n")
    assert run("SELECT sum(x) AS s FROM f", files={"f": "f.csv"})["rows"] == [{"s": 1}]
    assert [path.name for path in root.iterdir()] == ["f.csv"]


def test_without_duckdb_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "find_spec", lambda name: None)
    code, message = refused(lambda: run("SELECT 1"))
    assert (code, "gemflow[analysis]" in message) == ("not_installed", True)


def test_cancel_ends_the_query(root: Path) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise AttemptCancelled

    context, said = make_context("analysis", settings={"memory_mb": 512})
    note = context._process_group
    assert note is not None

    def started(pid: int) -> None:
        note(pid)
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()

    context._process_group = started
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(AttemptCancelled):
            analysis(
                {"sql": "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3"},
                context,
            )
    finally:
        signal.signal(signal.SIGUSR1, before)
    (pid,) = said.process_groups
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# --- what must not work ---

#: Runs each statement on a connection that is locked as any other, and tells what became of each.
DRIVER = """
import sys
from gemflowd.handlers.analysis import engine, sandbox
real = engine._run
def attempt(connection, question, sql):
    try:
        return repr(real(connection, {**question, "sql": sql}))
    except Exception as error:
        return ["refused", type(error).__name__, str(error)[:300]]
engine._run = lambda connection, question: {
    "outcomes": [attempt(connection, question, sql) for sql in question["sql"].split(";;")], "landlock": landlocked[0]}
landlocked = [None]
shut = sandbox.shut_in
def note(*descriptors):
    landlocked[0] = shut(*descriptors)
    return landlocked[0]
sandbox.shut_in = note
MORE
engine.main()
"""
EVERY_STATEMENT = "engine._STATEMENTS = set(dir(engine.duckdb.StatementType))\n"
#: One wall is taken away: the other one alone must hold.
NO_LANDLOCK = EVERY_STATEMENT + "sandbox.version = lambda: 0"
ONLY_LANDLOCK = EVERY_STATEMENT + "engine._lock = lambda connection, descriptors: None"

LEAVING = [
    "FROM read_csv('{secret}')",
    "FROM read_csv('{secret}', header = false, columns = {{'a': 'VARCHAR'}})",
    "FROM '{secret}'",
    "FROM read_text('{secret}')",
    "FROM read_blob('{secret}')",
    "FROM read_json('{secret}')",
    "FROM read_parquet('{secret}')",
    "FROM sniff_csv('{secret}')",
    "FROM parquet_metadata('{secret}')",
    "FROM read_text('file://{secret}')",
    "FROM read_text(['{secret}'])",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_blob('/proc/self/fd/{input}/../../environ')",
    "FROM read_text('{inside}/other.csv')",
    "SELECT * FROM query('FROM read_text(''{secret}'')')",
    "FROM query_table('{secret}')",
    "CREATE VIEW leak AS FROM read_text('{secret}'); FROM leak",
    "CREATE TABLE leaked AS FROM read_text('{secret}')",
    "COPY (SELECT 1) TO '{place}/out.csv'",
    "WITH m AS (COPY (SELECT 1) TO '{place}/out.csv') SELECT 1",
    "COPY (SELECT 'overwritten') TO '/proc/self/fd/{input}' (FORMAT csv, USE_TMP_FILE false)",
    "WITH m AS (COPY (SELECT 'overwritten') TO '/proc/self/fd/{input}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1",
    "EXPORT DATABASE '{place}/export'",
    "IMPORT DATABASE '{place}'",
    "ATTACH '{place}/new.db'",
    "ATTACH '{secret}' AS s (TYPE sqlite)",
    "INSTALL httpfs",
    "INSTALL httpfs FROM '{place}'",
    "LOAD httpfs",
    "LOAD '{place}/x.duckdb_extension'",
    "CREATE EXTENSION REPOSITORY 'example.com'",
    "FROM read_csv('https://example.com/x.csv')",
    "FROM read_parquet('s3://bucket/x')",
    "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')",
    "SELECT getenv('HOME')",
    "PRAGMA enable_profiling = 'json'; PRAGMA profile_output = '{place}/p'",
]
SETTING = [
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['{secret}']",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET memory_limit = '100GB'",
    "SET threads = 64",
    "SET GLOBAL temp_directory = '{place}'",
    "PRAGMA memory_limit = '100GB'",
    "CALL enable_logging()",
    "SET python_enable_replacements = true",
    "FROM question",
    "SET secret_directory = '{place}'",
]


#: Before the query runs, but after all else, somebody else puts another file in the place of its input.
REPLACING = """
import os
ask, asked, tell, told = *os.pipe(), *os.pipe()
if os.fork() == 0:
    os.read(ask, 1)
    os.rename("{root}/next", "{root}/f.csv")
    os.write(told, b".")
    os._exit(0)
original = real
def real(connection, question):
    os.write(asked, b".")
    os.read(tell, 1)
    return original(connection, question)
"""


def asked(descriptor: int, sql: str, more: str, **environment: str) -> dict[str, Any]:
    """What became of statements, separated by `;;`, of a query with the table `input`."""
    source = {"name": "input", "paths": ["i"], "descriptors": [descriptor], "format": "csv", "compressed": False}
    question = {
        "sql": sql,
        "limit": 10,
        "memory": 512 << 20,
        "threads": 2,
        "max_file": 1 << 20,
        "tables": [],
        "sources": [source],
        "output": None,
    }
    done = subprocess.run(
        [sys.executable, "-c", DRIVER.replace("MORE", more)],
        input=msgpack.packb(question),
        capture_output=True,
        pass_fds=[descriptor],
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: dict[str, Any] = msgpack.unpackb(done.stdout)
    return answer


@pytest.mark.parametrize("more", ["", NO_LANDLOCK, ONLY_LANDLOCK], ids=["both walls", "DuckDB's", "the kernel's"])
def test_nothing_leads_out_of_a_query(tmp_path: Path, more: str) -> None:
    if more != NO_LANDLOCK and sandbox.version() == 0:
        pytest.skip("this kernel has no Landlock")
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "secret.csv").write_text("the,secret\n1,2\n")
    (tmp_path / "other.csv").write_text("the,secret\n1,2\n")
    (tmp_path / "input.csv").write_text("a\n1\n")
    statements = LEAVING + ([] if more == ONLY_LANDLOCK else SETTING)
    with (tmp_path / "input.csv").open("rb") as given:
        names = {"secret": tmp_path / "secret.csv", "place": place, "input": given.fileno(), "inside": tmp_path}
        sql = ";;".join(["SELECT a FROM input", *(statement.format(**names) for statement in statements)])
        answer = asked(given.fileno(), sql, more, HOME=str(place))
    assert answer["landlock"] is (more != NO_LANDLOCK)
    first, *rest = answer["outcomes"]
    assert "[{'a': 1}]" in first
    nothing = "'rows': []"  # of files that are there, none was found
    assert [
        sql for sql, said in zip(statements, rest, strict=True) if said[0] != "refused" and nothing not in said
    ] == []
    assert (tmp_path / "input.csv").read_text() == "a\n1\n"
    assert list(place.iterdir()) == []
    assert "the,secret" not in json.dumps(answer)
