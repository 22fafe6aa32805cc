"""RQ with Redis."""

import harness
from redis import Redis
from rq import Queue

SETTINGS = "worker-pool of 2 SimpleWorkers (no fork for a job: its documentation's way to speed), results by XREAD"
PACKAGES = ("rq", "redis", "hiredis")

_REDIS = Redis.from_url(harness.URL)
_QUEUE = Queue("noop", connection=_REDIS)


def noop(value):
    return value


def workers():
    return [
        [
            "rq",
            "worker-pool",
            "noop",
            "-n",
            "2",
            "-w",
            "rq.SimpleWorker",
            "-u",
            harness.URL,
            "-q",
            "-P",
            str(harness.HERE),
        ]
    ]


def _wait(jobs):
    for number, job in enumerate(jobs):
        result = job.latest_result(timeout=300)
        assert result is not None
        assert result.return_value == number


def bulk(n):
    _wait(_QUEUE.enqueue_many([Queue.prepare_data("with_rq.noop", (number,)) for number in range(n)]))


def single(n):
    _wait([_QUEUE.enqueue("with_rq.noop", number) for number in range(n)])


if __name__ == "__main__":
    harness.run("with_rq")
