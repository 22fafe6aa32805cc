"""Dask.distributed: a scheduler and two workers of this client."""

import harness
from distributed import Client, LocalCluster

SETTINGS = "LocalCluster, 2 processes of 1 thread, no dashboard; map or submit with pure=False, then gather"
PACKAGES = ("distributed", "dask")

_held = {}


def noop(value):
    return value


def workers():
    return []


def start():
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50)
    _held["cluster"], _held["client"] = cluster, Client(cluster)


def stop():
    _held["client"].close()
    _held["cluster"].close()


def bulk(n):
    client = _held["client"]
    assert client.gather(client.map(noop, range(n), pure=False)) == list(range(n))


def single(n):
    client = _held["client"]
    assert client.gather([client.submit(noop, number, pure=False) for number in range(n)]) == list(range(n))


if __name__ == "__main__":
    harness.run("with_dask")
