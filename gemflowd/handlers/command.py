"""The task type `command`: a program in any language, spoken to by its pipes.

Covers: what goes in (arguments, environment, standard input), what comes out (standard output as the result, standard
error as the task's log), and what an exit code means. Does not cover how the program is started, fed and ended
without leaving anything behind: `subprocesses`.
"""

from __future__ import annotations

import base64
import json
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Permanent, Transient
from gemflowd.handlers.registry import task
from gemflowd.handlers.subprocesses import OutputTooLarge, Program, run_program

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
        cwd: the directory it runs in.

    The program leads a process group; when it ends, what it left running in that group is killed. Exit code 0 gives
    `{stdout, exit_code}`, with `stdout` parsed where it is JSON (and as bytes where it is not UTF-8). 64 and 65
    fail the task at once; 75 and all others are tried again.

    Raises:
        Permanent: `not_found`, `not_executable`, `bad_arguments`, `usage`, `data_error`, `output_too_large`.
        Transient: `temporary`, `exit_code`, `signal`, `not_started`.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def log(line: str) -> None:
        tail.append(line)
        context.log(line, "stderr")

    limit = int(float(context.settings.get("max_result_mb") or _DEFAULT_MAX_RESULT_MB) * 1024 * 1024)
    program = Program(
        args=list(data["args"]),
        env={**context.process_environment(), **data.get("env", {})},
        cwd=data.get("cwd"),
        stdin=_standard_input(data, context),
        pass_fds=context.pass_fds,
        max_output=limit,
        grace=context.grace,
    )
    try:
        exit_code, output = run_program(program, started=context.started_process, log=log)
    except OutputTooLarge as error:
        raise Permanent(str(error), code="output_too_large") from None
    if exit_code == 0:
        return {"stdout": _result(output), "exit_code": 0}
    raise _failure(exit_code, data["args"][0], tail)


def _standard_input(data: dict[str, Any], context: Context) -> bytes | None:
    if "stdin" not in data:
        return _json(dict(context.results)) if context.results else None
    value = data["stdin"]
    if value is None or isinstance(value, bytes):
        return value
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else _json(value)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=_bytes_as_json).encode("utf-8", "surrogatepass")


def _bytes_as_json(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"{type(value).__name__} can't be written as JSON")


def _result(output: bytes) -> Any:
    """Standard output as a value: parsed JSON, else text, else (not UTF-8) bytes."""
    try:
        text = output.decode("utf-8")
    except UnicodeDecodeError:
        return output
    try:
        value = json.loads(text, parse_float=_float, parse_int=_integer, parse_constant=_refuse_constant)
        if "\\u" in text:  # an escaped lone surrogate is legal JSON, but no text that could be stored
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return text
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _integer(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:  # MessagePack has no larger ones; as text no digit is lost
        raise ValueError(text)
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)  # NaN and the infinities are not JSON


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
