"""What becomes of requests: replies, silence, a broken connection."""

from __future__ import annotations

import pytest

from gemflowctl.errors import BadReply, ConnectionLost, InvalidInput, NoDaemon, RefusedByDaemon, ReplyTimeout
from gemflowctl.steps import Call
from gemflowctl.wire import TRIES, Mailbox
from gemflowd.protocol import codec


def test_replies_come_in_any_order() -> None:
    box = Mailbox(1.0)
    first, second = box.new(Call("ping"), 0.0), box.new(Call("stats"), 0.0)
    assert box.deliver(codec.reply(second.id, {"n": 2})) is second
    assert box.deliver(codec.reply(first.id, {"n": 1})) is first
    assert (first.result(), second.result()) == ({"n": 1}, {"n": 2})
    assert box.deliver(codec.reply(first.id, {"n": 3})) is None
    assert box.waiting() == []


def test_refusals() -> None:
    box = Mailbox(1.0)
    pending = box.new(Call("show"), 0.0)
    box.deliver(codec.refusal(pending.id, {"code": "not_found", "message": "no", "path": "ref"}))
    with pytest.raises(RefusedByDaemon) as caught:
        pending.result()
    assert (caught.value.code, caught.value.message, caught.value.path) == ("not_found", "no", "ref")


@pytest.mark.parametrize(
    "frame", [b"\xc1", codec.pack([1]), codec.pack({"v": 1, "id": 1, "ok": True}), codec.pack({"v": 1, "id": None})]
)
def test_what_is_no_reply(frame: bytes) -> None:
    box = Mailbox(1.0)
    pending = box.new(Call("ping"), 0.0)
    box.deliver(frame)
    with pytest.raises(BadReply):
        pending.result()


def test_silence() -> None:
    box = Mailbox(2.0)
    pending = box.new(Call("wait", patience=30.0), 100.0)
    assert pending.deadline == 132.0
    for _ in range(TRIES - 1):
        box.silent(pending)
        assert not pending.settled
        box.again(pending, 200.0, counts=True)
    assert pending.deadline == 232.0
    box.silent(pending)
    with pytest.raises(ReplyTimeout, match=f"{TRIES} times"):
        pending.result()


def test_a_broken_connection_settles_only_what_may_not_be_repeated() -> None:
    box = Mailbox(2.0)
    once, again = box.new(Call("retry", repeatable=False), 0.0), box.new(Call("ping"), 0.0)
    assert box.lost() == [once]
    with pytest.raises(ConnectionLost):
        once.result()
    assert box.waiting() == [again]
    box.fail_all(NoDaemon("gone"))
    with pytest.raises(NoDaemon):
        again.result()


def test_what_cannot_be_sent() -> None:
    box = Mailbox(1.0)
    for body in ({"x": {1}}, {"x": 2**70}, {"x": "y" * codec.MAX_FRAME_BYTES}):
        with pytest.raises(InvalidInput):
            box.new(Call("submit", body), 0.0)
    assert box.waiting() == []
