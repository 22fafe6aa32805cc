"""Which GPUs an amount is given: whole ones, a share of one, the best fit; and what is free afterwards."""

from __future__ import annotations

import random

import pytest

from gemflowd.core.devices import Devices, fits


def test_two_halves_share_a_device_and_leave_the_other_whole():
    devices = Devices(("0", "1"))
    assert devices.take(1, 0.5) == ("0",)
    assert devices.take(2, 0.5) == ("0",)
    assert devices.take(3, 1) == ("1",)
    assert not devices.fits(0.1)
    assert devices.free_shares() == {"0": 0.0, "1": 0.0}
    devices.free(1)
    assert devices.fits(0.5)
    assert not devices.fits(1), "half of it is in use"


def test_a_share_goes_where_least_is_left_over():
    devices = Devices(("0", "1", "2"))
    devices.take(1, 0.3)
    devices.take(2, 0.8)
    assert devices.given(2) == ("1",)
    assert devices.take(3, 0.2) == ("1",)
    assert devices.take(4, 0.2) == ("0",)


def test_several_are_whole_ones():
    devices = Devices(("GPU-a", "GPU-b", "GPU-c"))
    devices.take(1, 0.25)
    assert devices.take(2, 2) == ("GPU-b", "GPU-c")
    devices.free(1)
    assert not devices.fits(2), "one is free in all, two are wanted"
    devices.free(2)
    assert devices.fits(3)
    assert not devices.fits(4)


def test_enough_in_all_and_not_on_one_does_not_fit():
    devices = Devices(("0", "1"))
    devices.take(1, 0.6)
    devices.take(2, 0.6)
    assert not devices.fits(0.5)
    assert not fits([0.4, 0.4], 0.5)
    assert fits([0.4, 0.5], 0.5)


def test_where_none_are_known_amounts_are_all_there_is():
    devices = Devices()
    assert devices.fits(99)
    assert devices.take(1, 2) == devices.given(1) == ()
    devices.free(1)


def test_a_copy_is_one_of_its_own():
    devices = Devices(("0",))
    devices.take(1, 0.5)
    other = devices.copy()
    other.take(2, 0.5)
    assert devices.fits(0.5)
    assert (other.given(1), other.given(2)) == (("0",), ("0",))


def test_other_devices_keep_what_is_given_of_those_that_stay():
    devices = Devices(("0", "1"))
    devices.take(1, 1)
    devices.take(2, 0.5)
    devices.replace(("1", "2"))
    assert devices.free_shares() == {"1": 0.5, "2": 1.0}
    devices.free(1)
    devices.free(2)
    assert devices.free_shares() == {"1": 1.0, "2": 1.0}


@pytest.mark.parametrize("seed", range(20))
def test_no_device_is_given_twice_and_nothing_is_lost(seed: int):
    rng = random.Random(seed)
    devices = Devices(tuple("abcd"))
    given: dict[int, float] = {}
    for task in range(300):
        amount = rng.choice([0.1, 0.25, 0.3333, 0.5, 1, 2])
        if devices.fits(amount):
            its = devices.take(task, amount)
            assert len(set(its)) == max(1, int(amount))
            given[task] = amount
        elif given:
            gone = rng.choice(list(given))
            del given[gone]
            devices.free(gone)
        shares = dict.fromkeys("abcd", 0.0)
        for number, amount in given.items():
            for name in devices.given(number):
                shares[name] += min(amount, 1.0)
        assert all(share <= 1.000_01 for share in shares.values())
        assert devices.free_shares() == pytest.approx({name: 1 - share for name, share in shares.items()})
    for number in given:
        devices.free(number)
    assert devices.fits(4)
