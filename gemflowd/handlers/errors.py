"""What a handler raises to say how its attempt ended.

    HandlerError
    ├── Permanent      trying again is useless: the task fails at once
    ├── Transient      trying again may help; as any other exception, but with a code of the handler's choice
    ├── Again          another attempt at once, in another way: costs no try
    ├── RateLimited    a quota is used up: costs no try, the bucket sleeps for `retry_after` seconds
    └── RequestRefused what the handler asked the daemon for was refused: raised for it, not by it

Any other exception is an `error`: it is retried with backoff.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Instead:
    """Another way for the next attempt.

    Attributes:
        note: what that attempt finds in `context.note`, also after a crash: any value that MessagePack holds, 64 KiB at most.
        bucket: the limit that it falls under; None: as before. With another one its tries count anew.
        hold: why it is held until a person releases it (`gemflowctl release`), a sentence; None: it is not.
    """

    note: Any
    bucket: str | None = None
    hold: str | None = None


class HandlerError(Exception):
    """Root of the above.

    Args:
        message: a sentence for a person. Never put a secret in it.
        code: a short stable word, shown as `error.code`.
        usage: what the attempt cost although it failed, kept with the attempt.

    Attributes:
        instead: another way, taken where the task would fail otherwise: at the last of its tries, at once where they don't count.
    """

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, usage: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.usage = usage
        self.instead: Instead | None = None


class Permanent(HandlerError):
    default_code = "permanent"


class Transient(HandlerError):
    default_code = "transient"


class Again(HandlerError):
    """Another attempt at once, with a note for it. The handler counts (`context.agains`): the daemon stops at 100."""

    default_code = "again"

    def __init__(
        self, message: str, instead: Instead, *, code: str | None = None, usage: dict[str, object] | None = None
    ) -> None:
        super().__init__(message, code=code, usage=usage)
        self.instead = instead


class RateLimited(HandlerError):
    """A quota is used up. `retry_after` in seconds, None when the server did not say."""

    default_code = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: str | None = None,
        usage: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, code=code, usage=usage)
        self.retry_after = retry_after


class RequestRefused(HandlerError):
    """The daemon refused what the handler asked for through its context. Let through, it ends the attempt as an error, or, where the
    daemon is `draining`, as lost.

    Args:
        code: one of those of docs/protocol.md, such as `version_mismatch`.
        path: the field that it is about, where it is about one.
    """

    def __init__(self, code: str, message: str, path: str | None = None) -> None:
        super().__init__(message, code=code)
        self.path = path


class AttemptCancelled(BaseException):
    """Raised inside a blocking handler that is asked to stop (cancel or timeout).

    Not an `Exception`, so that `except Exception` in a handler does not swallow it. A coroutine gets
    `asyncio.CancelledError` instead.
    """
