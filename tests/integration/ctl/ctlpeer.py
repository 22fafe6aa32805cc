"""A daemon that says what a test tells it to, on real ZeroMQ sockets."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import zmq

from gemflowd.protocol import codec

Body = dict[str, Any]


class Refuse(Exception):
    """Raised by a script: refuse the request."""

    def __init__(self, code: str, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message} | ({"path": path} if path else {})


class Silence(Exception):
    """Raised by a script: send no reply."""


class Peer:
    """A ROUTER and an XPUB on a thread. `answers` maps an operation to its script: a body, or a function of the request's body.

    A function may raise `Refuse` or `Silence`. Every request is kept in `requests`, in order.
    """

    def __init__(self, directory: Path) -> None:
        self.endpoint = f"ipc://{directory}/gemflowd.sock"
        self.events_endpoint = f"ipc://{directory}/events.sock"
        self.answers: dict[str, Any] = {
            "hello": {"version": "9.9", "pid": 1, "state": "running", "limits": {}},
            "ping": {"now": 1.0},
        }
        self.requests: list[Body] = []
        self.frames: list[bytes] = []
        self._arrived = threading.Condition()
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.publisher = self.context.socket(zmq.XPUB)
        self.publisher.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.publisher.linger = 0
        self.publisher.bind(self.events_endpoint)
        router = self.context.socket(zmq.ROUTER)
        router.linger = 0
        router.bind(self.endpoint)
        control = self.context.socket(zmq.PAIR)
        control.bind("inproc://control")
        self._control = self.context.socket(zmq.PAIR)
        self._control.connect("inproc://control")
        self._thread = threading.Thread(target=self._serve, args=(router, control))
        self._thread.start()

    def stop(self) -> None:
        """Hang up, as a daemon that is killed does; `start` makes the next one."""
        if self._thread is None:
            return
        self._control.send(b"stop")
        self._thread.join()
        self._thread = None
        self._control.close()
        self.publisher.close()
        self.context.destroy(linger=0)
        for endpoint in (self.endpoint, self.events_endpoint):
            Path(endpoint.removeprefix("ipc://")).unlink(missing_ok=True)

    def ops(self) -> list[str]:
        with self._arrived:
            return [request["op"] for request in self.requests]

    def bodies(self, op: str) -> list[Body]:
        with self._arrived:
            return [request["body"] for request in self.requests if request["op"] == op]

    def await_request(self, op: str, count: int = 1) -> None:
        with self._arrived:
            ok = self._arrived.wait_for(lambda: sum(r["op"] == op for r in self.requests) >= count, timeout=30)
            assert ok, f"no {count} × {op}: {[r['op'] for r in self.requests]}"

    def await_subscription(self) -> bytes:
        assert self.publisher.poll(30_000)
        return self.publisher.recv()

    def publish(self, topic: str, topic_first: int, events: list[Body], epoch: int = 1) -> None:
        seqs = [event["seq"] for event in events if event.get("seq") is not None]
        message = {
            "v": 1,
            "epoch": epoch,
            "first": min(seqs, default=0),
            "last": max(seqs, default=0),
            "topic_first": topic_first,
            "events": events,
        }
        self.publisher.send_multipart([topic.encode(), codec.pack(message)])

    def _serve(self, router: zmq.Socket[bytes], control: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(control, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if control in ready:
                break
            *route, frame = router.recv_multipart()
            request = codec.decode(frame)
            reply = self._answer(request)
            with self._arrived:
                self.requests.append(request)
                self.frames.append(frame)
                self._arrived.notify_all()
            if reply is not None:
                router.send_multipart([*route, reply])
        control.close()
        router.close()

    def _answer(self, request: Body) -> bytes | None:
        script = self.answers.get(request["op"])
        try:
            if script is None:
                raise Refuse("unknown_op", f"the test has no script for {request['op']}")
            body = script(request["body"]) if callable(script) else script
        except Refuse as refusal:
            return codec.refusal(request["id"], refusal.error)
        except Silence:
            return None
        return codec.reply(request["id"], body)


def command(endpoint: str, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-W",
        "error",
        "-m",
        "gemflowctl",
        "--endpoint",
        endpoint,
        "--reply-timeout",
        "20",
        *arguments,
    ]


def accept(body: Body) -> Body:
    """The answer of `submit` for flow 7, whose tasks begin with 42."""
    offset = body.get("offset", 0)
    count = len(body["tasks"])
    return {
        "flow": 7,
        "submission": body["submission"],
        "state": "active" if body.get("complete", True) else "open",
        "first": 42 + offset,
        "count": count,
        "received": offset + count,
        "repeated": False,
    }


class Journal:
    """Stored events as a daemon has them: `seq` for all, ordinals for each topic. Those before `first_kept` are gone."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.events: list[Body] = []
        self.epoch = 1
        self.first_kept = 1
        peer.answers |= {"subscribe": self._subscribe, "events": self._page}

    def add(self, topic: str, *, published: bool = True, **fields: Any) -> None:
        ordinal = sum(event["topic"] == topic for event in self.events)
        event = {"seq": len(self.events) + 1, "at": 1.0, "topic": topic, **fields}
        self.events.append(event)
        if published:
            self.peer.publish(topic, ordinal, [event], self.epoch)

    def _subscribe(self, body: Body) -> Body:
        counts: dict[str, int] = {}
        for event in self.events:
            if any(event["topic"].startswith(prefix) for prefix in body.get("topics", [""])):
                counts[event["topic"]] = counts.get(event["topic"], 0) + 1
        return {
            "endpoint": self.peer.events_endpoint,
            "epoch": self.epoch,
            "next": len(self.events) + 1,
            "topics": counts,
        }

    def _page(self, body: Body) -> Body:
        start = max(body["from"], self.first_kept)
        chosen = self.events[start - 1 :][:2]  # small pages, so that they have to be joined
        last = chosen[-1]["seq"] + 1 if chosen else start
        topics = body.get("topics", [""])
        reply = {
            "events": [event for event in chosen if any(event["topic"].startswith(topic) for topic in topics)],
            "next": last,
            "first_kept": self.first_kept,
        }
        if body["from"] < self.first_kept:
            counts: dict[str, int] = {}
            for event in self.events[: self.first_kept - 1]:
                counts[event["topic"]] = counts.get(event["topic"], 0) + 1
            reply["missed"] = {"first": body["from"], "last": self.first_kept - 1, "topics": counts}
        return reply


def seqs(events: list[Body]) -> list[int]:
    return [event["seq"] for event in events]
