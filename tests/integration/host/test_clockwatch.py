"""The timer that is cancelled when somebody sets the clock."""

from __future__ import annotations

import select

from gemflowd.host.clockwatch import ClockWatch


def test_nothing_is_said_while_nobody_sets_the_clock() -> None:
    """That it is said is the kernel's promise; setting the clock of the machine to see it is not for a test."""
    watch = ClockWatch()
    try:
        assert select.select([watch], [], [], 0)[0] == []
        assert not watch.was_set()
    finally:
        watch.close()
