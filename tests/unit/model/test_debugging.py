"""`DEBUG` as in npm's debug, and that every logger of the daemon can be asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gemflowd
from gemflowd.model.debugging import ROOMS, rooms_of, strangers

ALL = set(ROOMS)


@pytest.mark.parametrize(
    ("debug", "rooms"),
    [
        ("", set()),
        ("1", set()),
        ("parallel", set()),
        ("express:*", set()),
        ("express:*,-parallel:pool", set()),
        ("parallel:*", ALL),
        ("*", ALL),
        ("parallel:queue,parallel:pool", {"queue", "pool"}),
        ("parallel:queue parallel:pool", {"queue", "pool"}),
        ("parallel:s*", {"schedules", "server", "store"}),
        ("parallel:*,-parallel:server", ALL - {"server"}),
        ("-parallel:server,parallel:*", ALL - {"server"}),
        ("parallel:*,-parallel:s*", ALL - {"schedules", "server", "store"}),
        ("parallel:*,-*", set()),
        ("parallel:.*", set()),
        ("parallel:Queue", set()),
    ],
)
def test_what_is_asked_for(debug: str, rooms: set[str]) -> None:
    assert rooms_of(debug) == rooms


def test_words_that_name_nothing_are_told_but_not_those_of_others() -> None:
    assert strangers("parallel:qeue, -parallel:nothing express:* parallel:* *") == [
        "parallel:qeue",
        "-parallel:nothing",
    ]


def test_every_logger_is_a_room() -> None:
    package = Path(gemflowd.__file__).parent
    found = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r'getLogger\("gemflow\.([a-z.]+)"\)', path.read_text("utf-8"))
    }
    assert {"queue", "pool", "worker", "server"} <= found
    assert found | {"client"} == ALL
