"""The blocking connection to a daemon: one DEALER socket, pipelining, and reconnection with the same requests.

Not safe to share between threads.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

import zmq

from gemflowctl import peer
from gemflowctl.errors import ClientError, NoDaemon
from gemflowctl.interrupt import Interrupt
from gemflowctl.steps import Body, Call
from gemflowctl.wire import Mailbox, Pending

#: Largest reply that is accepted, with room for the envelope.
_MAX_REPLY: Final = 64 * 1024 * 1024


class Connection:
    """One daemon, seen from one thread.

    Args:
        context: owns the socket.
        endpoint: `ipc://…`.
        reply_timeout: seconds for one try of a request; those that are safe to repeat have three.
        restart_patience: seconds to wait for a daemon that answered before and went away. The first contact never waits.
        interrupt: ends every wait with `Interrupted` when it is set from another thread.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        reply_timeout: float,
        restart_patience: float,
        interrupt: Interrupt | None = None,
    ) -> None:
        self._context = context
        self._endpoint = peer.check_endpoint(endpoint)
        self._restart_patience = restart_patience
        self._interrupt = interrupt
        self._mailbox = Mailbox(reply_timeout)
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._known = False

    def post(self, call: Call) -> Pending:
        """Send a request without waiting for its reply.

        Raises:
            NoDaemon: nobody listens.
            InvalidInput: it can't be sent.
        """
        if self._socket is not None and self._disconnected():
            self._recover(counts=False)
        if self._socket is None:
            self._open()
        pending = self._mailbox.new(call, time.monotonic())
        assert self._socket is not None
        self._socket.send(pending.frame)
        return pending

    def collect(self, pending: Pending) -> Body:
        """Wait for the reply and return its body.

        Raises:
            RefusedByDaemon: the refusal.
            ReplyTimeout: no reply came, in none of the tries.
            NoDaemon: the daemon went away and did not come back (`ConnectionLost` for what is not safe to repeat).
        """
        try:
            while not pending.settled:
                self._wait(pending)
        finally:
            self._mailbox.forget(pending)
        return pending.result()

    def call(self, call: Call) -> Body:
        """`post` and `collect`."""
        return self.collect(self.post(call))

    def close(self) -> None:
        """Close the sockets; what is unanswered stays so."""
        if self._socket is not None:
            if self._monitor is not None:
                self._socket.disable_monitor()
                self._monitor.close(linger=0)
            self._socket.close(linger=0)
            self._socket = self._monitor = None

    def _wait(self, pending: Pending) -> None:
        assert self._socket is not None
        assert self._monitor is not None
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        if self._interrupt is not None:
            poller.register(self._interrupt.fileno(), zmq.POLLIN)
        left = pending.deadline - time.monotonic()
        if left > 0:
            poller.poll(int(left * 1000) + 1)
        if self._interrupt is not None:
            self._interrupt.check()
        # Replies first: a daemon that ends answers before it hangs up.
        self._read()
        if pending.settled:
            return
        if self._disconnected():
            self._recover(counts=False)
        elif time.monotonic() >= pending.deadline:
            self._mailbox.silent(pending)
            if not pending.settled:
                self._recover(counts=True)

    def _read(self) -> None:
        assert self._socket is not None
        with suppress(zmq.Again):
            while True:
                self._mailbox.deliver(self._socket.recv_multipart(zmq.NOBLOCK)[-1])
                self._known = True

    def _disconnected(self) -> bool:
        """Whether libzmq reported a broken connection since the last look."""
        assert self._monitor is not None
        broken = False
        with suppress(zmq.Again):
            while True:
                self._monitor.recv_multipart(zmq.NOBLOCK)
                broken = self._known = True  # it was connected, so there was a daemon
        return broken

    def _recover(self, *, counts: bool) -> None:
        """Open a new socket, wait for the daemon if it went away, and send again what is safe to send again.

        Afterwards every request is under way again, or settled with the reason why it is not.
        """
        self.close()
        if not counts:
            self._mailbox.lost()
        if not self._mailbox.waiting():
            return  # the next request opens it
        try:
            self._open()
        except ClientError as error:
            self._mailbox.fail_all(error)
            return
        assert self._socket is not None
        for pending in self._mailbox.waiting():
            self._mailbox.again(pending, time.monotonic(), counts=counts)
            self._socket.send(pending.frame)

    def _open(self) -> None:
        give_up = time.monotonic() + (self._restart_patience if self._known else 0.0)
        while (problem := peer.absence(self._endpoint)) is not None:
            self._pause(problem, give_up)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REPLY)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(self._endpoint)

    def _pause(self, problem: NoDaemon, give_up: float) -> None:
        if time.monotonic() >= give_up:
            raise problem
        if self._interrupt is not None:
            self._interrupt.wait(peer.LOOK_SECONDS)
            self._interrupt.check()
        else:
            time.sleep(peer.LOOK_SECONDS)
