"""Random histories of questions in batches under budgets: what is reserved is what is in flight, and when all have their answers each
was counted once, whatever died, was cancelled, retried or failed in between.

GEMFLOW_PROPERTY_LONG=1 runs many more of them.
"""

from __future__ import annotations

import os
import random
from typing import Any

import msgpack
import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, new

from gemflowd.model.attempt import Ended, Kind, Outcome, Start
from gemflowd.model.batch import DEADLINE, TYPE, Answers, Begin, Join, Name, Take, Wish
from gemflowd.model.budget import Amount, Budget, NewBudget
from gemflowd.model.facts import AttemptsEnded, BatchCall, Speaker
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.store.parts.budgets import COLUMNS, budget_from

LONG = bool(os.environ.get("GEMFLOW_PROPERTY_LONG"))
USAGE = {"prompt_tokens": 100, "output_tokens": 60, "total_tokens": 160}
BROKEN = (Outcome.LOST, Outcome.TIMEOUT, Outcome.SUSPECT, Outcome.ERROR, Outcome.RATE_LIMITED)
QUESTIONS = 6


class History:
    """Six questions, three of them with a budget of their own, in a flow with one."""

    def __init__(self, seed: int, late: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.late = late  # how many of those that look have no more time
        self.given_up = 0
        self.rig = Rig(
            rules=Rules(retries=3, batch_wait=30.0, batch_items=4, lost_limit=1000, crash_limit=1000), seed=seed
        )
        self.joined: set[tuple[int, int]] = set()
        self.parked: set[int] = set()
        self.judged = 0
        self.open()
        budget = NewBudget(None, 10_000)
        questions = [self.question(budget if n % 2 else None) for n in range(QUESTIONS)]
        self.rig.submit(questions, budget=budget, task_budgets=True)

    def open(self) -> None:
        self.rig.slots(1, Kind.COROUTINE, 20)
        self.rig.slots(3)

    @staticmethod
    def question(budget: NewBudget | None) -> Any:
        body = msgpack.packb({"data": {"prompt": "why?"}})
        return new(bucket="gemini:a", kind=Kind.COROUTINE, body=body, budget=budget)

    def say(self, order: Start, wish: Wish) -> dict[str, Any]:
        answer = Answer()
        self.rig.post(BatchCall(answer, wish, Speaker(order.task, order.token)))
        self.rig.run()
        return answer.body

    def end(self, order: Start, outcome: Outcome, bucket: str | None = None, usage: Any = None) -> None:
        error: dict[str, Any] = {"class": "E", "code": "timeout", "message": "m"}
        if bucket is not None:
            error["instead"] = {"note": {}, "bucket": bucket, "anew": False}
        ended: Ended = self.rig.executor.ended(order, outcome, 0.5, msgpack.packb(error), 50.0)
        ended.usage = None if usage is None else msgpack.packb(usage)
        if self.rng.random() < 0.2:
            self.rig.store.fail = (self.rng.choice(["write", "conclude", "commit"]), RuntimeError("once"))
        self.rig.post(AttemptsEnded([ended]))
        self.rig.run()
        self.rig.store.fail = None

    def bucket(self, task: int) -> str:
        return self.rig.engine._memory.lanes[self.rig.task(task).lane].key.bucket or ""

    def go_on(self, order: Start, *, smoothly: bool = False) -> None:
        """One step of an attempt that runs."""
        rng = self.rng
        if order.type == TYPE:
            self.carry(order)
        elif (order.task, order.token) in self.joined:
            if smoothly or rng.random() < 0.6:
                self.parked.add(order.task)
                self.end(order, Outcome.PARKED, "gemini.batch:a")
            else:
                self.end(order, rng.choice(BROKEN))
        elif self.bucket(order.task) == "gemini:a":
            self.say(order, Join("a", b"{}", 0))
            self.joined.add((order.task, order.token))
        else:
            late = bool(self.late) and rng.random() < self.late
            found = self.say(order, Take(late))
            self.given_up += found == {"over": DEADLINE}
            if found == {"ready": True} and (smoothly or rng.random() < 0.5):
                self.judged += 1
                if smoothly or rng.random() < 0.6:
                    self.end(order, Outcome.DONE, usage=USAGE)
                else:  # it does not do, and is asked for again
                    self.end(order, rng.choice([Outcome.AGAIN, Outcome.ERROR]), "gemini:a", usage=USAGE)
            elif found == {"waits": True}:
                self.end(order, Outcome.PARKED)
            elif found == {"ready": True}:
                self.end(order, rng.choice(BROKEN))
            else:
                self.end(order, Outcome.AGAIN, "gemini:a")

    def carry(self, order: Start) -> None:
        batch = self.say(order, Begin())
        if not batch["tried"]:
            self.say(order, Name(f"batches/{order.task}"))
        table = self.rig.store.inner.batches
        waiting = table.unanswered(order.task, 0, 100)
        some = self.rng.sample(waiting, self.rng.randrange(len(waiting) + 1))
        if some:
            self.say(order, Answers([(task, b"{}") for task in some]))
        self.end(order, Outcome.PARKED)

    def step(self) -> None:
        rng, rig = self.rng, self.rig
        what, running = rng.random(), rig.executor.running()
        if what < 0.7 and running:
            self.go_on(rng.choice(running))
        elif what < 0.8:
            rig.cancel(str(rng.randrange(1, QUESTIONS + 1)))
            for order in list(rig.executor.running()):
                if (order.task, order.token) in rig.executor.asked:
                    self.end(order, Outcome.CANCELLED if self.settled(order) else Outcome.RATE_LIMITED)
        elif what < 0.9:
            rig.retry("f1")
        elif what < 0.94 and all(self.settled(order) for order in running):
            rig.crash()
            self.open()
            rig.run()
        else:
            rig.clock.now += rng.choice([1.0, 31.0, 400.0])
            rig.run()
        self.check()

    def settled(self, order: Start) -> bool:
        """Whether an attempt that dies now has asked nobody: one of which the daemon does not know that may have to be paid for."""
        return self.bucket(order.task) != "gemini:a" or (order.task, order.token) in self.joined

    def budgets(self) -> list[Budget]:
        rows = self.rig.store.inner._db.execute(f"SELECT {COLUMNS} FROM budget ORDER BY number")
        return [budget_from(row) for row in rows]

    def check(self) -> None:
        self.rig.check()
        accounts = self.rig.engine._memory.accounts
        for budget in self.budgets():
            its = [one.amount for one in accounts.reservations.values() if budget.number in one.budgets]
            assert budget.reserved == Amount(0, sum(amount.tokens for amount in its)), budget.name
            assert min(*budget.assumed, *budget.spent, *budget.reserved) >= 0
        (flow,) = [budget for budget in self.budgets() if budget.name == "f1"]
        assert flow.spent.tokens == self.judged * USAGE["total_tokens"]

    def finish(self) -> None:
        for _ in range(500):
            self.rig.retry("f1")
            for order in list(self.rig.executor.running()):
                if order in self.rig.executor.running():
                    self.go_on(order, smoothly=True)
            if all(self.rig.state(number) is State.SUCCEEDED for number in range(1, QUESTIONS + 1)):
                break
            self.rig.clock.now += 50.0
            self.rig.run()
        else:
            raise AssertionError("they do not come to an end")
        self.check()
        for budget in self.budgets():
            assert budget.reserved.tokens == 0, budget.name
            assert self.given_up or budget.assumed.tokens == 0, budget.name
        assert not self.rig.store.inner._db.execute("SELECT count(*) FROM batch_item").get


@pytest.mark.parametrize("seed", range(400 if LONG else 5))
def test_who_has_no_more_time_leaves_nothing_behind(seed: int) -> None:
    history = History(seed, late=0.3)
    for _ in range(60):
        history.step()
    history.finish()


@pytest.mark.parametrize("seed", range(400 if LONG else 15))
def test_every_question_is_counted_once(seed: int) -> None:
    history = History(seed)
    for _ in range(60):
        history.step()
    history.finish()
