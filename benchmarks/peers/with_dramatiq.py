"""Dramatiq with Redis as broker and result backend."""

import dramatiq
import harness
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

SETTINGS = "2 processes of 8 threads (as it comes), results in Redis, which the client waits for in Redis itself"
PACKAGES = ("dramatiq", "redis", "hiredis")

broker = RedisBroker(url=harness.URL)
broker.add_middleware(Results(backend=RedisBackend(url=harness.URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(value):
    return value


def workers():
    return [["dramatiq", "with_dramatiq", "--processes", "2", "--threads", "8"]]


def bulk(n):
    got = list(
        dramatiq.group([noop.message(number) for number in range(n)]).run().get_results(block=True, timeout=300_000)
    )
    assert got == list(range(n))


def single(n):
    got = [message.get_result(block=True, timeout=300_000) for message in [noop.send(number) for number in range(n)]]
    assert got == list(range(n))


if __name__ == "__main__":
    harness.run("with_dramatiq")
