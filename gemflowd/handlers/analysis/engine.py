"""The process that runs one query, started by `handler` and gone with it.

A process of its own, because DuckDB starts threads, because its memory and what it may open can then be bounded by the kernel for it
alone, and because it can be ended at any moment. It gets a question on its standard input and writes an answer to its standard output,
both MessagePack: see `Question`. Nothing of the query is looked at before `sandbox` has shut this process in.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, TypedDict

import duckdb
import msgpack

from gemflowd.handlers.analysis import sandbox
from gemflowd.handlers.analysis.tables import cell, from_json, names_of

_MB: Final = 1024 * 1024
_FETCHED: Final = 1000
#: Of a question's memory: for DuckDB's own buffers, and for everything in this process. The rest is the worker's.
_BUFFERS: Final = 0.6
_EVERYTHING: Final = 0.85
#: Statements that a query may be made of. Others open files, load code or change what is locked.
_STATEMENTS: Final = frozenset(
    {"SELECT", "EXPLAIN", "CREATE", "CREATE_FUNC", "INSERT", "UPDATE", "DELETE", "MERGE_INTO", "ALTER", "DROP", "MULTI"}
)
_READERS: Final = {
    "csv": "read_csv({files}, union_by_name = true, buffer_size = {buffer}{compression})",
    "json": "read_json({files}, union_by_name = true, maximum_object_size = {buffer}{compression})",
    "parquet": "read_parquet({files}, union_by_name = true)",
}
#: Bytes that a thread reads of CSV at a time, and of the largest object in JSON: as a part of the memory, and at least.
_BUFFER: Final = 1 / 32
_LEAST_BUFFER: Final = 4 * _MB
#: Values come as JSON, one row a line; what they are is looked for in all of them.
_VALUES: Final = (
    "read_json({files}, format = 'newline_delimited', sample_size = -1, map_inference_threshold = -1, "
    "maximum_object_size = {longest})"
)
_WRITERS: Final = {
    "csv": "FORMAT csv, HEADER",
    "json": "FORMAT json",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}


class Table(TypedDict):
    schema: str
    name: str
    lines: bytes
    columns: list[str]  # where there are no lines


class Source(TypedDict):
    name: str
    paths: list[str]  # as the task named them
    descriptors: list[int]
    format: str
    compressed: bool


class Output(TypedDict):
    path: str
    descriptor: int
    format: str


class Question(TypedDict):
    sql: str
    limit: int  # rows
    memory: int  # bytes
    threads: int
    max_file: int  # bytes
    tables: list[Table]
    sources: list[Source]
    output: Output | None


class Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def main() -> None:
    question: Question = msgpack.unpackb(sys.stdin.buffer.read(), strict_map_key=False)
    try:
        answer = answer_to(question)
    except Refused as refused:
        answer = {"error": [refused.code, _with_names(refused.message, question)]}
    except duckdb.Error as error:
        answer = {"error": [*_said(error, question)]}
    except MemoryError:
        answer = {"error": ["out_of_memory", "the query needs more memory than the task may have"]}
    try:
        data = msgpack.packb(answer, unicode_errors="replace")
    except ValueError:  # JSON may be nested as deep as it likes
        data = msgpack.packb({"error": ["bad_result", "a value of the result is nested too deeply"]})
    except MemoryError:
        data = msgpack.packb({"error": ["out_of_memory", "the result needs more memory than the task may have"]})
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    os._exit(0)  # what DuckDB would tidy up ends with the process


def answer_to(question: Question) -> dict[str, Any]:
    """Run the query: `{columns, rows, row_count, truncated}`, or `{row_count}` where it goes to a file.

    Raises:
        Refused, duckdb.Error, MemoryError: it failed.
    """
    values = [_in_memory(table["lines"]) for table in question["tables"]]
    readable = [descriptor for source in question["sources"] for descriptor in source["descriptors"]]
    writable = [question["output"]["descriptor"]] if question["output"] is not None else []
    sandbox.limit(int(question["memory"] * _EVERYTHING), question["max_file"])
    connection = _connect(question)
    shut_in = sandbox.shut_in(readable, writable)  # values lie in memory, which is no file to it
    connection.execute(f"SET threads = {question['threads']}")
    _allow(connection, [*readable, *values, *writable])
    connection.execute("CREATE SCHEMA deps")
    for table, descriptor in zip(question["tables"], values, strict=True):
        _make_table(connection, table, descriptor)
        os.close(descriptor)
    for source in question["sources"]:
        # Without Landlock nothing may be left that a query could write to: then files are read as a whole before it runs.
        _make_source(connection, source, "VIEW" if shut_in else "TABLE", question["memory"])
    _lock(connection, [*(readable if shut_in else []), *writable])
    return _run(connection, question)


def _in_memory(data: bytes) -> int:
    descriptor = os.memfd_create("values")
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    return descriptor


def _connect(question: Question) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        ":memory:",
        config={
            # A thread that is there before this process is shut in would not be. DuckDB starts none until it is told to.
            "threads": 1,
            "async_threads": 0,
            "memory_limit": f"{int(question['memory'] * _BUFFERS)}B",
            "temp_directory": "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "allow_extension_repositories": "forbidden",
            "allow_persistent_secrets": False,
            "python_enable_replacements": False,
        },
    )


def _allow(connection: duckdb.DuckDBPyConnection, descriptors: Iterable[int]) -> None:
    connection.execute(f"SET allowed_paths = {_paths(descriptors)}")


def _lock(connection: duckdb.DuckDBPyConnection, descriptors: Iterable[int]) -> None:
    """Nothing but these files from now on, and nobody changes that."""
    _allow(connection, descriptors)
    for statement in (
        "SET enable_external_access = false",
        "SET search_path = 'main,deps'",
        "SET lock_configuration = true",
    ):
        connection.execute(statement)


def _make_table(connection: duckdb.DuckDBPyConnection, table: Table, descriptor: int) -> None:
    name = f"{_quoted(table['schema'])}.{_quoted(table['name'])}"
    if not table["lines"]:
        columns = ", ".join(f"NULL AS {_quoted(column)}" for column in names_of(table["columns"]))
        connection.execute(f"CREATE TABLE {name} AS SELECT {columns} LIMIT 0")
        return
    longest = max(_MB, 1 + max(map(len, table["lines"].splitlines())))
    connection.execute(f"CREATE TABLE {name} AS FROM {_VALUES.format(files=_paths([descriptor]), longest=longest)}")


def _make_source(connection: duckdb.DuckDBPyConnection, source: Source, kind: str, memory: int) -> None:
    compression = ", compression = 'gzip'" if source["compressed"] else ""
    buffer = max(_LEAST_BUFFER, int(memory * _BUFFER))
    reader = _READERS[source["format"]].format(
        files=_paths(source["descriptors"]), compression=compression, buffer=buffer
    )
    connection.execute(f"CREATE {kind} main.{_quoted(source['name'])} AS FROM {reader}")


def _run(connection: duckdb.DuckDBPyConnection, question: Question) -> dict[str, Any]:
    statements = connection.extract_statements(question["sql"])
    if not statements:
        raise Refused("sql_error", "there is no statement in `sql`")
    for statement in statements:
        if statement.type.name not in _STATEMENTS:
            raise Refused("not_allowed", f"an analysis has no {statement.type.name} statements")
    for statement in statements[:-1]:
        connection.execute(statement)
    output = question["output"]
    if output is None:
        return _rows(connection.execute(statements[-1]), question["limit"])
    if statements[-1].type.name != "SELECT":
        raise Refused("sql_error", "the last statement must be a SELECT, whose rows go to the file")
    query = _without_end(statements[-1].query)
    target = f"COPY ({query}) TO {_path(output['descriptor'])} ({_WRITERS[output['format']]}, USE_TMP_FILE false)"
    found = connection.execute(target).fetchone()
    return {"row_count": found[0] if found else 0}


def _without_end(sql: str) -> str:
    """A statement without its semicolon and the comments behind it, so that it can stand in brackets."""
    encoded = sql.encode()  # the places of tokens are counted in bytes
    end = len(encoded)
    for position, kind in reversed(duckdb.tokenize(sql)):
        if kind != duckdb.token_type.comment and encoded[position : position + 1] != b";":
            break
        end = position
    return encoded[:end].decode()


def _rows(result: duckdb.DuckDBPyConnection, limit: int) -> dict[str, Any]:
    described = result.description or []
    columns = names_of([column[0] for column in described])
    readers: list[Callable[[Any], Any]] = [from_json if str(column[1]) == "JSON" else cell for column in described]
    rows: list[dict[str, Any]] = []
    while len(rows) <= limit and (some := result.fetchmany(min(_FETCHED, limit + 1 - len(rows)))):
        rows += ({name: read(value) for name, read, value in zip(columns, readers, row, strict=True)} for row in some)
    truncated = len(rows) > limit
    del rows[limit:]
    return {"columns": columns, "rows": rows, "row_count": len(rows), "truncated": truncated}


def _said(error: duckdb.Error, question: Question) -> tuple[str, str]:
    """The code, and what DuckDB says."""
    if isinstance(error, duckdb.OutOfMemoryException):  # its advice, to change settings, is for others
        memory = question["memory"] // _MB
        return "out_of_memory", f"the query needs more memory than it may have; the task may use {memory} MB in all"
    code = "not_allowed" if isinstance(error, duckdb.PermissionException) else "sql_error"
    return code, _with_names(str(error), question)


def _with_names(message: str, question: Question) -> str:
    """A message that speaks of the task's files, not of our descriptors."""
    names = [
        pair for source in question["sources"] for pair in zip(source["descriptors"], source["paths"], strict=True)
    ]
    if question["output"] is not None:
        names.append((question["output"]["descriptor"], question["output"]["path"]))
    for descriptor, path in sorted(names, reverse=True):  # 12 before 1
        message = message.replace(f"/proc/self/fd/{descriptor}", path)
    return message[:4000]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _path(descriptor: int) -> str:
    return f"'/proc/self/fd/{descriptor}'"


def _paths(descriptors: Iterable[int]) -> str:
    return f"[{', '.join(map(_path, descriptors))}]"


if __name__ == "__main__":
    main()
