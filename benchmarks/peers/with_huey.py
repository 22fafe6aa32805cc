"""Huey with SQLite."""

import os

import harness
from huey import SqliteHuey

FSYNC = os.environ.get("PEER_VARIANT") == "fsync"
SETTINGS = f"SqliteHuey, WAL, fsync={FSYNC}, 2 processes, polling every 2 ms (as it comes: 100 ms), no periodic tasks"
PACKAGES = ("huey",)

huey = SqliteHuey("noop", filename=str(harness.DIRECTORY / "huey.db"), fsync=FSYNC)


@huey.task()
def noop(value):
    return value


def workers():
    options = ["-w", "2", "-k", "process", "-d", "0.002", "-m", "0.002", "-n", "-q"]
    return [["huey_consumer", "with_huey.huey", *options]]


def single(n):
    got = [result.get(blocking=True, backoff=1.0, max_delay=0.002) for result in [noop(number) for number in range(n)]]
    assert got == list(range(n))


if __name__ == "__main__":
    harness.run("with_huey")
