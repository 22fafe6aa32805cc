"""What a no-op task costs the database: commits and SQL statements, counted and not timed.

The engine is driven turn by turn, so that the counts are the same on every machine. Each bound is some 15 % above what was counted
when it was written: a quarter more goes red. Whoever makes something cheaper lowers the bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest
from helpers.rig import OnDisk, Rig
from helpers.tasks import many, new

from gemflowd.model.facts import AttemptsEnded


@dataclass
class Cost:
    """What one connection did."""

    commits: int = 0
    statements: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        """For the message: the commonest statements, by their beginnings."""
        return "\n".join(f"{count:6} {sql}" for sql, count in self.statements.most_common(15))


@contextmanager
def counted(db: apsw.Connection) -> Iterator[Cost]:
    cost = Cost()

    def commit() -> bool:
        cost.commits += 1
        return False

    def statement(event: dict[str, Any]) -> None:
        cost.statements[event["sql"].partition("\n")[0][:90]] += 1

    db.set_commit_hook(commit)
    db.trace_v2(apsw.SQLITE_TRACE_STMT, statement)
    try:
        yield cost
    finally:
        db.trace_v2(0, None)
        db.set_commit_hook(None)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Two slots, and a type of task that is known to be quick, so that many are handed over together."""
    rig = Rig(OnDisk(tmp_path / "gemflow.db"))
    rig.slots(2)
    rig.submit([new()], uuid="first")
    end_all(rig)
    return rig


def end_all(rig: Rig) -> None:
    """What was handed over ends, and is reported together."""
    rig.post(AttemptsEnded([rig.executor.ended(order, seconds=0.0001) for order in rig.executor.handed()]))
    rig.run()


def test_a_thousand_tasks_in_one_flow(rig: Rig) -> None:
    with counted(rig.backing.store._db) as cost:
        rig.submit(many(1_000))
        while rig.executor.handed():
            end_all(rig)
    assert len(rig.executor.started) == 1_001
    # 4 and 186: stored and begun, ended and begun twice, ended.
    assert cost.commits <= 4
    assert cost.statements.total() <= 104, cost.told()


def test_a_hundred_tasks_one_after_the_other(rig: Rig) -> None:
    with counted(rig.backing.store._db) as cost:
        for number in range(100):
            rig.submit([new()], uuid=f"s{number}")
            end_all(rig)
    assert len(rig.executor.started) == 101
    # 200 and 5,700: each is stored and begun in one turn, and ends in another.
    assert cost.commits <= 200
    assert cost.statements.total() <= 2_900, cost.told()
