"""Taskiq with Redis streams as broker and Redis as result backend."""

import asyncio

import harness
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

SETTINGS = (
    "RedisStreamBroker, 2 processes, async task, 100 at a time and 100 prefetched, without parsing; "
    "results in Redis, asked for every 2 ms"
)
PACKAGES = ("taskiq", "taskiq-redis", "redis", "hiredis")
_AT_ONCE = 10

broker = RedisStreamBroker(harness.URL, max_connection_pool_size=2 * _AT_ONCE).with_result_backend(
    RedisAsyncResultBackend(harness.URL, max_connection_pool_size=2 * _AT_ONCE)
)
_LOOP = asyncio.new_event_loop()


@broker.task(task_name="noop")
async def noop(value: int) -> int:
    return value


def workers():
    options = [
        "--workers",
        "2",
        "--max-async-tasks",
        "100",
        "--max-prefetch",
        "100",
        "--no-parse",
        "--log-level",
        "WARNING",
    ]
    return [["taskiq", "worker", "with_taskiq:broker", *options]]


def start():
    _LOOP.run_until_complete(broker.startup())


def stop():
    _LOOP.run_until_complete(broker.shutdown())


async def _many(n):
    waiting, got = iter(range(n)), []

    async def send(tasks):
        for number in waiting:
            tasks.append(await noop.kiq(number))

    async def wait(tasks):
        for task in tasks:
            result = await task.wait_result(check_interval=0.002, timeout=300)
            got.append(result.return_value)

    tasks = []
    await asyncio.gather(*(send(tasks) for _ in range(_AT_ONCE)))
    left = iter(tasks)
    await asyncio.gather(*(wait(left) for _ in range(_AT_ONCE)))
    assert sorted(got) == list(range(n))


def single(n):
    """There is no call for many; some are on their way at a time (more was not faster)."""
    _LOOP.run_until_complete(_many(n))


if __name__ == "__main__":
    harness.run("with_taskiq")
