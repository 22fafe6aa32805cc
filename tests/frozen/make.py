"""Make the frozen database of the current schema: `python tests/frozen/make.py`. See README.md beside it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import apsw

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from helpers.daemon import Daemon  # noqa: E402
from helpers.raw import Raw, Refusal  # noqa: E402

from gemflowd.store.migrations import SCHEMA_VERSION  # noqa: E402


def fill(client: Raw) -> None:
    """Tasks in every state, of every kind of row. What a version can't do yet is left out, and said."""
    client.run(
        {"id": "a", "type": "echo", "data": {"x": 1}},
        {"id": "b", "type": "echo", "data": {"t": "{{ deps.a.x }}"}, "deps": ["a"]},
    )
    client.run(
        {"id": "bad", "type": "command", "data": {"args": ["false"]}, "retries": 0},
        {"id": "skip", "type": "echo", "deps": ["bad"]},
        {"id": "clean", "type": "echo", "deps": [{"id": "bad", "on": "done"}]},
        name="first",
        metadata={"made": "by make.py"},
    )
    client.run({"type": "command", "data": {"args": ["sh", "-c", "echo a line >&2; echo {}"]}})
    client.run(*[{"type": "echo", "data": {"n": n}} for n in range(50)])
    client("config", set={"retries": 4})
    client.submit({"type": "echo", "delay": 10 * 365 * 86_400.0})
    sleeper = client.submit({"id": "sleeper", "type": "sleep", "data": {"seconds": 3600}, "priority": 9})
    client.submit({"type": "echo", "deps": [{"number": sleeper["first"]}]})
    gone = client.submit({"type": "echo", "delay": 3600.0})
    client("cancel", refs=[f"f{gone['flow']}"])
    client.submit({"id": "open", "type": "echo"}, complete=False)
    client.submit({"type": "sleep", "data": {"seconds": 3600}, "queue": "slow"})
    later = {"type": "echo", "delay": 3600.0}
    for what, ask in {
        "a key": lambda: client.submit({**later, "key": "one", "key_ttl": 1e6}),
        "an expiry": lambda: client.submit({**later, "expires_in": 1800.0}),
        "a condition": lambda: client.submit(
            {"id": "w", **later}, {"type": "echo", "deps": ["w"], "when": "deps.w.ok"}
        ),
        "named amounts": lambda: client.submit({**later, "resources": {"gpu": 1.0}}),
        "a flow in chunks by its critical path": lambda: client.submit(
            {**later, "estimate": 2.5}, order="critical-path", complete=False
        ),
        "a memory cap": lambda: client.submit({**later, "memory_mb": 64}),
        "an id that is an integer": lambda: client.submit({**later, "id": 7}),
        "budgets": lambda: client.submit({**later, "budget": {"tokens": 5}}, budget={"tokens": 1000, "action": "warn"}),
        "a budget in all": lambda: client("budget_set", of="total", tokens=10**6),
        "a held flow": lambda: client("hold", refs=[f"f{client.submit(later)['flow']}"]),
        "a stream": lambda: client.submit(later, complete=False, stream=True),
        "a paused queue": lambda: client("pause", queue="other"),
        "a value": lambda: client("memory_set", key="k", value={"a": [1, 2]}),
        "an answer in the cache": lambda: client.run({"type": "gemini", "data": {"prompt": "Why?", "cache": "on"}}),
        "a schedule": lambda: client("schedule_add", name="nightly", cron="0 3 * * *", task={"type": "echo"}),
    }.items():
        try:
            ask()
        except Refusal as refusal:
            print(f"left out: {what}: {refusal}", file=sys.stderr)
    until = time.monotonic() + 30
    while client("status")["tasks"]["running"] < 2:
        assert time.monotonic() < until, "the sleepers do not run"


def main() -> None:
    target = HERE / f"v{SCHEMA_VERSION}.db"
    if any(int(path.stem[1:]) > SCHEMA_VERSION for path in HERE.glob("v*.db")):
        sys.exit("there is a database of a newer schema here; this version is too old")
    daemon = Daemon("--offline", **{"workers": 1, **({"resources": ["gpu=2"]} if _knows("resources") else {})})
    try:
        daemon.start()
        fill(daemon.client())
        daemon.kill()
        made = daemon.state / "gemflow.db"
        with apsw.Connection(str(made)) as db:  # the log goes into the file
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(made.read_bytes())
        part.replace(target)
        target.chmod(0o644)
        for pid in daemon.left():
            os.kill(pid, 9)
    finally:
        daemon.close()
    print(f"{target}: {target.stat().st_size} bytes")


def _knows(key: str) -> bool:
    from gemflowd.config.settings import BY_KEY

    return key in BY_KEY


if __name__ == "__main__":
    main()
