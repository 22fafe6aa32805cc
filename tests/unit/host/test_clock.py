"""The clocks are the ones that their names say."""

import time

from gemflowd.host import clock


def test_wall_is_the_time_of_day():
    assert time.time() <= clock.wall() <= time.time()


def test_monotonic_goes_forward():
    assert time.monotonic() <= clock.monotonic() <= time.monotonic()
