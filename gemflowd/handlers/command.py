"""The task type `command`: a program in any language, spoken to by its pipes.

Covers: what goes in (arguments, environment, standard input, the directory it runs in), what comes out (standard output as the
result, standard error as the task's log), and what an exit code means. Does not cover how the program is started, fed and ended
without leaving anything behind: `subprocesses`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.contents import as_bytes, as_json, parsed
from gemflowd.handlers.errors import Permanent, Transient
from gemflowd.handlers.registry import task
from gemflowd.handlers.subprocesses import OutputTooLarge, Program, run_program
from gemflowd.handlers.workspace import NAME_SCHEMA, workspace

if TYPE_CHECKING:
    from gemflowd.worker.context import Context

#: Exit codes of sysexits.h that say that the input is wrong: trying again is useless.
_PERMANENT_EXITS: Final = {64: ("usage", "usage error"), 65: ("data_error", "data error")}
_TEMPORARY_EXIT: Final = 75  # EX_TEMPFAIL
_DEFAULT_MAX_RESULT_MB: Final = 16
_TAIL_LINES: Final = 10
_TAIL_CHARACTERS: Final = 2_000

_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "args": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "env": {"type": "object", "additionalProperties": {"type": "string"}},
        "stdin": {},
        "cwd": {"type": "string", "minLength": 1},
        "workspace": NAME_SCHEMA,
    },
    "required": ["args"],
    "additionalProperties": False,
}


@task("command", schema=_SCHEMA)
def command(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Run a program; its standard output is the result, its standard error the log.

    Data:
        args: the program and its arguments; no shell is involved.
        env: variables in addition to the worker's.
        stdin: a string goes in as it is, any other value as JSON, null means none. Where it is left out, the program
            gets `{id: result, …}` of the task's dependencies as JSON, or nothing when there are none.
        cwd: the directory it runs in: relative to the workspace, which is where it runs without one, or absolute.
        workspace: a name, for a workspace that flows share; otherwise the flow's own.

    The program leads a process group; when it ends, what it left running is killed, in whatever session it is. Exit code 0 gives
    `{stdout, exit_code}`, with `stdout` parsed where it is JSON (and as bytes where it is not UTF-8). 64 and 65
    fail the task at once; 75 and all others are tried again.

    Raises:
        Permanent: `not_found`, `not_executable`, `bad_arguments`, `usage`, `data_error`, `output_too_large`, and for `cwd`
            `outside_workspace`, `not_a_directory`.
        Transient: `temporary`, `exit_code`, `signal`, `not_started`.
    """
    environment = {**context.process_environment(), **data.get("env", {})}
    with _directory(data, context) as cwd:
        return run(list(data["args"]), environment, cwd, _standard_input(data, context), context)


def run(
    args: list[str], environment: dict[str, str], cwd: str | None, stdin: bytes | None, context: Context
) -> dict[str, Any]:
    """Run a program for a task: as `command`."""
    tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def log(line: str) -> None:
        tail.append(line)
        context.log(line, "stderr")

    program = Program(
        args=args,
        env=environment,
        cwd=cwd,
        stdin=stdin,
        pass_fds=context.pass_fds,
        max_output=max_result(context),
        grace=context.grace,
    )
    try:
        exit_code, output = run_program(program, started=context.started_process, log=log)
    except OutputTooLarge as error:
        raise Permanent(str(error), code="output_too_large") from None
    if exit_code == 0:
        return {"stdout": parsed(output), "exit_code": 0}
    raise _failure(exit_code, args[0], tail)


def max_result(context: Context) -> int:
    """Bytes of the largest result of a task."""
    return int(float(context.settings.get("max_result_mb") or _DEFAULT_MAX_RESULT_MB) * 1024 * 1024)


@contextmanager
def _directory(data: dict[str, Any], context: Context) -> Iterator[str | None]:
    """The directory that a program is to run in, as a path that is good while the block lasts."""
    cwd = data.get("cwd")
    # A context that was made without a daemon has no place for workspaces: then the program runs where we are.
    if (cwd is not None and cwd.startswith("/")) or not context.settings.get("workspace"):
        yield cwd
        return
    with workspace(context, data.get("workspace")) as files, files.directory_named(cwd or "") as descriptor:
        yield f"/proc/self/fd/{descriptor}"  # the child has it until it is another program: no name that could be changed


def _standard_input(data: dict[str, Any], context: Context) -> bytes | None:
    if "stdin" not in data:
        return as_json(dict(context.results)) if context.results else None
    return None if data["stdin"] is None else as_bytes(data["stdin"])


def _failure(exit_code: int, name: str, tail: deque[str]) -> Permanent | Transient:
    words = "\n".join(tail)[-_TAIL_CHARACTERS:].strip()
    said = f": {words}" if words else " and wrote nothing to standard error"
    if exit_code < 0:
        return Transient(f"{name} was ended by signal {-exit_code}{said}", code="signal")
    if exit_code in _PERMANENT_EXITS:
        code, meaning = _PERMANENT_EXITS[exit_code]
        return Permanent(f"{name} ended with exit code {exit_code} ({meaning}){said}", code=code)
    if exit_code == _TEMPORARY_EXIT:
        return Transient(f"{name} ended with exit code {exit_code} (temporary failure){said}", code="temporary")
    return Transient(f"{name} ended with exit code {exit_code}{said}", code="exit_code")
