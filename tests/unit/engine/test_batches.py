"""Questions in batches, in the engine: what is reserved for one is there once, whatever becomes of attempts; an answer is kept until it
has been judged."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, new

from gemflowd.core.quota import margin
from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.batch import DEADLINE, GIVEN_UP, Answers, Begin, End, Join, Name, Take, Wish
from gemflowd.model.budget import Budget, NewBudget, Scope
from gemflowd.model.facts import AskLimits, AttemptsEnded, BatchCall, ChangeBudget, Speaker
from gemflowd.model.refs import parse
from gemflowd.model.rules import Rules
from gemflowd.model.states import State

TOKENS = 160
USAGE = {"prompt_tokens": 100, "cached_tokens": 0, "output_tokens": 60, "thought_tokens": 0, "total_tokens": TOKENS}
#: How attempts end without a word about the answer.
BROKEN = [Outcome.LOST, Outcome.ERROR, Outcome.TIMEOUT, Outcome.CRASH, Outcome.SUSPECT, Outcome.RATE_LIMITED]


class Batches:
    """A rig, with one question under a budget of its flow that has room for one call."""

    def __init__(self) -> None:
        self.rig = Rig(rules=Rules(retries=9, batch_wait=60.0))
        self.open()
        self.rig.submit([self.question()], uuid="first")  # now it is known what a call uses
        self.end(1, usage=USAGE)
        self.rig.submit([self.question()], budget=NewBudget(None, TOKENS))
        self.task = 2

    def open(self) -> None:
        self.rig.slots(1, Kind.COROUTINE, 10)
        self.rig.slots(1)

    @staticmethod
    def question() -> Any:
        return new(bucket="gemini:a", kind=Kind.COROUTINE, body=msgpack.packb({"data": {"prompt": "why?"}}))

    def say(self, wish: Wish, task: int = 2) -> dict[str, Any]:
        start, answer = self.rig.attempt(task), Answer()
        self.rig.post(BatchCall(answer, wish, Speaker(task, start.token)))
        self.rig.run()
        return answer.body

    def end(self, task: int, outcome: Outcome = Outcome.DONE, bucket: str | None = None, **more: Any) -> None:
        error = {"class": "E", "code": "timeout", "message": "m"}
        if bucket is not None:
            error["instead"] = {"note": {}, "bucket": bucket, "anew": False}
        usage = more.pop("usage", None)
        ended: Ended = self.rig.executor.ended(self.rig.attempt(task), outcome, 0.5, msgpack.packb(error), **more)
        ended.usage = None if usage is None else msgpack.packb(usage)
        self.rig.post(AttemptsEnded([ended]))
        self.rig.run()

    def join(self) -> None:
        assert self.say(Join("a", b"{}", 0)) == {}

    def park(self) -> None:
        self.join()
        self.end(self.task, Outcome.PARKED, "gemini.batch:a", retry_after=1000.0)

    def send(self) -> int:
        """The batch goes out. Returns the task that carries it."""
        self.rig.clock.now += 61
        self.rig.run()
        (carrier,) = [number for number in self.rig.running() if number > self.task]
        assert self.say(Begin(), carrier)["items"] == 1
        self.say(Name("batches/1"), carrier)
        return carrier

    def sent(self) -> int:
        self.park()
        return self.send()

    def answer(self, carrier: int) -> None:
        self.say(Answers([(self.task, b"{}")]), carrier)

    def wait(self) -> None:
        self.rig.clock.now += 400
        self.rig.run()

    @property
    def budget(self) -> Budget:
        from gemflowd.store.parts.budgets import COLUMNS, budget_from

        (found,) = self.rig.store.inner._db.execute(f"SELECT {COLUMNS} FROM budget")
        return budget_from(found)

    @property
    def figures(self) -> tuple[int, int, int]:
        """Tokens spent, assumed, reserved."""
        it = self.budget
        return it.spent.tokens, it.assumed.tokens, it.reserved.tokens

    def items(self) -> int:
        return int(self.rig.store.inner._db.execute("SELECT count(*) FROM batch_item").get)

    def used(self, figure: str) -> float:
        answer = Answer()
        self.rig.post(AskLimits(answer, "gemini:a"))
        self.rig.run()
        return float(answer.body["limits"][0]["used"][figure])


@pytest.fixture
def it() -> Batches:
    return Batches()


def test_a_question_is_paid_for_once(it: Batches) -> None:
    carrier = it.sent()
    assert it.figures == (0, 0, TOKENS)
    it.answer(carrier)
    assert it.say(Take()) == {"ready": True}
    it.end(2, usage=USAGE)
    assert it.figures == (TOKENS, 0, 0)
    assert it.items() == 0
    it.rig.check()


@pytest.mark.parametrize("how", ["lost", "daemon"])
def test_who_joined_and_was_lost_before_it_parked_counts_once(it: Batches, how: str) -> None:
    it.rig.clock.now += 60 + margin(60) + 3
    it.join()
    if how == "lost":
        it.end(2, Outcome.LOST)
    else:
        it.rig.crash()
        it.open()
    assert it.rig.running() == [2], "it starts again: nothing is assumed for what has asked nobody"
    assert it.figures == (0, 0, TOKENS)
    assert it.used("rpm") == 1
    carrier = it.sent()
    it.answer(carrier)
    it.say(Take())
    it.end(2, usage=USAGE)
    assert it.figures == (TOKENS, 0, 0)
    assert it.used("rpm") == 0
    it.rig.check()


def test_a_question_that_is_given_up_and_retried_counts_once(it: Batches) -> None:
    carrier = it.sent()
    it.rig.cancel(2)
    assert it.figures == (0, TOKENS, 0), "it is at Google, and may have to be paid for"
    it.rig.retry(2)
    assert it.say(Take()) == {"waits": True}
    assert it.figures == (0, 0, TOKENS)
    it.end(2, Outcome.PARKED, retry_after=1000.0)
    it.rig.cancel(2)
    assert it.figures == (0, TOKENS, 0)
    it.answer(carrier)
    it.rig.crash()
    it.open()
    it.rig.retry(2)
    assert it.say(Take()) == {"ready": True}
    it.end(2, usage=USAGE)
    assert it.figures == (TOKENS, 0, 0)
    it.rig.check()


def test_a_question_that_is_given_up_before_it_was_sent_costs_nothing(it: Batches) -> None:
    it.park()
    it.rig.cancel(2)
    assert (it.figures, it.items()) == ((0, 0, 0), 0)
    it.rig.retry(2)
    assert it.say(Take()) == {}, "it goes into another batch"
    it.end(2, Outcome.AGAIN, "gemini:a")
    it.park()
    assert it.figures == (0, 0, TOKENS)
    it.rig.check()


def test_who_was_lost_with_its_question_in_a_batch_and_is_cancelled_then_counts_once(it: Batches) -> None:
    it.join()
    it.send()
    it.rig.crash()
    assert it.figures == (0, 0, 0), "it reserves when it starts again"
    it.rig.cancel(2)
    assert it.figures == (0, TOKENS, 0)
    it.open()
    it.rig.retry(2)
    it.rig.post(ChangeBudget(Answer(), Scope.FLOW, parse("f2", "of"), "", None, 2 * TOKENS, None, by=False))
    it.rig.run()
    it.join()
    assert it.figures == (0, 0, TOKENS)
    it.rig.check()


def test_a_budget_that_is_set_counts_a_question_in_a_batch(it: Batches) -> None:
    it.rig.submit([it.question()], uuid="second")
    it.task = 3
    assert it.say(Join("a", b"{}", 0), 3) == {}
    it.end(3, Outcome.PARKED, "gemini.batch:a", retry_after=1000.0)
    it.send()
    it.rig.post(ChangeBudget(Answer(), Scope.TOTAL, None, "", None, 10 * TOKENS, None, by=False))
    it.rig.run()
    total = it.rig.engine._memory.accounts.wide[Scope.TOTAL, 0]
    assert total.reserved.tokens == 2 * TOKENS, "it, and the one that runs"
    it.rig.cancel(3)
    assert (total.reserved.tokens, total.assumed.tokens) == (TOKENS, TOKENS)
    it.rig.check()


def test_who_is_cancelled_between_joining_and_parking_counts_once(it: Batches) -> None:
    it.join()
    it.rig.cancel(2)
    it.end(2, Outcome.CANCELLED)
    assert (it.figures, it.items()) == ((0, 0, 0), 0)
    it.rig.check()


@pytest.mark.parametrize("outcome", BROKEN)
def test_an_answer_that_nobody_has_judged_is_taken_again(it: Batches, outcome: Outcome) -> None:
    carrier = it.sent()
    it.answer(carrier)
    it.say(Take())
    it.end(2, outcome, usage={"total_tokens": TOKENS} if outcome is Outcome.ERROR else None, retry_after=1.0)
    assert it.figures == (0, 0, TOKENS)
    it.wait()
    assert it.say(Take()) == {"ready": True}, "it is paid for, and is not asked again"
    it.end(2, usage=USAGE)
    assert it.figures == (TOKENS, 0, 0)
    assert it.rig.store.inner._db.execute("SELECT total FROM usage WHERE flow = 2").get == TOKENS
    it.rig.check()


def test_an_answer_that_nobody_has_judged_outlives_the_last_try(it: Batches) -> None:
    carrier = it.sent()
    it.answer(carrier)
    for _ in range(10):
        it.wait()
        it.say(Take())
        it.end(2, Outcome.ERROR)
    assert it.rig.state(2) is State.FAILED
    assert it.figures == (0, TOKENS, 0)
    it.rig.retry(2)
    assert it.say(Take()) == {"ready": True}
    it.end(2, usage=USAGE)
    assert it.figures == (TOKENS, 0, 0)
    it.rig.check()


@pytest.mark.parametrize("outcome", [Outcome.PERMANENT, Outcome.AGAIN, Outcome.ERROR])
def test_an_answer_that_does_not_do_is_not_taken_again(it: Batches, outcome: Outcome) -> None:
    carrier = it.sent()
    it.answer(carrier)
    it.say(Take())
    it.end(2, outcome, "gemini:a" if outcome is not Outcome.PERMANENT else None, usage=USAGE)
    assert it.figures == (TOKENS, 0, 0)
    assert it.items() == 0
    it.rig.check()


def test_a_batch_that_comes_to_nothing_gives_back_what_was_reserved(it: Batches) -> None:
    carrier = it.sent()
    it.say(End("expired"), carrier)
    assert it.say(Take()) == {"over": "expired"}
    it.end(2, Outcome.AGAIN, "gemini:a")
    assert sorted(it.rig.running()) == [2, carrier]
    assert it.figures == (0, 0, TOKENS), "that of the next attempt"
    it.rig.check()


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_a_question_whose_time_is_over_goes_and_what_was_sent_is_assumed(it: Batches, lost: bool, told: bool) -> None:
    carrier = it.sent()
    it.wait()
    if told:
        it.say(End(GIVEN_UP), carrier)
    else:  # nobody carries the batch
        it.rig.clock.now += 1000
        it.rig.run()
    if lost:
        assert it.say(Take(late=True)) == {"over": DEADLINE}
        it.end(2, Outcome.LOST)
    assert it.say(Take(late=True)) == {"over": DEADLINE}
    assert it.figures == (0, TOKENS, 0)
    it.end(2, Outcome.AGAIN, "gemini:a")
    assert (it.figures, it.items()) == ((0, TOKENS, 0), 0), "its budget has no room for another call"
    it.answer(carrier)
    assert (it.items(), it.rig.state(2)) == (0, State.READY), "an answer that comes later is nobody's"
    it.rig.check()


def test_a_question_whose_time_is_over_before_it_was_sent_costs_nothing(it: Batches) -> None:
    it.park()
    it.rig.clock.now += 2000
    it.rig.run()
    assert it.say(Take(late=True)) == {"over": DEADLINE}
    assert (it.figures, it.items()) == ((0, 0, 0), 0)
    it.end(2, Outcome.AGAIN, "gemini:a")
    assert it.figures == (0, 0, TOKENS)
    it.rig.check()


def test_an_answer_that_is_there_is_taken_however_late(it: Batches) -> None:
    carrier = it.sent()
    it.answer(carrier)
    assert it.say(Take(late=True)) == {"ready": True}


def test_a_day_that_has_begun_since_owes_nothing(it: Batches) -> None:
    carrier = it.sent()
    it.rig.cancel(2)
    budget = it.rig.engine._memory.accounts.flows[2]
    assert budget is not None
    budget.assumed = budget.assumed.minus(budget.assumed)  # as a new day does
    it.rig.retry(2)
    it.answer(carrier)
    it.say(Take())
    it.end(2, usage=USAGE)
    assert it.figures == (TOKENS, 0, 0)
