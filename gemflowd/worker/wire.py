"""What daemon, nursery and worker say to each other. Private to this executor; all ends are always of one version.

Values are MessagePack arrays whose first element is one of the words below.
"""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence
from typing import Any, Final

import msgpack

# Daemon to worker
CONFIG: Final = "config"  # settings for handlers, grace seconds, most bytes of a result
START: Final = "start"  # [[task, token, attempt, flow, id, type, body, inputs, timeout, devices, memory_mb], …]
CANCEL: Final = "cancel"  # task, token
REPLY: Final = "reply"  # number of the request, whether it was granted, its body or error (MessagePack)
STOP: Final = "stop"  # finish what was started, then leave

# Worker to daemon
UP: Final = "up"
ENDED: Final = "ended"  # task, token, outcome, payload, seconds, retry_after, usage, peak_kb
LOG: Final = "log"  # task, attempt, at, stream, text
PROGRESS: Final = "progress"  # task, token, at, done, total, message
LAG: Final = "lag"  # seconds that the loop stood still, by which task, its stack; without a stack: it turns again
GROUP: Final = "group"  # task, token, a process group that must end with the attempt's worker
REQUEST: Final = "request"  # number, task, token, operation, body (MessagePack)
DROPPED: Final = "dropped"  # how many orders found no ticket: they were taken back

# Daemon to nursery
FORK: Final = "fork"  # name, kind; descriptors: channel, tickets, and those of its output (`executor.local.output`)

# Nursery to daemon
HANDLER: Final = "handler"  # one entry of the catalogue
READY: Final = "ready"  # the catalogue is complete
FAILED: Final = "failed"  # why the handlers can't be loaded
FORKED: Final = "forked"  # name, pid; descriptor: pidfd
UNFORKED: Final = "unforked"  # name, why: the system had no room for another process
EXITED: Final = "exited"  # pid, status as of wait(2), peak_kb
NOTE: Final = "note"  # a line for the daemon's log

#: In the file of last words: a count of what the worker has read of its pipes, and from here on what a crash leaves behind.
LAST_WORDS_AT: Final = 4096
#: Bytes of a request's body: those of a client's frame.
MAX_REQUEST: Final = 16 * 1024 * 1024
#: Requests of one attempt that may be unanswered.
MOST_REQUESTS: Final = 64
#: Longest packet on the nursery's socket: one handler with its schema.
MAX_PACKET: Final = 200_000


def send_packet(end: socket.socket, message: Sequence[object], descriptors: Sequence[int] = ()) -> None:
    """One packet of a SOCK_SEQPACKET socket, with descriptors."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    end.sendmsg([msgpack.packb(message)], rights)


def receive_packet(end: socket.socket, most: int = 16) -> tuple[list[Any] | None, list[int]]:
    """The next packet and its descriptors; None at EOF."""
    data, descriptors, _, _ = socket.recv_fds(end, MAX_PACKET, most)
    return (msgpack.unpackb(data) if data else None), descriptors
