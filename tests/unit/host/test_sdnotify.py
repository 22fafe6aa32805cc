"""The messages to systemd, read from a socket as systemd would. A real systemd is asked in tests/systemd."""

import os
import socket
import uuid
from pathlib import Path

import pytest

from gemflowd.host.sdnotify import Notifier


def listen(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(5)
    manager.bind(address)
    return manager


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path: Path):
    name = f"gemflow-{uuid.uuid4()}"
    bound, told = (f"\0{name}", f"@{name}") if request.param == "abstract" else (str(tmp_path / "n"),) * 2
    with listen(bound) as manager:
        yield manager, told


def test_every_message(manager):
    receiver, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    sent = {
        notifier.ready: b"READY=1",
        notifier.stopping: b"STOPPING=1",
        notifier.alive: b"WATCHDOG=1",
    }
    for send, expected in sent.items():
        assert send()
        assert receiver.recv(4096) == expected
    assert notifier.ready("17 tasks")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=17 tasks"


def test_reloading_carries_the_time(manager):
    receiver, address = manager
    assert Notifier({"NOTIFY_SOCKET": address}).reloading()
    first, second = receiver.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_status_stays_one_line(manager):
    receiver, address = manager
    assert Notifier({"NOTIFY_SOCKET": address}).status("one\nREADY=1")
    assert receiver.recv(4096) == b"STATUS=one READY=1"


def test_children_do_not_inherit_it():
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1", "HOME": "/"}
    Notifier(environ)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "vsock:2:1234"])
def test_without_a_manager_nothing_fails(address: str):
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert not notifier.ready()
    assert not notifier.alive()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog(environ: dict[str, str], seconds: float | None):
    notifier = Notifier(environ)
    assert notifier.watchdog == seconds
    assert notifier.feed_every == (None if seconds is None else seconds / 2)
