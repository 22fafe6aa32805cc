"""What can go wrong for a client, one tree for library and command line.

ClientError                 exit code
├── InvalidInput            2   the request can't be made: a reference, a file's line, a value
├── NoDaemon                3   nobody listens at the endpoint
│   └── ConnectionLost      3   the daemon went away before it answered; whether it did it is not known
├── RefusedByDaemon         4   the daemon's refusal, with its stable code
│   └── BadReply            4   a reply that this client can't read
├── ReplyTimeout            5   no reply in time
├── WaitTimeout             5   the waited-for did not end in time
└── TaskFailed              1   `Result.unwrap` of a task that did not succeed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemflowd.model.errors import GemflowError

if TYPE_CHECKING:
    from gemflowctl.results import Result


class ClientError(GemflowError):
    """Root of what the client raises. `code` is stable, `exit_code` is what the command line ends with."""

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        #: More for the error object of --json, such as the UUID to resume a submission with.
        self.details: dict[str, Any] = {}


class Interrupted(ClientError):
    """Ctrl-C, with `details` that help to go on."""

    code = "interrupted"
    exit_code = 130


class InvalidInput(ClientError, ValueError):
    """What was asked for can't be sent; nothing was."""

    code = "invalid_input"
    exit_code = 2


class NoDaemon(ClientError):
    """Nobody listens at the endpoint, or we may not open it."""

    code = "no_daemon"
    exit_code = 3


class ConnectionLost(NoDaemon):
    """The daemon went away before it answered a request that is not safe to repeat."""

    code = "connection_lost"


class RefusedByDaemon(ClientError):
    """The daemon refused; nothing was changed. `code` is one of those in docs/protocol.md."""

    exit_code = 4

    def __init__(self, code: str, message: str, path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.code = code


class BadReply(RefusedByDaemon):
    """A reply that this client can't read: something else listens there, or a daemon of another version."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_reply", message)


class ReplyTimeout(ClientError):
    """The daemon did not answer in time, although something listens there."""

    code = "reply_timeout"
    exit_code = 5


class WaitTimeout(ClientError):
    """What was waited for did not end in time. `status` is the last answer of `wait`."""

    code = "wait_timeout"
    exit_code = 5

    def __init__(self, message: str, status: dict[str, Any]) -> None:
        super().__init__(message)
        self.status = status


class TaskFailed(ClientError):
    """A task ended without success; `result` says how."""

    code = "task_failed"

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result
