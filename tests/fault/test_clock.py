"""A real daemon whose wall clock is set by an hour, either way: durations don't notice, dates do.

The clock of the machine is left alone. A small library in front of libc adds to CLOCK_REALTIME what a file says; it is
compiled here, and where there is no C compiler these tests are skipped by name. The kernel does not tell the daemon of such a
jump (tests/integration/host/test_clockwatch.py is about that), so each is followed by a request.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.daemon import Daemon, running, with_handlers

HOUR = 3600.0
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile double *skew(void) {
  static volatile double *at;
  if (!at) {
    int file = open(getenv("CLOCK_SKEW"), O_RDONLY | O_CLOEXEC);
    at = mmap(0, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
  }
  return at;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(clock, out);
  if (clock == CLOCK_REALTIME) out->tv_sec += (time_t)*skew();
  return status;
}

int gettimeofday(struct timeval *out, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}
"""


class Clock:
    """What the daemon takes for the wall clock."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0.0)

    def set(self, seconds: float) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("d", seconds))


@pytest.fixture
def jumpy(tmp_path: Path) -> Iterator[tuple[Daemon, Clock]]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    clock = Clock(tmp_path / "skew")
    env = {"LD_PRELOAD": str(library), "CLOCK_SKEW": str(tmp_path / "skew")}
    with running(env=env, **with_handlers("odd_tasks", workers=1, backoff=0.0)) as daemon:
        yield daemon, clock


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
def test_durations_do_not_notice(jumpy: tuple[Daemon, Clock], jump: float) -> None:
    daemon, clock = jumpy
    client = daemon.client()
    before = client("ping")["now"]
    soon = client.submit({"type": "echo", "delay": 1.5})["first"]
    late = client.submit({"type": "echo", "delay": 500.0})["first"]
    lasting = client.submit({"type": "echo", "delay": 500.0, "expires_in": 400.0})["first"]
    running_one = client.submit({"type": "nap", "data": {"seconds": 1.0}, "timeout": 20.0})["first"]
    clock.set(jump)
    assert abs(client("ping")["now"] - before - jump) < 60, "the clock was really set"
    client.submit({"type": "echo"})
    client.wait(soon, running_one)
    assert client.show(running_one)["attempts_log"][0]["outcome"] == "done"
    assert [client.show(number)["state"] for number in (late, lasting)] == ["scheduled", "scheduled"]
    # Neither does a restart, which begins from what the last daemon wrote down.
    daemon.kill()
    daemon.restart()
    client = daemon.client()
    client.wait(client.submit({"type": "echo", "delay": 0.3})["first"])
    assert [client.show(number)["state"] for number in (late, lasting)] == ["scheduled", "scheduled"]
    assert client("status")["tasks"]["succeeded"] == 4


def test_dates_come_with_the_clock(jumpy: tuple[Daemon, Clock]) -> None:
    daemon, clock = jumpy
    client = daemon.client()
    now = client("ping")["now"]
    dated = client.submit({"type": "echo", "run_at": now + 1800})["first"]
    passing = client.submit({"type": "echo", "run_at": now + 9000, "expires": now + 1800})["first"]
    clock.set(-HOUR)
    client.submit({"type": "echo"})
    assert [client.show(number)["state"] for number in (dated, passing)] == ["scheduled", "scheduled"]
    clock.set(HOUR)
    client.submit({"type": "echo"})
    client.wait(dated, passing)
    assert [client.show(number)["state"] for number in (dated, passing)] == ["succeeded", "skipped"]
