"""The one tree of refusals. Each leaf has a stable `code` that goes over the wire.

    GemflowError
    ├── Refused          a request can't be done: the client's reply is `{code, message, path?}`
    │   └── Invalid      the request itself is wrong, at `path`
    ├── ConfigError      settings that can't work (exit code 78)
    └── StoreError       the database can't be trusted or can't be used: the daemon stops
        └── StoreFull    the disk is full: submissions are refused, the rest is tried again

Codes are listed with their meaning in `docs/protocol.md`; a test holds the two together.
"""

from __future__ import annotations

from typing import Final

#: Every code that a reply can carry, with the sentence that documents it.
CODES: Final[dict[str, str]] = {
    "bad_frame": "the frame is not one MessagePack map, or has parts that it must not have",
    "frame_too_large": "the frame is larger than the daemon accepts",
    "too_deep": "a value is nested more deeply than the daemon accepts",
    "protocol_version": "the envelope's `v` is not one that this daemon speaks",
    "unknown_op": "the envelope names an operation that does not exist",
    "missing_field": "a required field is not there",
    "unknown_field": "a field that this operation or task does not have",
    "wrong_type": "a field has a value of the wrong type",
    "invalid_value": "a field has a value that is out of range or malformed",
    "not_supported": "a field or value that is documented but that this version does not carry out yet",
    "unknown_type": "no handler is registered for the task's type",
    "invalid_data": "the task's data does not fit the schema of its type",
    "invalid_template": "a template in the task's data can't be parsed",
    "unknown_agent": "no persona has that name",
    "unknown_tool": "no tool has that name, or the settings have no such MCP server",
    "not_permitted": "the persona may use none of the tools that the task asks for",
    "duplicate_id": "two tasks of one flow have the same id",
    "unknown_dependency": "a dependency names a task that does not exist",
    "cycle": "the dependencies of a flow form a circle",
    "submission_reused": "the submission's UUID was used before, with other content",
    "submission_offset": "a chunk does not begin where the daemon has arrived; the message says where that is",
    "duplicate_key": "another task holds this unique key; `message` names it",
    "no_price": "a task's model has no price in prices.toml, and a budget in money counts it",
    "growth_limit": "a task adds more tasks to its flow, or deeper ones, than the settings allow",
    "stale_attempt": "the attempt that speaks is not the live one of its task any more",
    "version_mismatch": "the value has another version than the one that was to be replaced",
    "too_large": "a value, or all of them together, would be larger than the settings allow",
    "too_many_schedules": "there are 10,000 schedules already; remove one first",
    "submission_closed": "the flow of that submission is complete and takes no more chunks",
    "not_found": "no task, flow, submission or setting of that name exists",
    "conflict": "the thing is in a state in which this can't be done",
    "invalid_config": "the settings could not be read again; the message lists every problem, and nothing was changed",
    "draining": "the daemon is stopping and takes no new work",
    "overloaded": "too many requests of this client are unanswered",
    "queue_full": "the queue holds `max_queued_bytes` already; running work goes on. Submit again later",
    "disk_full": "the disk is full, or nearly; running work goes on",
    "internal": "a defect of the daemon; its log has the traceback",
}


#: Characters of what was sent that a refusal says again.
_ECHOED: Final = 80


def echo(value: object) -> str:
    """What was sent, for a refusal's message: quoted, and not all of it where it is long."""
    if isinstance(value, str):
        return repr(value if len(value) <= _ECHOED else f"{value[:_ECHOED]}…")
    shown = repr(value)
    return shown if len(shown) <= _ECHOED else f"{shown[:_ECHOED]}…"


class GemflowError(Exception):
    """Root of everything that the project raises on purpose."""


class Refused(GemflowError):
    """A request that can't be done.

    Args:
        code: one of `CODES`.
        message: a sentence for a person, with the remedy where there is one.
        path: the offending field, as in `tasks[3].priority`.
    """

    def __init__(self, code: str, message: str, path: str | None = None) -> None:
        assert code in CODES, code
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path

    def to_wire(self) -> dict[str, str]:
        wire = {"code": self.code, "message": self.message}
        if self.path is not None:
            wire["path"] = self.path
        return wire


class Invalid(Refused):
    """The request itself is wrong; nothing of it was stored."""


class ConfigError(GemflowError):
    """Settings that can't work. `problems` lists every one that was found, not only the first."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class StoreError(GemflowError):
    """The database can't be used or can't be trusted."""


class StoreFull(StoreError):
    """The disk is full. Nothing of the turn was stored."""
