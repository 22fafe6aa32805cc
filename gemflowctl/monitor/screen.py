"""The monitor's terminal: the alternate screen, the keys, and the loop that waits for messages."""

from __future__ import annotations

import os
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import zmq
from rich.console import Console
from rich.live import Live

from gemflowctl import peer
from gemflowctl.monitor.feed import TOPICS, Feed
from gemflowctl.monitor.view import render
from gemflowctl.steps import Body
from gemflowctl.subscriber import Subscriber
from gemflowd.protocol.endpoints import events_endpoint

#: Seconds between two pictures, at least.
_FRAME: Final = 0.25
#: Messages read before the next picture, at most; a flood must not hold it up.
_AT_ONCE: Final = 500


def show(endpoint: str, first: Body, *, color: bool) -> None:
    """Draw until `q` or Ctrl-C. Survives the end and the restart of the daemon.

    Args:
        first: a body of `stats`, so that the first picture has figures.
    """
    feed = Feed(endpoint, time.monotonic())
    feed.figures(first, time.monotonic())
    console = Console(no_color=not color, highlight=False)
    with zmq.Context() as context, _keys() as keys:
        subscriber = Subscriber(context, events_endpoint(endpoint), TOPICS)
        try:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                _loop(feed, subscriber, keys, live)
        finally:
            subscriber.close()


def _loop(feed: Feed, subscriber: Subscriber, keys: int, live: Live) -> None:
    poller = zmq.Poller()
    poller.register(subscriber.socket, zmq.POLLIN)
    poller.register(keys, zmq.POLLIN)
    while True:
        size = live.console.size
        live.update(render(feed, size.width, size.height), refresh=True)
        until = time.monotonic() + _FRAME
        while (left := until - time.monotonic()) > 0:
            ready = dict(poller.poll(int(left * 1000) + 1))
            if keys in ready and _quits(os.read(keys, 64)):
                return
            if subscriber.socket in ready:
                _read(feed, subscriber)
        if feed.stale(time.monotonic()):
            feed.looked(there=peer.absence(feed.endpoint) is None)


def _read(feed: Feed, subscriber: Subscriber) -> None:
    for _ in range(_AT_ONCE):
        message = subscriber.receive(0)
        if message is None:
            return
        feed.message(*message, time.monotonic())


def _quits(pressed: bytes) -> bool:
    # An empty read is the end of the input: nobody can press q any more.
    return not pressed or any(key in b"qQ\x03\x04" for key in pressed)


@contextmanager
def _keys() -> Iterator[int]:
    """The terminal's keys, one at a time and without echo; as before afterwards."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
