"""FlexiQ (formerly Taskito) with SQLite."""

import harness
from flexiq import Queue

SETTINGS = (
    "SQLite in WAL, --pool prefork with 2 workers, polling every 5 ms (as it comes: 50 ms; push_dispatch and larger batches were slower); "
    "it commits without fsync (strace: none for an enqueue), and has no setting for it"
)
PACKAGES = ("flexiq",)

queue = Queue(
    db_path=str(harness.DIRECTORY / "flexiq.db"),
    workers=2,
    scheduler_poll_interval_ms=5,
)


@queue.task()
def noop(value):
    return value


def workers():
    return [["flexiq", "worker", "--app", "with_flexiq:queue", "--pool", "prefork"]]


def _wait(jobs):
    assert [job.result(timeout=300, poll_interval=0.002, max_poll_interval=0.002) for job in jobs] == list(
        range(len(jobs))
    )


def bulk(n):
    _wait(noop.map([(number,) for number in range(n)]))


def single(n):
    _wait([noop.delay(number) for number in range(n)])


if __name__ == "__main__":
    harness.run("with_flexiq")
