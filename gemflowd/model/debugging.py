"""What `DEBUG` asks for, as in npm's `debug`: `DEBUG=parallel:*,-parallel:server`. The same in daemon and client."""

from __future__ import annotations

import re
from typing import Final

#: What can be asked for: the daemon's loggers, and the frames of a client.
ROOMS: Final = ("app", "client", "pool", "queue", "schedules", "server", "store", "worker", "workspace")


def rooms_of(debug: str) -> set[str]:
    """The rooms that are asked for. `*` stands for any letters; what begins with `-` is left out, wherever it stands."""
    wanted: set[str] = set()
    unwanted: set[str] = set()
    for word in _words(debug):
        (unwanted if word.startswith("-") else wanted).update(_fitting(word))
    return wanted - unwanted


def strangers(debug: str) -> list[str]:
    """Words that are meant for us and fit no room. Those of other programs are none of our business."""
    return [word for word in _words(debug) if word.removeprefix("-").startswith("parallel:") and not _fitting(word)]


def _words(debug: str) -> list[str]:
    return re.split(r"[\s,]+", debug)


def _fitting(word: str) -> set[str]:
    pattern = re.compile(".*".join(map(re.escape, word.removeprefix("-").split("*"))))
    return {room for room in ROOMS if pattern.fullmatch(f"parallel:{room}")}
