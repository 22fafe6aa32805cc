"""Random histories with budgets: what is spent and reserved stays below the limits, but for the estimates' error of what was in flight;
and what is recorded is the sum of all attempts.

GEMFLOW_PROPERTY_LONG=1 runs many more of them.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import msgpack
import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, new

from gemflowd.engine import engine
from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.budget import Action, Amount, Budget, NewBudget, Scope
from gemflowd.model.facts import AttemptsEnded, Cancel, ChangeBudget
from gemflowd.model.prices import NANO, Price, Prices, Rate, tokens_of
from gemflowd.model.refs import parse, parse_all
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.store.parts.budgets import COLUMNS, budget_from

LONG = bool(os.environ.get("GEMFLOW_PROPERTY_LONG"))
MODELS = ("gemini-a", "gemini-b")
PRICES = Prices({model: Price(Rate(NANO * 3 // 10, NANO // 10, NANO * 5 // 2)) for model in MODELS})
LIMITS = [NewBudget(2_000_000, None), NewBudget(None, 900), NewBudget(5_000_000, 4_000), NewBudget(0, None)]
LOST = (Outcome.LOST, Outcome.TIMEOUT, Outcome.CRASH, Outcome.SUSPECT)


class History:
    """An engine with model calls, and all that may happen to their budgets."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rig = Rig(rules=Rules(prices=PRICES, backoff=0.1, crash_limit=100, lost_limit=100), seed=seed)
        self.slots()
        self.error: Counter[tuple[Scope, object]] = Counter()  # by how much more attempts have used than was reserved
        self.tokens_error: Counter[tuple[Scope, object]] = Counter()
        self.serial = 0
        self.submit(None, [self.call(model) for model in MODELS])  # so that no estimate is a guess
        while self.running():
            self.end(Outcome.DONE)

    def slots(self) -> None:
        self.rig.slots(1, Kind.COROUTINE, 4)
        self.rig.slots(2)

    def call(self, model: str | None = None, budget: NewBudget | None = None) -> Any:
        rng = self.rng
        body = msgpack.packb({"data": {"prompt": "x" * rng.randrange(200)}})
        return new(
            None,
            bucket=f"gemini:{model or rng.choice(MODELS)}",
            kind=Kind.COROUTINE,
            queue=rng.choice(["default", "night"]),
            body=body,
            retries=rng.choice([0, 2]),
            budget=budget,
        )

    def submit(self, budget: NewBudget | None, tasks: list[Any] | None = None) -> None:
        rng = self.rng
        if tasks is None:
            own = [rng.choice(LIMITS) if rng.random() < 0.2 else None for _ in range(rng.randrange(1, 6))]
            tasks = [self.call(budget=it) for it in own]
            tasks += [new() for _ in range(rng.randrange(2))]
        self.serial += 1
        self.rig.submit(tasks, f"s{self.serial}", budget=budget, task_budgets=True)

    def running(self) -> list[Any]:
        return self.rig.executor.running()

    def end(self, outcome: Outcome | None = None) -> None:
        """One that runs ends somehow."""
        if not self.running():
            return
        order = self.rng.choice(self.running())
        outcome = outcome or self.rng.choice([Outcome.DONE] * 5 + [Outcome.ERROR, Outcome.RATE_LIMITED, *LOST])
        usage = None
        tells = self.rng.random() < 0.9 or self.serial == 1  # an answer may say nothing of what it used
        if tells and order.slot.startswith("c") and outcome in (Outcome.DONE, Outcome.ERROR):
            counts = {"prompt_tokens": self.rng.randrange(100), "output_tokens": self.rng.randrange(200)}
            usage = {**counts, "total_tokens": sum(counts.values())}
            self.note_error(order.task, usage)
        ended: Ended = self.rig.executor.ended(order, outcome, payload=msgpack.packb({"code": "x"}))
        ended.usage = None if usage is None else msgpack.packb(usage)
        self.rig.post(AttemptsEnded([ended]))
        self.rig.run()

    def note_error(self, task: int, usage: dict[str, int]) -> None:
        accounts = self.rig.engine._memory.accounts
        reservation = accounts.reservations.get(task)
        model = self.rig.engine._memory.lanes[self.rig.task(task).lane].key.bucket or ""
        cost = PRICES.cost(model.removeprefix("gemini:"), tokens_of(usage)) or 0
        for budget in self.budgets():
            reserved = reservation.amount if reservation and budget.number in reservation.budgets else Amount()
            self.error[budget.scope, budget.target] += max(0, cost - reserved.money)
            self.tokens_error[budget.scope, budget.target] += max(0, usage["total_tokens"] - reserved.tokens)

    def change(self) -> None:
        """Somebody sets or raises one."""
        rng = self.rng
        of, scope, queue = rng.choice(
            [
                ("", Scope.QUEUE, "night"),
                ("", Scope.TOTAL, ""),
                ("", Scope.DAY, ""),
                ("f2", Scope.FLOW, ""),
                ("3", Scope.TASK, ""),
            ]
        )
        ref = parse(of, "of") if of else None
        money, tokens = rng.randrange(3_000_000), rng.choice([None, rng.randrange(3_000)])
        there = any(budget.scope is scope for budget in self.budgets())
        self.rig.post(ChangeBudget(Answer(), scope, ref, queue, money, None if there else tokens, None, by=there))
        self.rig.run()
        if not there:  # what was in flight is reserved, whether it fits or not
            for budget in self.budgets():
                if budget.scope is scope:
                    self.error[scope, budget.target] += budget.reserved.money
                    self.tokens_error[scope, budget.target] += budget.reserved.tokens

    def step(self) -> None:
        rng = self.rng
        what = rng.random()
        if what < 0.2:
            limit = rng.choice([None, *LIMITS])
            action = rng.choice([Action.HOLD] * 4 + [Action.WARN, Action.CANCEL])
            self.submit(None if limit is None else limit._replace(action=action))
        elif what < 0.75:
            self.end()
        elif what < 0.83:
            self.change()
        elif what < 0.87:
            self.rig.post(Cancel(Answer(), parse_all([f"f{rng.randrange(1, self.serial + 1)}"])))
            self.rig.run()
        elif what < 0.91:
            self.rig.clock.now += rng.choice([1.0, 100_000.0])
            self.rig.turn()
            self.rig.run()
        elif what < 0.94:
            self.rig.crash()
            self.slots()
        elif what < 0.97:
            self.rig.store.fail = (rng.choice(["write", "commit", "bodies"]), RuntimeError("injected"))
            self.end()
            self.rig.store.fail = None
        elif what < 0.985:
            for slot in self.rig.executor.slots:
                self.rig.executor.take_back(slot, keep=rng.randrange(2))
            self.rig.run()
        else:
            for slot in [name for name, slot in self.rig.executor.slots.items() if slot.handed][:1]:
                self.rig.executor.kill(slot)
            self.slots()
        self.check()

    # Looking

    def budgets(self) -> list[Budget]:
        rows = self.rig.store.inner._db.execute(f"SELECT {COLUMNS} FROM budget ORDER BY number")
        return [budget_from(row) for row in rows]

    def check(self) -> None:
        self.rig.check()
        memory = self.rig.engine._memory
        run = self.rig.store.inner._db.execute
        stored = {task: (money, tokens) for task, money, tokens in run("SELECT task, money, tokens FROM reservation")}
        assert stored == {task: it.amount for task, it in memory.accounts.reservations.items()}
        assert stored.keys() <= memory.running.keys()
        for budget in self.budgets():
            reserved = [it.amount for it in memory.accounts.reservations.values() if budget.number in it.budgets]
            assert budget.reserved == (sum(it.money for it in reserved), sum(it.tokens for it in reserved))
            if budget.action is Action.HOLD and budget.scope is not Scope.DAY:  # whose spending begins anew
                key = (budget.scope, budget.target)
                for limit, error, used, held in zip(
                    (budget.money, budget.tokens),
                    (self.error[key], self.tokens_error[key]),
                    budget.used,
                    budget.reserved,
                    strict=True,
                ):
                    assert limit is None or used + held <= limit + error, budget
        attempts: Counter[str] = Counter()
        for (packed,) in run("SELECT usage FROM attempt WHERE usage IS NOT NULL"):
            usage = msgpack.unpackb(packed)
            attempts.update(attempts=1, total=usage.get("total_tokens", 0), cost=usage["cost_nano"] or 0)
        recorded = next(
            iter(run("SELECT coalesce(sum(attempts), 0), coalesce(sum(total), 0), coalesce(sum(cost), 0) FROM usage"))
        )
        assert recorded == (attempts["attempts"], attempts["total"], attempts["cost"])

    def finish(self) -> None:
        """Everything is given all that it may want, and comes to an end."""
        for budget in self.budgets():
            ref = parse(budget.name, "of") if budget.scope in (Scope.TASK, Scope.FLOW) else None
            queue = str(budget.target) if budget.scope is Scope.QUEUE else ""
            much = None if budget.money is None else 10**15
            many = None if budget.tokens is None else 10**12
            self.rig.post(ChangeBudget(Answer(), budget.scope, ref, queue, much, many, None, by=True))
        self.rig.run()
        for _ in range(2_000):
            left = [task for task in self.rig.contents().tasks.values() if not task.state.terminal]
            if not left:
                break
            self.rig.clock.now += 10.0
            self.rig.turn()
            self.rig.run()
            self.end()
        assert not left, [(task.number, task.state.word, task.reason) for task in left]
        self.check()
        run = self.rig.store.inner._db.execute
        for budget in self.budgets():
            assert budget.reserved == (0, 0)
            if budget.scope is Scope.FLOW:
                spent = next(
                    iter(
                        run(
                            "SELECT coalesce(sum(cost), 0), coalesce(sum(total), 0) FROM usage WHERE flow = ?",
                            (budget.target,),
                        )
                    )
                )
                assert budget.spent == spent
        assert run("SELECT count(*) FROM reservation").get == 0


@pytest.mark.parametrize("seed", range(500 if LONG else 12))
def test_budgets(seed: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine.log, "disabled", True)
    it = History(seed)
    for _ in range(60):
        it.step()
    it.finish()
    assert State.RUNNING not in {task.state for task in it.rig.contents().tasks.values()}
