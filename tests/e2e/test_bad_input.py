"""Whatever comes in, the daemon answers with the code and path of docs/protocol.md, stores nothing of it, and goes on."""

from __future__ import annotations

import os
import socket
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq
from helpers.daemon import Daemon, running, with_handlers
from helpers.raw import Raw, Refusal
from zmq.utils.monitor import recv_monitor_message

FRAME_BYTES = 16 * 1024 * 1024
DEPTH = 64


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with running(**with_handlers("odd_tasks", workers=1)) as daemon:
        yield daemon


@pytest.fixture
def client(shared: Daemon) -> Iterator[Raw]:
    """A client; when the test is over the daemon must answer, and have stored nothing."""
    with Raw(shared.endpoint) as client:
        before = stored(client)
        yield client
    assert shared.alive
    with Raw(shared.endpoint) as other:
        assert other("ping")["now"] > 0
        assert stored(other) == before


def stored(client: Raw) -> Any:
    status = client("status")
    events = client("subscribe", topics=["task.", "flow."])["topics"]
    return status["tasks"], status["flows"], client("list", limit=1000), events, client("config")


def pack(value: Any) -> bytes:
    return msgpack.packb(value)


def envelope(**fields: Any) -> bytes:
    return pack({"v": 1, "id": 7, "op": "ping", **fields})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# Frames


def bad_map(key: bytes) -> bytes:
    """An envelope with one more key, given as MessagePack."""
    return b"\x84" + envelope()[1:] + key + b"\x01"


FRAMES = {
    "empty": (b"", "bad_frame", None, None),
    "not MessagePack": (b"\xc1", "bad_frame", None, None),
    "text": (b"hello daemon", "bad_frame", None, None),
    "truncated": (envelope()[:-2], "bad_frame", None, None),
    "more behind it": (envelope() + b"\x01", "bad_frame", None, None),
    "a list": (pack([1, 2]), "bad_frame", None, None),
    "nil": (pack(None), "bad_frame", None, None),
    "a map with a number as key": (bad_map(b"\x05"), "bad_frame", None, None),
    "a map with bytes as key": (bad_map(b"\xc4\x01x"), "bad_frame", None, None),
    "a map with a list as key": (bad_map(b"\x91\x01"), "bad_frame", None, None),
    "bytes as key below": (envelope(body=b"")[:-2] + b"\x81\xc4\x01x\x01", None, None, 7),
    "not UTF-8": (envelope(op="ping").replace(b"ping", b"p\xffng"), "bad_frame", None, None),
    "a list that is longer than the frame": (b"\xdd\xff\xff\xff\xff", "bad_frame", None, None),
    "a map that is longer than the frame": (b"\xdf\xff\xff\xff\xff", "bad_frame", None, None),
    "a string that is longer than the frame": (b"\xdb\xff\xff\xff\xff", "bad_frame", None, None),
    "far too deep": (b"\x91" * 100_000 + b"\x01", "too_deep", None, None),
    "too deep to be read": (b"\x81\xa1v" + b"\x91" * 2_000 + b"\x01", "too_deep", None, None),
    "no version": (pack({"id": 7, "op": "ping"}), "missing_field", "v", 7),
    "version 2": (envelope(v=2), "protocol_version", "v", 7),
    "version 0": (envelope(v=0), "protocol_version", "v", 7),
    "version true": (envelope(v=True), "protocol_version", "v", 7),
    "version as text": (envelope(v="1"), "protocol_version", "v", 7),
    "version NaN": (envelope(v=float("nan")), "protocol_version", "v", 7),
    "id is null": (envelope(id=None), "missing_field", "id", None),
    "no id": (pack({"v": 1, "op": "ping"}), "missing_field", "id", None),
    "id is a float": (envelope(id=1.5), "wrong_type", "id", None),
    "id is true": (envelope(id=True), "wrong_type", "id", None),
    "id is a map": (envelope(id={}), "wrong_type", "id", None),
    "id is bytes": (envelope(id=b"7"), "wrong_type", "id", None),
    "id of 64 bits, unsigned": (envelope(id=2**64 - 1), "invalid_value", "id", None),
    "no op": (pack({"v": 1, "id": 7}), "missing_field", "op", 7),
    "op is a number": (envelope(op=3), "wrong_type", "op", 7),
    "op is a timestamp": (envelope(op=msgpack.Timestamp(1)), "wrong_type", "op", 7),
    "unknown op": (envelope(op="destroy"), "unknown_op", "op", 7),
    "unknown op, long": (envelope(op="x" * 100_000), "unknown_op", "op", 7),
    "unknown field": (envelope(extra=1), "unknown_field", "extra", 7),
    "body is a list": (envelope(body=[]), "wrong_type", "body", 7),
    "body is nil": (envelope(body=None), "wrong_type", "body", 7),
    "body is an extension": (envelope(body=msgpack.ExtType(5, b"x")), "wrong_type", "body", 7),
    "unknown field in the body": (envelope(body={"x": 1}), "unknown_field", "x", 7),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames(client: Raw, name: str) -> None:
    frame, code, path, request_id = FRAMES[name]
    client.send_frames(frame)
    reply = client.receive()
    assert not reply["ok"]
    assert reply["id"] == request_id
    assert code is None or reply["error"]["code"] == code
    assert reply["error"]["message"]
    if code is not None:
        assert reply["error"].get("path") == path
    assert client("ping")


# How frames come


@pytest.mark.parametrize(
    "frames",
    [
        (envelope(), envelope()),
        (b"", envelope(), envelope()),
        (b"", b"", envelope()),
        (envelope(), b""),
        (b"x", b"", envelope()),
        (b"", b""),
        (b"",) * 10,
        (envelope(),) * 1000,
    ],
    ids=lambda frames: f"{len(frames)} frames, {sum(not frame for frame in frames)} empty",
)
def test_a_request_is_one_frame(shared: Daemon, client: Raw, frames: tuple[bytes, ...]) -> None:
    with Raw(shared.endpoint) as sender:
        sender.send_frames(*frames)
        answer = msgpack.unpackb(sender.receive_frames()[-1])
        assert (answer["ok"], answer["error"]["code"], answer["id"]) == (False, "bad_frame", None)


def test_a_request_whose_last_frame_never_comes(shared: Daemon, client: Raw) -> None:
    with Raw(shared.endpoint) as sender:
        for _ in range(10):
            sender.socket.send(envelope(), zmq.SNDMORE)
        assert client("ping")


@pytest.mark.parametrize("kind", ["REQ", "DEALER", "DEALER with delimiter"])
def test_all_kinds_of_sockets_are_answered_in_their_form(shared: Daemon, client: Raw, kind: str) -> None:
    socket_type = zmq.REQ if kind == "REQ" else zmq.DEALER
    with Raw(shared.endpoint, socket_type, delimiter="delimiter" in kind) as other:
        assert other("ping")["now"] > 0
        with pytest.raises(Refusal) as caught:
            other("destroy")
        assert caught.value.code == "unknown_op"
        assert other("ping")["now"] > 0


def test_both_forms_on_one_socket(shared: Daemon, client: Raw) -> None:
    with Raw(shared.endpoint) as other:
        other.send_frames(b"", envelope(id="with"))
        other.send_frames(envelope(id="without"))
        replies = [other.receive_frames(), other.receive_frames()]
        by_id = {msgpack.unpackb(frames[-1])["id"]: frames[:-1] for frames in replies}
        assert by_id == {"with": [b""], "without": []}


@pytest.mark.parametrize("request_id", [0, -1, 2**63 - 1, -(2**63), "", "ü" * 1000])
def test_an_id_comes_back_as_it_was(client: Raw, request_id: Any) -> None:
    client.send_frames(envelope(id=request_id))
    reply = client.receive()
    assert reply["id"] == request_id
    assert reply["ok"]


def test_body_may_be_left_out(client: Raw) -> None:
    client.send_frames(pack({"v": 1, "id": 7, "op": "ping"}))
    assert client.receive()["ok"]


def test_a_frame_that_is_too_large_ends_the_connection(shared: Daemon, client: Raw) -> None:
    with Raw(shared.endpoint) as sender:
        assert sender("ping")
        monitor = sender.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            sender.send_frames(bytes(FRAME_BYTES + 1))
            assert sender.receive()["error"]["code"] == "frame_too_large"
            sender.send_frames(bytes(2 * FRAME_BYTES + 1))
            assert monitor.poll(20_000), "still connected"
            assert recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
        finally:
            sender.socket.disable_monitor()
            monitor.close()
        assert client("ping")
        # libzmq connects again by itself.
        assert sender("ping")


def test_the_largest_frame_is_read(client: Raw) -> None:
    begin = envelope(body={"client": ""})
    size = FRAME_BYTES - len(begin) - 4  # a long string's header is longer
    client.send_frames(envelope(op="hello", body={"client": "x" * (size - 4)}))
    assert client.receive()["ok"]


GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL" + bytes(48)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(1000),
        os.urandom(1000),
        GREETING[:20],
        GREETING,
        GREETING + b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER",
        GREETING + b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER" + b"\x02" + struct.pack(">Q", 2**62),
        GREETING + b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER" + b"\x00\xff" + b"x" * 100,
    ],
    ids=["HTTP", "zeros", "random", "half a greeting", "a greeting", "bad metadata", "huge frame", "half a frame"],
)
def test_what_is_not_zeromq_at_all(shared: Daemon, client: Raw, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(shared.endpoint.removeprefix("ipc://"))
        other.sendall(data)
        assert client("ping")


# Bodies


def submit(*tasks: Any, **fields: Any) -> dict[str, Any]:
    return {"submission": str(uuid.uuid4()), "tasks": list(tasks), **fields}


def echo(**fields: Any) -> dict[str, Any]:
    return {"type": "echo", **fields}


def with_data(value: Any) -> dict[str, Any]:
    return submit(echo(), echo(data={"a": [0, value]}))


NAN, INFINITY, HUGE = float("nan"), float("inf"), 2**64 - 1
TIME = msgpack.Timestamp(1)
EXTENSION = msgpack.ExtType(42, b"x")

BODIES: dict[str, tuple[str, dict[str, Any], str, str | None]] = {
    # submit itself
    "nothing": ("submit", {}, "missing_field", "submission"),
    "no tasks": ("submit", {"submission": str(uuid.uuid4())}, "missing_field", "tasks"),
    "empty tasks": ("submit", submit(), "invalid_value", "tasks"),
    "tasks is a map": ("submit", submit(tasks={}), "wrong_type", "tasks"),
    "no UUID": ("submit", submit(echo(), submission="me"), "invalid_value", "submission"),
    "UUID as bytes": ("submit", submit(echo(), submission=b"x" * 16), "wrong_type", "submission"),
    "too many tasks": ("submit", submit(*[echo()] * 5001), "invalid_value", "tasks"),
    "unknown field": ("submit", submit(echo(), color=1), "unknown_field", "color"),
    "name is a number": ("submit", submit(echo(), name=5), "wrong_type", "name"),
    "name is empty": ("submit", submit(echo(), name=""), "invalid_value", "name"),
    "name is long": ("submit", submit(echo(), name="x" * 201), "invalid_value", "name"),
    "weight 0": ("submit", submit(echo(), weight=0), "invalid_value", "weight"),
    "weight NaN": ("submit", submit(echo(), weight=NAN), "invalid_value", "weight"),
    "weight infinite": ("submit", submit(echo(), weight=INFINITY), "invalid_value", "weight"),
    "metadata is a list": ("submit", submit(echo(), metadata=[]), "wrong_type", "metadata"),
    "metadata with NaN": ("submit", submit(echo(), metadata={"a": NAN}), "invalid_value", "metadata.a"),
    "offset of nothing": ("submit", submit(echo(), offset=3), "submission_offset", "offset"),
    "offset is negative": ("submit", submit(echo(), offset=-1), "invalid_value", "offset"),
    "offset is huge": ("submit", submit(echo(), offset=HUGE), "invalid_value", "offset"),
    "offset is a float": ("submit", submit(echo(), offset=0.5), "wrong_type", "offset"),
    "complete is a number": ("submit", submit(echo(), complete=1), "wrong_type", "complete"),
    # a task
    "task is a number": ("submit", submit(echo(), 5), "wrong_type", "tasks[1]"),
    "task is nil": ("submit", submit(None), "wrong_type", "tasks[0]"),
    "no type": ("submit", submit(echo(), {"data": {}}), "missing_field", "tasks[1].type"),
    "type is a number": ("submit", submit(echo(type=1)), "wrong_type", "tasks[0].type"),
    "unknown type": ("submit", submit(echo(type="magic")), "unknown_type", "tasks[0].type"),
    "unknown field of a task": ("submit", submit(echo(), echo(colour=1)), "unknown_field", "tasks[1].colour"),
    "data is a list": ("submit", submit(echo(data=[])), "wrong_type", "tasks[0].data"),
    "data is nil": ("submit", submit(echo(data=None)), "wrong_type", "tasks[0].data"),
    "id is a float": ("submit", submit(echo(id=1.5)), "wrong_type", "tasks[0].id"),
    "id is true": ("submit", submit(echo(id=True)), "wrong_type", "tasks[0].id"),
    "id is empty": ("submit", submit(echo(id="")), "invalid_value", "tasks[0].id"),
    "id with a space": ("submit", submit(echo(id="a b")), "invalid_value", "tasks[0].id"),
    "id with a line break": ("submit", submit(echo(id="a\n")), "invalid_value", "tasks[0].id"),
    "id is long": ("submit", submit(echo(id="x" * 129)), "invalid_value", "tasks[0].id"),
    "id twice": ("submit", submit(echo(id="a"), echo(id="a")), "duplicate_id", "tasks[1].id"),
    "id twice, as number": ("submit", submit(echo(id="1"), echo(id=1)), "duplicate_id", "tasks[1].id"),
    "priority is text": ("submit", submit(echo(priority="high")), "wrong_type", "tasks[0].priority"),
    "priority is a float": ("submit", submit(echo(priority=1.5)), "wrong_type", "tasks[0].priority"),
    "priority is true": ("submit", submit(echo(priority=True)), "wrong_type", "tasks[0].priority"),
    "priority is too high": ("submit", submit(echo(priority=32768)), "invalid_value", "tasks[0].priority"),
    "priority is huge": ("submit", submit(echo(priority=HUGE)), "invalid_value", "tasks[0].priority"),
    "queue with a slash": ("submit", submit(echo(queue="a/b")), "invalid_value", "tasks[0].queue"),
    "delay is negative": ("submit", submit(echo(delay=-1)), "invalid_value", "tasks[0].delay"),
    "delay is NaN": ("submit", submit(echo(delay=NAN)), "invalid_value", "tasks[0].delay"),
    "delay is text": ("submit", submit(echo(delay="1h")), "wrong_type", "tasks[0].delay"),
    "run_at is infinite": ("submit", submit(echo(run_at=INFINITY)), "invalid_value", "tasks[0].run_at"),
    "run_at is a timestamp": ("submit", submit(echo(run_at=TIME)), "wrong_type", "tasks[0].run_at"),
    "delay and run_at": ("submit", submit(echo(delay=1, run_at=1)), "invalid_value", "tasks[0].run_at"),
    "timeout 0": ("submit", submit(echo(timeout=0)), "invalid_value", "tasks[0].timeout"),
    "timeout NaN": ("submit", submit(echo(timeout=NAN)), "invalid_value", "tasks[0].timeout"),
    "retries are negative": ("submit", submit(echo(retries=-1)), "invalid_value", "tasks[0].retries"),
    "retries are many": ("submit", submit(echo(retries=1001)), "invalid_value", "tasks[0].retries"),
    "retries are a float": ("submit", submit(echo(retries=2.5)), "wrong_type", "tasks[0].retries"),
    "backoff is long": ("submit", submit(echo(backoff=301)), "invalid_value", "tasks[0].backoff"),
    "template is text": ("submit", submit(echo(template="no")), "wrong_type", "tasks[0].template"),
    "metadata of a task": ("submit", submit(echo(metadata={"x": TIME})), "wrong_type", "tasks[0].metadata.x"),
    # values
    "NaN": ("submit", with_data(NAN), "invalid_value", "tasks[1].data.a[1]"),
    "infinity": ("submit", with_data(-INFINITY), "invalid_value", "tasks[1].data.a[1]"),
    "64 bits unsigned": ("submit", with_data(HUGE), "invalid_value", "tasks[1].data.a[1]"),
    "a timestamp": ("submit", with_data(TIME), "wrong_type", "tasks[1].data.a[1]"),
    "an extension": ("submit", with_data(EXTENSION), "wrong_type", "tasks[1].data.a[1]"),
    "bytes as key": ("submit", with_data({b"x": 1}), "wrong_type", "tasks[1].data.a[1]"),
    "too deep": ("submit", with_data(nested(DEPTH)), "too_deep", None),
    "too deep in metadata": ("submit", submit(echo(), metadata={"a": nested(DEPTH)}), "too_deep", None),
    "too deep in deps": ("submit", submit(echo(deps=nested(DEPTH * 2))), "wrong_type", None),
    # schemas
    "no seconds": ("submit", submit({"type": "sleep"}), "invalid_data", "tasks[0].data"),
    "seconds as text": ("submit", submit({"type": "sleep", "data": {"seconds": "1"}}), "invalid_data", "tasks[0].data.seconds"),
    "an argument as number": ("submit", submit({"type": "command", "data": {"args": ["a", 1]}}), "invalid_data", "tasks[0].data.args[1]"),
    "no such key": ("submit", submit({"type": "sleep", "data": {"seconds": 1, "x": 1}}), "invalid_data", "tasks[0].data"),
    "no prompt": ("submit", submit({"type": "gemini"}), "invalid_data", "tasks[0].data"),
    # short form
    "unknown agent": ("submit", submit({"task": "do it", "agent": "nobody"}), "unknown_agent", "tasks[0].agent"),
    "unknown agent in data": (
        "submit", submit({"type": "gemini", "data": {"prompt": "x", "agent": "nobody"}}), "unknown_agent", "tasks[0].data.agent",
    ),
    "agent without task": ("submit", submit({"agent": "researcher"}), "missing_field", "tasks[0].task"),
    "task and data": ("submit", submit({"task": "x", "data": {"a": 1}}), "invalid_value", "tasks[0].data"),
    "task of another type": ("submit", submit(echo(task="x")), "invalid_value", "tasks[0].type"),
    "short task is a number": ("submit", submit({"task": 5}), "wrong_type", "tasks[0].task"),
    # dependencies
    "deps is a text": ("submit", submit(echo(deps="a")), "wrong_type", "tasks[0].deps"),
    "dep is a float": ("submit", submit(echo(deps=[1.5])), "wrong_type", "tasks[0].deps[0]"),
    "dep is true": ("submit", submit(echo(deps=[True])), "wrong_type", "tasks[0].deps[0]"),
    "dep without id": ("submit", submit(echo(deps=[{}])), "missing_field", "tasks[0].deps[0].id"),
    "dep with a bad on": ("submit", submit(echo(id="a"), echo(deps=[{"id": "a", "on": "luck"}])), "invalid_value", "tasks[1].deps[0].on"),
    "dep with a stranger": ("submit", submit(echo(id="a"), echo(deps=[{"id": "a", "if": 1}])), "unknown_field", "tasks[1].deps[0].if"),
    "dep with number and id": ("submit", submit(echo(id="a"), echo(deps=[{"id": "a", "number": 1}])), "invalid_value", "tasks[1].deps[0]"),
    "dep number 0": ("submit", submit(echo(deps=[{"number": 0}])), "invalid_value", "tasks[0].deps[0].number"),
    "dep number, huge": ("submit", submit(echo(deps=[{"number": HUGE}])), "invalid_value", "tasks[0].deps[0].number"),
    "dep flow, huge": ("submit", submit(echo(deps=[{"flow": HUGE, "id": "a"}])), "invalid_value", "tasks[0].deps[0].flow"),
    "dep twice": ("submit", submit(echo(id="a"), echo(deps=["a", {"id": "a", "on": "done"}])), "invalid_value", "tasks[1].deps[1]"),
    "unknown dep": ("submit", submit(echo(), echo(deps=["b"])), "unknown_dependency", "tasks[1].deps[0]"),
    "unknown dep by number": ("submit", submit(echo(deps=[{"number": 2**62}])), "unknown_dependency", "tasks[0].deps[0]"),
    "unknown dep by flow": ("submit", submit(echo(deps=[{"flow": 2**62, "id": "a"}])), "unknown_dependency", "tasks[0].deps[0]"),
    "itself": ("submit", submit(echo(id="a", deps=["a"])), "cycle", "tasks[0].deps"),
    "cycle of two": ("submit", submit(echo(id="a", deps=["b"]), echo(id="b", deps=["a"])), "cycle", None),
    "cycle of 2000": ("submit", submit(*(echo(id=i, deps=[(i + 1) % 2000]) for i in range(2000))), "cycle", None),
    # templates
    "bad template": ("submit", submit(echo(id="a"), echo(deps=["a"], data={"x": ["{{ deps."]})), "invalid_template", "tasks[1].data.x[0]"),
    "unknown tag": ("submit", submit(echo(id="a"), echo(deps=["a"], data={"x": "{% fly %}"})), "invalid_template", "tasks[1].data.x"),
    # not yet
    "when without deps": ("submit", submit(echo(when="deps.a.ok")), "invalid_value", "tasks[0].when"),
    "when": ("submit", submit(echo(id="a"), echo(deps=["a"], when="deps.a >")), "invalid_value", "tasks[1].when"),
    "when of what": ("submit", submit(echo(id="a"), echo(deps=["a"], when="x")), "invalid_value", "tasks[1].when"),
    "when nested": (
        "submit",
        submit(echo(id="a"), echo(deps=["a"], when="[1].all(x, [1].exists(y, x == y))")),
        "invalid_value",
        "tasks[1].when",
    ),
    "expires": ("submit", submit(echo(expires="tomorrow")), "invalid_value", "tasks[0].expires"),
    "expires twice": ("submit", submit(echo(expires=5, expires_in=5)), "invalid_value", "tasks[0].expires"),
    "run_at without a zone": ("submit", submit(echo(run_at="2030-01-31T08:00:00")), "invalid_value", "tasks[0].run_at"),
    "key": ("submit", submit(echo(key="")), "invalid_value", "tasks[0].key"),
    "key_ttl": ("submit", submit(echo(key_ttl=5)), "invalid_value", "tasks[0].key_ttl"),
    "key_conflict": ("submit", submit(echo(key="k", key_conflict="x")), "invalid_value", "tasks[0].key_conflict"),
    "key_conflict of several": (
        "submit",
        submit(echo(key="k", key_conflict="replace"), echo()),
        "invalid_value",
        "tasks[0].key_conflict",
    ),
    "key twice": ("submit", submit(echo(key="k"), echo(key="k")), "duplicate_key", "tasks[1].key"),
    "retry_on": ("submit", submit(echo(retry_on={"E": -1})), "invalid_value", "tasks[0].retry_on.E"),
    "estimate": ("submit", submit(echo(estimate=-1)), "invalid_value", "tasks[0].estimate"),
    "order": ("submit", submit(echo(), order="x"), "invalid_value", "order"),
    "order of a stream": ("submit", submit(echo(), order="critical-path", stream=True), "invalid_value", "order"),
    "grow": ("submit", submit(echo(), grow={"task": 0, "token": 1}), "invalid_value", "grow"),
    "grow of nothing": ("submit", submit(echo(), grow={"task": 1, "token": 1}), "stale_attempt", "grow"),
    "grow and stream": ("submit", submit(echo(), grow={"task": 1, "token": 1}, stream=True), "invalid_value", "stream"),
    "edit": ("edit", {"refs": ["f1"], "priority": 99999}, "invalid_value", "priority"),
    "hold": ("hold", {"refs": ["x"]}, "invalid_value", "refs[0]"),
    "release": ("release", {"refs": [999999]}, "not_found", "refs[0]"),
    "delete": ("delete", {}, "missing_field", "refs"),
    "explain": ("explain", {"ref": 999999}, "not_found", "ref"),
    "queues": ("queues", {"queue": "a b", "limit": 1}, "invalid_value", "queue"),
    "queue's limit": ("queues", {"queue": "a", "limit": -1}, "invalid_value", "limit"),
    "queue without limit": ("queues", {"queue": "a"}, "missing_field", "limit"),
    "pause": ("pause", {"queue": ""}, "invalid_value", "queue"),
    "memory_mb": ("submit", submit(echo(memory_mb=0)), "invalid_value", "tasks[0].memory_mb"),
    "resources": ("submit", submit(echo(resources={"gpu": 1})), "invalid_value", "tasks[0].resources.gpu"),
    # the other operations
    "submission that is none": ("submission", {"submission": "x"}, "invalid_value", "submission"),
    "submission unknown": ("submission", {"submission": str(uuid.uuid4())}, "not_found", "submission"),
    "discard unknown": ("discard", {"submission": str(uuid.uuid4())}, "not_found", "submission"),
    "status of a float": ("status", {"refs": [1.5]}, "invalid_value", "refs[0]"),
    "status of no list": ("status", {"refs": 5}, "wrong_type", "refs"),
    "status of a stranger": ("status", {"refs": [2**62]}, "not_found", "refs[0]"),
    "list with a bad state": ("list", {"state": "happy"}, "invalid_value", "state"),
    "list with limit 0": ("list", {"limit": 0}, "invalid_value", "limit"),
    "list after huge": ("list", {"after": HUGE}, "invalid_value", "after"),
    "list of flow huge": ("list", {"flow": HUGE}, "invalid_value", "flow"),
    "list since NaN": ("list", {"since": NAN}, "invalid_value", "since"),
    "show of nothing": ("show", {}, "missing_field", "ref"),
    "show of a range": ("show", {"ref": "2-1"}, "invalid_value", "ref"),
    "show of a flow": ("show", {"ref": f"f{2**62}"}, "not_found", "ref"),
    "results with limit": ("results", {"refs": ["f1"], "limit": 10**6}, "invalid_value", "limit"),
    "results after huge": ("results", {"refs": [1], "after": HUGE}, "invalid_value", "after"),
    "results wait NaN": ("results", {"refs": [1], "wait": NAN}, "invalid_value", "wait"),
    "results wait for long": ("results", {"refs": [1], "wait": 31}, "invalid_value", "wait"),
    "wait for many results": ("wait", {"refs": [1], "results": 5001}, "invalid_value", "results"),
    "wait for nothing": ("wait", {"refs": []}, "invalid_value", "refs"),
    "wait for long": ("wait", {"refs": [1], "timeout": 31}, "invalid_value", "timeout"),
    "wait NaN": ("wait", {"refs": [1], "timeout": NAN}, "invalid_value", "timeout"),
    "wait for a stranger": ("wait", {"refs": ["f99999/x"]}, "not_found", "refs[0]"),
    "logs of a stranger": ("logs", {"ref": 2**62}, "not_found", None),
    "logs after huge": ("logs", {"ref": 1, "after": HUGE}, "invalid_value", "after"),
    "logs NaN": ("logs", {"ref": 1, "wait": NAN}, "invalid_value", "wait"),
    "cancel of a stranger": ("cancel", {"refs": ["f99999"]}, "not_found", "refs[0]"),
    "cancel of rubbish": ("cancel", {"refs": ["everything"]}, "invalid_value", "refs[0]"),
    "cancel of nil": ("cancel", {"refs": [None]}, "invalid_value", "refs[0]"),
    "retry of a stranger": ("retry", {"refs": [2**62]}, "not_found", "refs[0]"),
    "workers 0": ("workers", {"count": 0}, "invalid_value", None),
    "workers huge": ("workers", {"count": HUGE}, "invalid_value", None),
    "workers text": ("workers", {"count": "four"}, "wrong_type", "count"),
    "profile unknown": ("profile", {"name": "reckless"}, "invalid_value", None),
    "setting unknown": ("config", {"set": {"colour": 1}}, "not_found", "set.colour"),
    "setting of a bad value": ("config", {"set": {"retries": -1}}, "invalid_value", "set.retries"),
    "setting NaN": ("config", {"set": {"backoff": NAN}}, "invalid_value", "set.backoff"),
    "setting of a bad type": ("config", {"set": {"retries": [1]}}, "invalid_value", "set.retries"),
    "setting for the next start": ("config", {"set": {"grace": 5}}, "conflict", "set.grace"),
    "reset of a stranger": ("config", {"reset": ["colour"]}, "not_found", "reset"),
    "events without from": ("events", {}, "missing_field", "from"),
    "events from huge": ("events", {"from": HUGE}, "invalid_value", "from"),
    "events with limit": ("events", {"from": 1, "limit": 0}, "invalid_value", "limit"),
    "subscribe to numbers": ("subscribe", {"topics": [1]}, "wrong_type", "topics[0]"),
    "shutdown perhaps": ("shutdown", {"drain": "maybe"}, "wrong_type", "drain"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bodies(client: Raw, name: str) -> None:
    op, body, code, path = BODIES[name]
    with pytest.raises(Refusal) as caught:
        client(op, **body)
    refusal = caught.value
    assert (refusal.code, refusal.path if path is not None else None) == (code, path), refusal
    assert 5 < len(refusal.message) < 1000


@pytest.mark.parametrize("depth", [DEPTH, DEPTH + 1])
def test_the_limit_of_depth_is_where_it_says(shared: Daemon, depth: int) -> None:
    with Raw(shared.endpoint) as client:
        body = submit(echo(data={"a": nested(depth - 1)}))  # with the map: `depth` levels
        if depth > DEPTH:
            with pytest.raises(Refusal) as caught:
                client("submit", **body)
            assert caught.value.code == "too_deep"
        else:
            reply = client("submit", **body)
            client.wait(reply["first"])
            assert client.results(reply["first"])[0]["result"] == {"a": nested(depth - 1)}


@pytest.mark.parametrize(
    "value", [2**63 - 1, -(2**63), 0.1, 1e308, "\0", "\u2028😀", b"\0\xff", "", [], {}, {"": {"": None}}]
)
def test_values_come_back_as_they_were(shared: Daemon, value: Any) -> None:
    with Raw(shared.endpoint) as client:
        (line,) = client.run(echo(data={"x": value}, metadata={"m": value}))
        assert line["result"] == {"x": value}
        shown = client.show(line["number"])
        assert (shown["data"], shown["metadata"]) == ({"x": value}, {"m": value})


# Submissions


def refused(client: Raw, body: dict[str, Any]) -> str:
    with pytest.raises(Refusal) as caught:
        client("submit", **body)
    return caught.value.code


def test_the_same_submission_again(shared: Daemon) -> None:
    with Raw(shared.endpoint) as client:
        body = submit(echo(id="a"), echo(deps=["a"]), name="n")
        first = client("submit", **body)
        before = stored(client)[0:3:2]
        again = client("submit", **body)
        assert again == {**first, "repeated": True, "state": again["state"]}
        for other in (
            {**body, "tasks": [echo(id="a"), echo()]},
            {**body, "tasks": [echo(id="a")]},
            {**body, "name": "m"},
            {**body, "complete": False},
        ):
            assert refused(client, other) == "submission_reused"
        assert refused(client, {**body, "offset": 2}) == "submission_closed"
        client.wait(f"f{first['flow']}")
        assert client("submit", **body)["state"] == "succeeded"
        assert sum(stored(client)[0].values()) == sum(before[0].values())
        with pytest.raises(Refusal) as caught:
            client("discard", submission=body["submission"])
        assert caught.value.code == "conflict"


def test_chunks(shared: Daemon) -> None:
    with Raw(shared.endpoint) as client:
        body = submit(echo(id="a"), echo(id="b"), complete=False)
        first = client("submit", **body)
        assert (first["state"], first["received"]) == ("open", 2)
        for offset in (1, 3):
            assert refused(client, {**body, "tasks": [echo(id="c")], "offset": offset}) == "submission_offset"
        assert client("submit", **body)["repeated"]
        second = {**body, "tasks": [echo(id="c", deps=["a"])], "offset": 2}
        assert client("submit", **second)["received"] == 3
        assert client("submit", **second)["repeated"]
        assert client("submission", submission=body["submission"]) == {
            "flow": first["flow"],
            "state": "open",
            "received": 3,
        }
        assert client("wait", refs=[f"f{first['flow']}"], timeout=0)["done"] is False
        last = client("submit", **{**body, "tasks": [], "offset": 3, "complete": True})
        assert (last["state"], last["received"], last["first"]) == ("active", 3, None)
        client.wait(f"f{first['flow']}")
        assert [line["ok"] for line in client.results(f"f{first['flow']}")] == [True] * 3


@pytest.mark.parametrize(
    ("chunk", "code"),
    [
        ([echo(id="a")], "duplicate_id"),
        ([echo(deps=["nobody"])], "unknown_dependency"),
        ([echo(type="magic")], "unknown_type"),
        ([echo(), echo(data={"x": NAN})], "invalid_value"),
        ([echo(id="x", deps=["y"]), echo(id="y", deps=["x"])], "cycle"),
    ],
    ids=["duplicate_id", "unknown_dependency", "unknown_type", "invalid_value", "cycle"],
)
def test_a_chunk_that_is_refused_takes_the_open_flow_along(shared: Daemon, chunk: list[Any], code: str) -> None:
    with Raw(shared.endpoint) as client:
        before = client("status")["tasks"], client("status")["flows"]
        body = submit(echo(id="a"), complete=False)
        assert client("submit", **body)["state"] == "open"
        assert refused(client, {**body, "tasks": chunk, "offset": 1}) == code
        with pytest.raises(Refusal) as caught:
            client("submission", submission=body["submission"])
        assert caught.value.code == "not_found"
        assert (client("status")["tasks"], client("status")["flows"]) == before
        # Its UUID is free again.
        again = client("submit", **{**body, "complete": True})
        client.wait(f"f{again['flow']}")


def test_a_large_flow_that_is_discarded_and_sent_again_at_once(shared: Daemon) -> None:
    with Raw(shared.endpoint) as client:
        body = submit(complete=False)
        chunks = [{**body, "tasks": [echo(data={"n": n})] * 2000, "offset": n * 2000} for n in range(4)]
        for chunk in chunks:
            client("submit", **chunk)
        assert refused(client, {**body, "tasks": [echo(deps=["nobody"])], "offset": 8_000}) == "unknown_dependency"
        received = 0
        for chunk in chunks[:2]:
            reply = client("submit", **chunk)
            received = reply["received"]
        # What was acknowledged now must stay.
        assert (reply["repeated"], received) == (False, 4_000)
        client("discard", submission=body["submission"])
