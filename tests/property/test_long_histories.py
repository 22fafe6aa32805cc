"""Long random histories of the queue: deeper than what Hypothesis tries, not made small, the same ones in every run.

What is checked: helpers/history.py. GEMFLOW_PROPERTY_LONG=1 runs many more of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.history import History, Shape
from helpers.rig import OnDisk

from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.states import On

LONG = bool(os.environ.get("GEMFLOW_PROPERTY_LONG"))
STEPS = 150
BAD = [outcome for outcome in Outcome if outcome is not Outcome.CANCELLED]


def shapes(rng: random.Random) -> list[Shape]:
    return [
        {
            "priority": rng.choice([5, 5, 5, 9, 0]),
            "kind": rng.choice([Kind.BLOCKING, Kind.BLOCKING, Kind.COROUTINE]),
            "type": rng.choice(["echo", "sleep"]),
            "queue": rng.choice(["default", "night"]),
            "bucket": rng.choice([None, None, "a", "b"]),
            "delay": rng.choice([None, None, None, 0.0, 3.0, 50.0]),
            "retries": rng.choice([None, 0, 1]),
            "deps": [
                (rng.randrange(10_000), rng.choice([On.SUCCESS, On.SUCCESS, On.FAILURE, On.DONE]))
                for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))
            ],
            "resources": rng.choice(["", "", "", "gpu=0.5", "gpu=1", "gpu=2"]),
            "memory_mb": rng.choice([None, None, None, 64]),
            "expires_in": rng.choice([None, None, None, None, 4.0, 60.0]),
            "when": rng.choice([None, None, None, "1 == 1", "1 == 2", "deps.nobody.ok", "size(deps) > 1"]),
        }
        for _ in range(rng.randint(1, 9))
    ]


def steps(it: History, rng: random.Random) -> list[tuple[int, Callable[[], Any]]]:
    """What may happen, and how often."""
    pick = rng.randrange(10_000)
    yes = rng.random() < 0.5
    return [
        (6, lambda: it.submit(shapes(rng), rng.random() < 0.6, rng.choice([1.0, 4.0, 0.5]), stream=yes, critical_path=pick % 3 > 0)),
        (6, lambda: it.next_chunk(shapes(rng), pick, yes, rng.choice([0, 0, 0, 1, -1]), rng.random() < 0.3)),
        (3, lambda: it.repeat(pick, rng.randrange(10), yes)),
        (1, lambda: it.bad_chunk(pick, yes)),
        (1, lambda: it.discard(pick)),
        (4, lambda: it.cancel(pick, rng.choice([0, 0, 1, 2, 3]))),
        (6, lambda: it.retry(pick, rng.randrange(4), yes)),
        (3, lambda: it.hold(pick, rng.randrange(4))),
        (4, lambda: it.release(pick, rng.randrange(4))),
        (2, lambda: it.edit(pick, rng.randrange(4), rng.choice([0, 5, 9]))),
        (2, lambda: it.delete(pick)),
        (2, lambda: it.set_queue(rng.choice(["default", "night"]), rng.random() < 0.3, rng.choice([None, None, 0, 1, 2]))),
        (4, lambda: it.grow(pick, rng.randint(1, 3), yes, rng.choice([0, 0, 0, 1, -1]))),
        (2, lambda: it.jump(rng.choice([3600.0, -3600.0, 0.5]))),
        (1, lambda: it.configure(yes, rng.random() < 0.8)),
        (12, lambda: it.work(pick, rng.randint(1, 12), yes)),
        (12, lambda: it.end(pick, rng.choice([*BAD, *[Outcome.DONE] * 6]), rng.choice([0.0001, 1.0]), rng.choice([None, 0.0, 7.0]))),
        (6, lambda: it.end_several(pick, rng.choice([0.0001, 0.001]))),
        (3, it.obey_cancel),
        (6, lambda: it.late(pick, rng.choice(list(Outcome)), rng.choice([0, 0, 1_000, -1]), yes)),
        (5, lambda: it.take_back(pick, rng.randrange(3))),
        (4, lambda: it.lose_slot(pick, rng.choice(["stop", "kill", "innocent"]))),
        (2, lambda: it.add_slot(rng.choice(list(Kind)), rng.randint(1, 4)) if len(it.rig.executor.slots) < 5 else None),
        (20, lambda: it.go_on(rng.choice([1, 1, 2, None]))),
        (5, lambda: it.wait(rng.choice([1.0, 6.0, 100.0]))),
        (2, lambda: it.restart(rng.choice(["drain", "stop", "crash", "untold", "untold"]))),
        (4, lambda: it.failing_store(rng.choice(["write", "conclude", "commit", "tasks", "bodies"]), yes)),
    ]  # fmt: skip


def live(it: History, seed: int) -> None:
    rng = random.Random(seed)
    try:
        it.begin(rng.choice([0, 0, 1, 4]), shapes(rng), complete=True, devices=rng.choice([(), ("0", "1")]))
        for _ in range(STEPS):
            offered = steps(it, rng)
            (step,) = rng.choices([what for _, what in offered], [weight for weight, _ in offered])
            step()
            it.all_holds()
    except BaseException:
        it.give_up()
        raise
    it.close()


@pytest.mark.parametrize("seed", range(2_000 if LONG else 100))
def test_in_memory(seed: int):
    live(History(), seed)


@pytest.mark.parametrize("seed", range(200 if LONG else 5))
def test_on_disk(seed: int, tmp_path: Path):
    live(History(OnDisk(tmp_path / "gemflow.db")), 10_000 + seed)
