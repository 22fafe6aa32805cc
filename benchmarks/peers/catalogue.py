"""Which peers there are, what each needs from PyPI, and whether what it acknowledges is synced to disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers import servers

Server = Callable[[Path], AbstractContextManager[tuple[str, str]]]

#: Environments, and what is installed in each.
ENVIRONMENTS: Final[dict[str, tuple[str, ...]]] = {
    "celery": ("celery[redis]", "redis[hiredis]"),
    "dramatiq": ("dramatiq[redis]", "redis[hiredis]"),
    "taskiq": ("taskiq", "taskiq-redis", "redis[hiredis]"),
    "huey": ("huey",),
    "flexiq": ("flexiq",),
    "procrastinate": ("procrastinate", "psycopg[binary]"),
    "rq": ("rq", "redis[hiredis]"),
    "dask": ("dask[distributed]",),
    "ray": ("ray",),
}


class Peer(NamedTuple):
    """One line of the table.

    Args:
        name: in the table and for `--only`.
        environment: one of `ENVIRONMENTS`; its module is `with_<environment>`.
        durable: it syncs before it acknowledges, with these settings.
        variant: told to the module as `PEER_VARIANT`.
    """

    name: str
    environment: str
    server: Server
    durable: bool
    variant: str = ""


PEERS: Final = (
    Peer("huey-sqlite-fsync", "huey", servers.none, True, "fsync"),
    Peer("huey-sqlite", "huey", servers.none, False),
    Peer("flexiq-sqlite", "flexiq", servers.none, False),
    Peer("procrastinate-postgresql", "procrastinate", servers.postgresql, True),
    Peer("taskiq-redis-fsync", "taskiq", servers.redis_fsync, True),
    Peer("taskiq-redis", "taskiq", servers.redis, False),
    Peer("dramatiq-redis-fsync", "dramatiq", servers.redis_fsync, True),
    Peer("dramatiq-redis", "dramatiq", servers.redis, False),
    Peer("celery-redis-fsync", "celery", servers.redis_fsync, True),
    Peer("celery-redis", "celery", servers.redis, False),
    Peer("rq-redis-fsync", "rq", servers.redis_fsync, True),
    Peer("rq-redis", "rq", servers.redis, False),
    Peer("dask", "dask", servers.none, False),
    Peer("ray", "ray", servers.none, False),
)
