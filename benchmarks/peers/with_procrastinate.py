"""Procrastinate with PostgreSQL."""

import time

import harness
import procrastinate
import psycopg

SETTINGS = (
    "2 worker processes, 10 jobs at a time in each, listen/notify; async task; it stores no results, so the client counts what "
    "has succeeded every 5 ms"
)
PACKAGES = ("procrastinate", "psycopg")

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=harness.URL))
_SYNC = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=harness.URL))
_held = {}


@app.task(name="noop", pass_context=False)
async def noop(value):
    return value


def workers():
    _SYNC.open()
    _SYNC.schema_manager.apply_schema()
    return [
        ["procrastinate", "-a", "with_procrastinate.app", "--log-level", "warning", "worker", "-c", "10"]
        for _ in range(2)
    ]


def start():
    _held["db"] = psycopg.connect(harness.URL, autocommit=True)


def stop():
    _held["db"].close()
    _SYNC.close()


def _wait(first, n):
    ask = "SELECT count(*) FROM procrastinate_jobs WHERE id >= %s AND status = 'succeeded'"
    while _held["db"].execute(ask, (first,)).fetchone()[0] < n:
        time.sleep(0.005)


def bulk(n):
    numbers = _SYNC.configure_task("noop").batch_defer(*({"value": number} for number in range(n)))
    _wait(min(numbers), n)


def single(n):
    numbers = [_SYNC.configure_task("noop").defer(value=number) for number in range(n)]
    _wait(min(numbers), n)


if __name__ == "__main__":
    harness.run("with_procrastinate")
