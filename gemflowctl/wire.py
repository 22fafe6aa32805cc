"""Requests that are under way, and what becomes of them. Pure: shared by the blocking and the asyncio connection.

Does not cover sockets (`connection.py`, `aio_connection.py`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

from gemflowctl import frames
from gemflowctl.errors import BadReply, ClientError, ConnectionLost, InvalidInput, RefusedByDaemon, ReplyTimeout
from gemflowctl.steps import Body, Call
from gemflowd.model.errors import Invalid
from gemflowd.protocol import codec

#: How often a request is sent at most when replies don't come.
TRIES: Final = 3


@dataclass(slots=True, eq=False)
class Pending:
    """A request under way.

    Attributes:
        frame: its bytes; sent again unchanged, so that the daemon recognises a repeat.
        deadline: monotonic seconds; when it is over the reply counts as lost.
    """

    id: int
    call: Call
    frame: bytes
    deadline: float
    tries: int = 1
    body: Body | None = None
    error: ClientError | None = None

    @property
    def settled(self) -> bool:
        return self.body is not None or self.error is not None

    def result(self) -> Body:
        """The reply's body.

        Raises:
            ClientError: the refusal, or why there is no reply.
        """
        if self.error is not None:
            raise self.error
        assert self.body is not None
        return self.body


class Mailbox:
    """Matches replies to requests by id, and decides what a silence or a broken connection means for each. `DEBUG` shows them all.

    Args:
        reply_timeout: seconds for one try.
    """

    def __init__(self, reply_timeout: float) -> None:
        self._reply_timeout = reply_timeout
        self._trace = frames.trace()
        self._ids = itertools.count(1)
        self._open: dict[int, Pending] = {}

    def new(self, call: Call, now: float) -> Pending:
        """Make the frame of a request and remember it.

        Raises:
            InvalidInput: the request is too large or holds what can't be sent.
        """
        number = next(self._ids)
        try:
            frame = codec.request(number, call.op, call.body)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidInput(f"this can't be sent: {error}") from None
        if len(frame) > codec.MAX_FRAME_BYTES:
            raise InvalidInput(
                f"the request has {len(frame)} bytes; at most {codec.MAX_FRAME_BYTES} go into one",
            )
        pending = Pending(number, call, frame, self._deadline(call, now))
        self._open[number] = pending
        if self._trace is not None:
            self._trace.sent(number, call.op, call.body, len(frame))
        return pending

    def deliver(self, frame: bytes) -> Pending | None:
        """Take a reply; the request that it settles, or None when it answers none of ours (a late one, say)."""
        try:
            reply = codec.decode(frame)
        except Invalid as problem:
            return self._settle_only(BadReply(f"the reply can't be read: {problem.message}"))
        if self._trace is not None:
            self._trace.received(reply, len(frame))
        number = reply.get("id")
        pending = self._open.pop(number, None) if isinstance(number, int) else None
        if pending is None:
            # A reply without id answers a frame whose id could not be read: it must be ours when only one is under way.
            return self._settle_only(_refusal(reply)) if number is None and not reply.get("ok") else None
        body = reply.get("body")
        if reply.get("ok") is True and isinstance(body, dict):
            pending.body = body
        else:
            pending.error = _refusal(reply)
        return pending

    def waiting(self) -> list[Pending]:
        """What is unanswered, in the order in which it was sent."""
        return list(self._open.values())

    def silent(self, pending: Pending) -> None:
        """Its deadline is over: settle it with an error, or leave it open to be sent again."""
        if pending.call.repeatable and pending.tries < TRIES:
            return
        self._open.pop(pending.id, None)
        unsure = "" if pending.call.repeatable else "; whether it was done is not known"
        pending.error = ReplyTimeout(
            f"the daemon did not answer `{pending.call.op}` within {self._reply_timeout + pending.call.patience:g} s"
            f"{f', {pending.tries} times' if pending.tries > 1 else ''}{unsure}"
        )

    def lost(self) -> list[Pending]:
        """The connection broke: settle what must not be sent twice; those settled are returned, the rest stays open."""
        settled = [pending for pending in self._open.values() if not pending.call.repeatable]
        for pending in settled:
            self._open.pop(pending.id)
            pending.error = ConnectionLost(
                f"the connection broke before the daemon answered `{pending.call.op}`; whether it was done is not known"
            )
        return settled

    def fail_all(self, error: ClientError) -> list[Pending]:
        """Nothing more will come: settle everything with this error."""
        settled = list(self._open.values())
        self._open.clear()
        for pending in settled:
            pending.error = error
        return settled

    def forget(self, pending: Pending) -> None:
        """Nobody waits for it any more."""
        self._open.pop(pending.id, None)

    def again(self, pending: Pending, now: float, *, counts: bool) -> None:
        """It is sent again: it has its full time from now on. A try counts only when the daemon had its chance."""
        pending.deadline = self._deadline(pending.call, now)
        pending.tries += counts
        if self._trace is not None:
            self._trace.sent(pending.id, pending.call.op, pending.call.body, len(pending.frame), again=True)

    def _deadline(self, call: Call, now: float) -> float:
        return now + self._reply_timeout + call.patience

    def _settle_only(self, error: ClientError) -> Pending | None:
        if len(self._open) != 1:
            return None
        _, pending = self._open.popitem()
        pending.error = error
        return pending


def _refusal(reply: dict[str, Any]) -> RefusedByDaemon:
    error = reply.get("error")
    if not isinstance(error, dict):
        return BadReply("the reply has neither a body nor an error")
    path = error.get("path")
    return RefusedByDaemon(
        str(error.get("code", "internal")), str(error.get("message", "")), None if path is None else str(path)
    )
