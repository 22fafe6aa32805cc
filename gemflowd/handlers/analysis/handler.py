"""The task type `analysis`: a query over results, values and files.

Covers: which tables there are, under which limits, and where the rows go. The query itself runs in a process of its own (`engine`),
which is shut in before it sees it (`sandbox`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import msgpack

from gemflowd.handlers.analysis.tables import as_lines, columns_of, rows_of
from gemflowd.handlers.command import max_result
from gemflowd.handlers.errors import Permanent, Transient
from gemflowd.handlers.registry import task
from gemflowd.handlers.subprocesses import OutputTooLarge, Program, run_program
from gemflowd.handlers.workspace import NAME_SCHEMA, workspace

if TYPE_CHECKING:
    from gemflowd.handlers.workspace.files import Files
    from gemflowd.worker.context import Context

_MB: Final = 1024 * 1024
_DEFAULT_LIMIT: Final = 10_000
_DEFAULT_MEMORY_MB: Final = 512
_DEFAULT_MAX_FILE_MB: Final = 1024
_MARGIN: Final = 64 * 1024  # an answer is a little more than the result
#: What the process may see of this one's environment. By the lease it is found, should the daemon be killed.
_KEPT: Final = ("GEMFLOW_LEASE", "PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}
_FORMAT: Final[dict[str, Any]] = {"enum": ["csv", "json", "parquet"]}
_PATH: Final[dict[str, Any]] = {"type": "string", "minLength": 1, "maxLength": 4096}
_PATHS: Final[dict[str, Any]] = {"minLength": 1, "maxLength": 4096, "minItems": 1, "maxItems": 100, "items": _PATH}

_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "sql": {"type": "string", "minLength": 1, "maxLength": 100_000},
        "files": {
            "type": "object",
            "maxProperties": 100,
            "additionalProperties": {
                "type": ["string", "array", "object"],
                **_PATHS,
                "required": ["path"],
                "properties": {"path": {"type": ["string", "array"], **_PATHS}, "format": _FORMAT},
                "additionalProperties": False,
            },
        },
        "values": {"type": "object"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 1_000_000},
        "output": _PATH,
        "format": _FORMAT,
        "workspace": NAME_SCHEMA,
    },
    "required": ["sql"],
    "dependentRequired": {"format": ["output"]},
    "additionalProperties": False,
}


@task("analysis", schema=_SCHEMA)
def analysis(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Run SQL, as DuckDB knows it, over the results of dependencies, files of the workspace and values.

    Data:
        sql: one or more statements; the last one's rows are the result. A dependency's result is a table with its id.
        files: `{table: path | [paths] | {path, format}}`; CSV, JSON or Parquet.
        values: `{table: rows}`.
        limit: rows of the result, 10,000 where it is left out; `truncated` says that there were more.
        output: a file of the workspace that gets the rows instead, all of them.
        format: `csv`, `json` or `parquet`, for `output`; by its name where it is left out.
        workspace: a name, for a workspace that flows share; otherwise the flow's own.

    Returns:
        `{columns, rows, row_count, truncated}`, or `{path, format, size, row_count}` with `output`.

    Raises:
        Permanent: `not_installed`, `sql_error`, `not_allowed`, `out_of_memory`, `bad_format`, `result_too_large`, and for files as `tool`.
        Transient: `analysis_failed`, `not_started`, and for files as `tool`.
    """
    if find_spec("duckdb") is None:
        raise Permanent("DuckDB is not installed: pip install 'gemflow[analysis]'", code="not_installed")
    with ExitStack() as stack:
        question: dict[str, Any] = {
            "sql": data["sql"],
            "limit": data.get("limit", _DEFAULT_LIMIT),
            "memory": _memory(context),
            "threads": int(context.settings.get("analysis_threads") or 1),
            "max_file": int(context.settings.get("analysis_max_file_mb") or _DEFAULT_MAX_FILE_MB) * _MB,
            "tables": [*_tables("deps", context.results), *_tables("main", data.get("values", {}))],
            "sources": [],
            "output": None,
        }
        if data.get("files") or "output" in data:
            files = stack.enter_context(workspace(context, data.get("workspace")))
            question["sources"] = [_source(name, said, files, stack) for name, said in data.get("files", {}).items()]
            if "output" in data:
                descriptor = stack.enter_context(files.replacing(data["output"]))
                kind = data.get("format") or _format_of(data["output"])
                question["output"] = {"path": data["output"], "descriptor": descriptor, "format": kind}
        answer = _ask(question, context)
        if question["output"] is None:
            return answer
        size = os.fstat(question["output"]["descriptor"]).st_size
    return {"path": data["output"], "format": question["output"]["format"], "size": size, **answer}


def _memory(context: Context) -> int:
    """Bytes that the attempt may use."""
    # The context says it where the task has a cap of its own; else it is what a worker may use.
    own = getattr(context, "memory_mb", None)
    return int(own or context.settings.get("memory_mb") or _DEFAULT_MEMORY_MB) * _MB


def _tables(schema: str, values: Mapping[Any, Any]) -> list[dict[str, Any]]:
    return [
        {"schema": schema, "name": str(name), "lines": as_lines(rows_of(value)), "columns": columns_of(value)}
        for name, value in values.items()
    ]


def _source(name: str, said: Any, files: Files, stack: ExitStack) -> dict[str, Any]:
    given = said["path"] if isinstance(said, dict) else said
    paths = given if isinstance(given, list) else [given]
    kinds = {said["format"]} if isinstance(said, dict) and "format" in said else {_format_of(path) for path in paths}
    if len(kinds) > 1 or len({path.endswith(".gz") for path in paths}) > 1:
        raise Permanent(f"the files of the table {name!r} have several formats", code="bad_format")
    return {
        "name": name,
        "paths": paths,
        "descriptors": [stack.enter_context(files.pinned(path)) for path in paths],
        "format": kinds.pop(),
        "compressed": paths[0].endswith(".gz"),
    }


def _format_of(path: str) -> str:
    extension = os.path.splitext(path.removesuffix(".gz").lower())[1]  # noqa: PTH122 - a path of the workspace, not of ours
    if extension not in _FORMATS:
        raise Permanent(
            f"{path!r}: its name does not say whether it is CSV, JSON or Parquet; use `format`", code="bad_format"
        )
    return _FORMATS[extension]


def _ask(question: dict[str, Any], context: Context) -> dict[str, Any]:
    """Start the process, give it the question, and take the answer."""
    tail: deque[str] = deque(maxlen=3)

    def log(line: str) -> None:
        tail.append(line)
        context.log(line, "stderr")

    descriptors = [descriptor for source in question["sources"] for descriptor in source["descriptors"]]
    if question["output"] is not None:
        descriptors.append(question["output"]["descriptor"])
    most = max_result(context)
    program = Program(
        args=[sys.executable, "-P", "-m", "gemflowd.handlers.analysis.engine"],
        # One arena a thread would be counted as memory that is used.
        env={"MALLOC_ARENA_MAX": "1", **{name: os.environ[name] for name in _KEPT if name in os.environ}},
        cwd="/",
        stdin=msgpack.packb(question, unicode_errors="surrogatepass"),
        pass_fds=(*context.pass_fds, *descriptors),
        max_output=most + _MARGIN,
        grace=context.grace,
    )
    try:
        status, output = run_program(program, started=context.started_process, log=log)
    except OutputTooLarge:
        message = (
            f"the rows have more than the {most} bytes that the setting max_result_mb allows: use `limit` or `output`"
        )
        raise Permanent(message, code="result_too_large") from None
    if status != 0:
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        raise Transient(f"the query's process ended with {how}: {' '.join(tail)[-500:]}", code="analysis_failed")
    answer: dict[str, Any] = msgpack.unpackb(output, strict_map_key=False)
    if "error" in answer:
        code, message = answer["error"]
        raise Permanent(message, code=code)
    return answer
