"""Celery with Redis as broker and result backend."""

import harness
from celery import Celery, group

SETTINGS = (
    "prefork, 2 processes, prefetch multiplier 64 (its guide's advice for short tasks), JSON, results in Redis, "
    "without gossip, mingle, heartbeat and events"
)
PACKAGES = ("celery", "kombu", "redis", "hiredis")

app = Celery("with_celery", broker=harness.URL, backend=harness.URL)
app.conf.update(
    worker_prefetch_multiplier=64,
    task_serializer="json",
    result_serializer="json",
    worker_send_task_events=False,
    task_send_sent_event=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(value):
    return value


def workers():
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
    return [["celery", "-A", "with_celery", "worker", "-P", "prefork", "-c", "2", *options]]


def bulk(n):
    got = group(noop.s(number) for number in range(n)).apply_async().join_native(timeout=300)
    assert len(got) == n


def single(n):
    got = [result.get(timeout=300) for result in [noop.delay(number) for number in range(n)]]
    assert got == list(range(n))


if __name__ == "__main__":
    harness.run("with_celery")
