"""What a handler raises to say how its attempt ended.

    HandlerError
    ├── Permanent      trying again is useless: the task fails at once
    ├── Transient      trying again may help; as any other exception, but with a code of the handler's choice
    ├── Again          another attempt at once, in another way: costs no try
    ├── Parked         another attempt after a while, which costs no try: the handler knows for how long
    ├── Wait           another attempt when tasks that it has added have ended: costs no try, holds no slot
    ├── RateLimited    a quota is used up: costs no try, the bucket sleeps for `retry_after` seconds
    └── RequestRefused what the handler asked the daemon for was refused: raised for it, not by it

Any other exception is an `error`: it is retried with backoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Instead:
    """Another way for the next attempt.

    Attributes:
        note: what that attempt finds in `context.note`, also after a crash: any value that MessagePack holds, 64 KiB at most.
        bucket: the limit that it falls under; None: as before.
        anew: whether its tries count anew with another one.
        tasks: numbers of tasks that must have ended before (`Wait`).
        hold: why it is held until a person releases it (`gemflowctl release TASK`; a release of its whole flow does not), a sentence;
            None: it is not. A retry after a cancel is no release.
    """

    note: Any
    bucket: str | None = None
    anew: bool = True
    tasks: tuple[int, ...] = ()
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


class Parked(HandlerError):
    """Another attempt after some seconds, with a note for it, as often as the handler likes.

    Args:
        seconds: from 0.05 to 30 days.
    """

    default_code = "parked"

    def __init__(
        self,
        message: str,
        *,
        seconds: float,
        instead: Instead,
        code: str | None = None,
        usage: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, code=code, usage=usage)
        self.seconds = seconds
        self.instead = instead


class Wait(Again):
    """Another attempt when some tasks have ended, however: until then the task is `blocked` and holds no slot. What they have come to
    is in that attempt's `context.results`, by number; of one without a result there is nothing. The 100 of `Again` count these, too.

    Args:
        tasks: numbers of tasks that this one has added to its flow (`context.submit`).
        note: what the next attempts find in `context.note`.
    """

    default_code = "waits"

    def __init__(self, tasks: Sequence[int], note: Any = None) -> None:
        super().__init__(
            f"waits for {len(tasks)} task{'s' * (len(tasks) != 1)} that it has added", Instead(note, tasks=tuple(tasks))
        )


class RateLimited(HandlerError):
    """A quota is used up. `retry_after` in seconds, None when the server did not say.

    `quota`: those that the server named, each `{"id": "…PerMinute…", "value": "100"}`; the limit learns its figures from them.
    """

    default_code = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: str | None = None,
        usage: dict[str, object] | None = None,
        quota: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(message, code=code, usage=usage)
        self.retry_after = retry_after
        self.quota = quota


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
