"""Budgets in the engine: reserved before an attempt starts, settled when it ended, held when they are used up."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgpack
import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, many, new

from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.budget import Action, Budget, NewBudget, Scope
from gemflowd.model.cache import MODES
from gemflowd.model.facts import (
    AttemptsEnded,
    BeginCall,
    Cancel,
    ChangeBudget,
    Configure,
    RemoveBudget,
    Speaker,
    Starts,
)
from gemflowd.model.prices import NANO, Price, Prices, Rate
from gemflowd.model.refs import parse, parse_all
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.model.task import Hold
from gemflowd.store.explain import explain
from gemflowd.store.sql import queries

MODEL = "gemini-x"
#: One input token is a billionth of the unit, one of output ten.
PRICES = Prices({MODEL: Price(Rate(NANO // 1000, NANO // 1000, NANO // 100))}, currency="USD")
#: What each call of these tests uses, and costs.
USAGE = {"prompt_tokens": 100, "cached_tokens": 0, "output_tokens": 50, "thought_tokens": 10, "total_tokens": 160}
COST = (100 * (NANO // 1000) + 60 * (NANO // 100)) // 10**6
DATA = {"prompt": "why?", "config": {"maxOutputTokens": 2}}


def call(name: str | None = None, model: str = MODEL, data: dict[str, Any] = DATA, **fields: Any) -> Any:
    return new(name, bucket=f"gemini:{model}", kind=Kind.COROUTINE, body=msgpack.packb({"data": data}), **fields)


def calls(count: int, **fields: Any) -> list[Any]:
    return [call(**fields) for _ in range(count)]


def rig(slots: int = 4, **rules: Any) -> Rig:
    made = Rig(rules=Rules(**{"prices": PRICES, **rules}))
    made.slots(1, Kind.COROUTINE, slots)
    return made


def end(
    it: Rig,
    number: int,
    outcome: Outcome = Outcome.DONE,
    usage: dict[str, Any] | None = USAGE,
    error: dict[str, Any] | None = None,
) -> None:
    done: Ended = it.executor.ended(it.attempt(number), outcome)
    if error is not None:
        done.payload = msgpack.packb({"class": "E", "message": "m", **error})
    done.usage = None if usage is None else msgpack.packb(usage)
    it.post(AttemptsEnded([done]))
    it.run()


def work(it: Rig) -> int:
    """End what runs until nothing runs any more; how many attempts that were."""
    ended = 0
    while running := it.running():
        end(it, running[0])
        ended += 1
    return ended


def stored(it: Rig) -> list[Budget]:
    from gemflowd.store.parts.budgets import COLUMNS, budget_from

    return [budget_from(row) for row in it.store.inner._db.execute(f"SELECT {COLUMNS} FROM budget ORDER BY number")]


def change(it: Rig, of: str, scope: Scope, by: bool = False, queue: str = "", **what: Any) -> Answer:
    answer = Answer()
    ref = parse(of, "of") if of else None
    values = {"money": None, "tokens": None, "action": None, **what}
    it.post(ChangeBudget(answer, scope, ref, queue, by=by, **values))
    it.run()
    return answer


def events(it: Rig) -> list[dict[str, Any]]:
    return [fields for batch in it.contents().events for topic, fields in batch.events if topic == "budget"]


def money(count: int, action: Action = Action.HOLD) -> NewBudget:
    """Enough for so many calls."""
    return NewBudget(count * COST, None, action)


def test_half_the_cost_holds_at_half_and_raising_it_goes_on():
    it = rig()
    it.submit(calls(10), budget=money(5))
    assert work(it) == 5
    (budget,) = stored(it)
    assert budget.state.word == "held"
    assert budget.spent == (5 * COST, 5 * 160)
    assert budget.reserved == (0, 0)
    assert [event["what"] for event in events(it)] == ["held"]
    it.crash()
    it.slots(1, Kind.COROUTINE, 4)
    assert it.running() == [], "it is held after a restart, too"
    answer = change(it, "f1", Scope.FLOW, by=True, money=5 * COST)
    assert answer.body["state"] == "open"
    assert work(it) == 5
    (budget,) = stored(it)
    assert budget.spent.money == 10 * COST
    assert {task.state for task in it.contents().tasks.values()} == {State.SUCCEEDED}
    it.check()


def test_what_is_recorded_is_the_sum_of_all_attempts():
    it = rig()
    it.submit(calls(3))
    it.submit(calls(2), uuid="s2")
    end(it, 1, Outcome.ERROR)  # a failed attempt has cost as much
    work(it)
    rows = list(it.store.inner._db.execute("SELECT model, flow, attempts, total, cost FROM usage ORDER BY flow"))
    assert rows == [(MODEL, 1, 3, 3 * 160, 3 * COST), (MODEL, 2, 2, 2 * 160, 2 * COST)]
    usage = [
        msgpack.unpackb(packed) for (packed,) in it.store.inner._db.execute("SELECT usage FROM attempt ORDER BY task")
    ]
    assert [its["cost_nano"] for its in usage] == [COST] * 5


def test_attempts_without_usage_leave_nothing_behind():
    it = Rig()
    it.slots(2)
    it.submit(many(2))
    it.end(1)
    it.end(2)
    for table in ("usage", "model_use", "reservation", "budget"):
        assert it.store.inner._db.execute(f"SELECT count(*) FROM {table}").get == 0


def test_only_the_flow_with_the_budget_waits():
    it = rig(slots=1)
    it.submit(calls(3), budget=money(1))
    it.submit(calls(3), uuid="s2")
    assert work(it) == 4
    done = {number: task.state for number, task in it.contents().tasks.items()}
    assert [done[number].word for number in range(1, 7)] == ["succeeded", "ready", "ready", *["succeeded"] * 3]


def test_tasks_that_call_no_model_go_on():
    it = rig()
    it.slots(1)
    it.submit([*calls(2), new("free")], budget=NewBudget(0, None))
    assert it.running() == [3]
    it.end(3)
    assert it.state(1) is State.READY


def test_what_is_in_flight_is_waited_for_before_it_holds():
    it = rig()
    it.submit([call()], uuid="first")
    work(it)  # now it is known what a call costs
    it.submit(calls(4), uuid="s2", budget=NewBudget(3 * COST - COST // 10, None))
    assert it.running() == [2, 3]
    (budget,) = stored(it)
    assert budget.state.word == "waiting"
    end(it, 2, usage={**USAGE, "output_tokens": 30})  # it was cheaper than expected
    assert it.running() == [3, 4]
    work(it)
    (budget,) = stored(it)
    assert budget.state.word == "held"
    assert it.state(5) is State.READY


def test_the_first_call_of_a_model_tells_what_its_calls_cost_and_keeps_no_other_model_waiting():
    it = rig(prices=Prices({"*": PRICES.models[MODEL]}))
    it.submit([call()], uuid="first")
    work(it)
    change(it, "", Scope.TOTAL, money=100 * COST)
    it.submit([call(model="b"), call(model="b"), call(), call()], uuid="s2")
    assert it.running() == [2, 4, 5]
    end(it, 2, Outcome.RATE_LIMITED, usage=None)  # it has told nothing
    end(it, 4)
    end(it, 5)
    it.clock.now += 60
    it.turn()
    it.run()
    assert it.running() == [2]
    end(it, 2)
    assert it.running() == [3]
    work(it)


@pytest.mark.parametrize("of", ["total", "flow"])
def test_a_model_that_waits_for_its_first_call_keeps_nobody_waiting_who_comes_later(of: str):
    it = rig(prices=Prices({"*": PRICES.models[MODEL]}))
    it.submit([call()], uuid="first")
    work(it)
    if of == "total":
        change(it, "", Scope.TOTAL, money=100 * COST)
    it.submit([call(model="b"), call(model="b"), call()], uuid="s2", budget=money(100) if of == "flow" else None)
    assert it.running() == [2, 4]
    end(it, 4)
    it.submit([call()], uuid="s3")
    assert it.running() == [2, 5]
    assert {budget.state.word for budget in stored(it)} == {"open"}
    end(it, 2)
    assert sorted(it.running()) == [3, 5]
    it.check()


def test_explain_names_the_first_call_of_a_model_that_others_wait_for():
    it = rig(prices=Prices({"*": PRICES.models[MODEL]}))
    it.submit(calls(2), budget=money(100))
    (reason, *_) = explain(it.store.inner._db, queries(), it.task(2), {}, ())["reasons"]
    assert (reason["code"], reason["budget"]["of"], reason["budget"]["state"]) == ("budget", "f1", "open")
    assert reason["message"].startswith(f"task 1 makes the first call of {MODEL}")
    end(it, 1)
    assert it.running() == [2]


def test_warn_tells_once_and_goes_on():
    it = rig()
    it.submit(calls(4), budget=money(1, Action.WARN))
    assert work(it) == 4
    assert [event["what"] for event in events(it)] == ["warned"]


def test_cancel_ends_the_rest_of_the_flow():
    it = rig()
    it.submit(calls(4), budget=money(2, Action.CANCEL))
    assert work(it) == 2
    states = [task.state.word for _, task in sorted(it.check().tasks.items())]
    assert states == ["succeeded", "succeeded", "cancelled", "cancelled"]
    assert [event["what"] for event in events(it)] == ["cancelled"]


def test_a_task_is_held_by_its_own_budget_and_released_by_raising_it():
    it = rig()
    it.submit([call(budget=NewBudget(None, 10)), call()], task_budgets=True)
    end(it, 1, Outcome.ERROR)  # a guess lets the first attempt start
    end(it, 2)
    it.clock.now += 60
    it.run()
    task = it.task(1)
    assert (task.state, task.hold) == (State.HELD, Hold.BUDGET)
    change(it, "1", Scope.TASK, by=True, tokens=1000)
    assert it.running() == [1]
    end(it, 1)
    it.check()


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.TIMEOUT, Outcome.CRASH])
def test_what_may_have_been_paid_for_counts_as_what_was_reserved(outcome: Outcome):
    it = rig()
    it.submit([call()], uuid="first")
    work(it)
    it.submit([call(retries=0)], uuid="s2", budget=money(3))
    end(it, 2, outcome, usage=None)
    (budget,) = stored(it)
    assert budget.assumed.money == COST
    work(it)
    (budget,) = stored(it)
    assert budget.reserved == (0, 0)


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.AGAIN, Outcome.PARKED])
@pytest.mark.parametrize(("code", "costs"), [("timeout", COST), ("disconnected", COST), ("overloaded", 0)])
def test_a_call_that_is_made_in_another_way_after_it_had_no_answer_may_have_to_be_paid_for(
    outcome: Outcome, code: str, costs: int
):
    it = rig()
    it.submit([call()], uuid="first")
    work(it)
    it.submit([call()], uuid="s2", budget=money(3))
    end(it, 2, outcome, usage=None, error={"code": code, "instead": {"note": {"tier": "standard"}}})
    (budget,) = stored(it)
    assert budget.assumed.money == costs


def test_a_dearer_tier_is_reserved_at_its_own_price():
    prices = Prices(PRICES.models, {"priority": Fraction(4), "flex": Fraction(1, 2)})
    it = rig(slots=9, prices=prices)
    it.submit([call()], uuid="first")
    work(it)
    for number, (data, started) in enumerate(
        [
            ({"tier": "priority"}, 1),
            ({"config": {"serviceTier": "PRIORITY"}}, 1),
            ({"tier": "flex"}, 7),
            ({"tier": 4, "config": 3}, 7),
        ]
    ):
        it.submit(
            calls(9, data={"prompt": "why", "config": {}} | data),
            uuid=f"s{number}",
            budget=NewBudget(7 * COST + COST // 2, None),
        )
        assert len(it.running()) == started
        it.post(Cancel(Answer(), parse_all([f"f{number + 2}"], "refs")))
        it.run()
        for running in it.running():
            end(it, running, Outcome.CANCELLED, usage=None)


#: A question that allows a long answer, and what one of it uses.
ALLOWS = {"prompt": "tell", "config": {"max_output_tokens": 800}}
LONG = {**USAGE, "output_tokens": 490, "total_tokens": 600}


def test_tasks_that_allow_longer_answers_are_not_estimated_by_those_that_do_not():
    it = rig(slots=99)
    it.submit(calls(20), uuid="first")
    work(it)
    it.submit(calls(40, data=ALLOWS), uuid="s2", budget=NewBudget(None, 6_000))
    first = it.running()
    assert 1 < len(first) <= 6_000 // 800, "as many as the most that they may use has room for"
    end(it, first[0], usage=LONG)
    assert len(it.running()) > len(first) - 1, "now it is known what they use"
    while running := it.running():
        end(it, running[0], usage=LONG)
    (budget,) = stored(it)
    assert (budget.state.word, budget.spent.tokens) == ("held", 6_000)
    it.crash()
    assert it.engine._memory.accounts.models[MODEL, 10].calls == 10


def test_a_long_answer_that_has_no_room_may_be_given_when_nothing_else_is_in_flight():
    it = rig()
    it.submit(calls(2), uuid="first")
    work(it)
    it.submit(calls(2, data=ALLOWS), uuid="s2", budget=NewBudget(None, 700))
    assert it.running() == [3]
    end(it, 3, usage={**USAGE, "output_tokens": 90, "total_tokens": 200})
    assert it.running() == [4]


@pytest.mark.parametrize("usage", [None, {"service_tier": "standard"}])
def test_an_answer_that_says_nothing_of_its_use_is_taken_for_what_was_reserved(usage: dict[str, Any] | None):
    it = rig(slots=9)
    it.submit(calls(9), budget=NewBudget(None, 100))
    assert it.running() == [1]
    reserved = stored(it)[0].reserved
    end(it, 1, usage=usage)
    (budget,) = stored(it)
    assert (budget.spent, budget.assumed, budget.unpriced) == ((0, 0), reserved, 1)
    assert len(it.running()) == 100 // reserved.tokens - 1, "it is known, about, what its calls use"
    rows = list(it.store.inner._db.execute("SELECT attempts, unpriced, total FROM usage"))
    assert rows == [(1, 1, 0)]


def test_an_answer_that_says_nothing_of_its_use_has_an_unknown_cost_without_a_budget_too():
    it = rig()
    it.submit(calls(1))
    end(it, 1, usage=None)
    assert list(it.store.inner._db.execute("SELECT attempts, unpriced FROM usage")) == [(1, 1)]
    assert not it.store.inner._db.execute("SELECT count(*) FROM model_use").get


def test_who_says_that_nothing_was_asked_for_has_used_nothing():
    it = rig()
    it.submit(calls(1), budget=money(3))
    end(it, 1, usage={"total_tokens": 0})
    (budget,) = stored(it)
    assert (budget.assumed, budget.unpriced) == ((0, 0), 0)


def test_an_answer_that_says_no_costs_nothing():
    it = rig()
    it.submit([call()], uuid="first")
    work(it)
    it.submit([call(retries=0)], uuid="s2", budget=money(3))
    end(it, 2, Outcome.RATE_LIMITED, usage=None)
    (budget,) = stored(it)
    assert (budget.assumed, budget.reserved) == ((0, 0), (0, 0))


def test_who_has_only_waited_for_an_identical_call_may_cost_nothing():
    it = rig()
    it.submit([call()], uuid="first")
    work(it)
    it.submit(calls(2), uuid="s2", budget=money(5))
    for task in (2, 3):
        it.post(BeginCall(Answer(), b"k" * 32, MODEL, MODES["on"], Speaker(task, it.attempt(task).token)))
    it.run()
    it.cancel(3)
    end(it, 3, Outcome.CANCELLED, usage=None)
    (budget,) = stored(it)
    assert budget.assumed == (0, 0)
    it.cancel(2)
    end(it, 2, Outcome.CANCELLED, usage=None)
    assert stored(it)[0].assumed != (0, 0), "the one that asks may have been answered"


def test_a_crash_leaves_nothing_reserved():
    it = rig()
    it.submit(calls(2), budget=money(3))
    assert stored(it)[0].reserved != (0, 0)
    it.crash()
    (budget,) = stored(it)
    assert budget.reserved == (0, 0)
    assert budget.assumed != (0, 0), "both calls may have been answered"
    assert it.store.inner._db.execute("SELECT count(*) FROM reservation").get == 0


def test_a_model_without_a_price_is_refused_under_a_budget_in_money():
    it = rig()
    answer = it.submit([call(), call(model="other")], budget=money(3))
    assert answer.code == "no_price"
    assert not it.contents().flows
    assert it.submit([call(model="other")], uuid="s2", budget=NewBudget(None, 100)).given
    change(it, "", Scope.DAY, money=COST)
    assert it.submit([call(model="other")], uuid="s3").code == "no_price"


def test_a_model_without_a_price_does_not_stop_the_others_under_a_common_budget():
    it = rig(slots=1)
    assert change(it, "", Scope.DAY, money=9 * NANO).code is None
    it.submit(calls(3))
    way = {"class": "E", "code": "overloaded", "message": "full", "instead": {"note": None, "bucket": "gemini:other"}}
    again: Ended = it.executor.ended(it.attempt(1), Outcome.AGAIN, payload=msgpack.packb(way))
    it.post(AttemptsEnded([again]))
    it.run()
    assert work(it) == 2
    held = it.contents().tasks[1]
    assert (held.state, held.hold) == (State.HELD, Hold.BUDGET)
    assert "no price" in (held.reason or "")


def test_a_price_that_is_gone_holds_and_a_new_one_goes_on():
    it = rig(slots=1)
    it.submit(calls(3), budget=money(9))
    it.post(Configure(Answer(), {}, Rules(prices=Prices())))
    it.run()
    assert work(it) == 1
    (budget,) = stored(it)
    assert (budget.state.word, budget.unpriced) == ("held", 1)
    assert budget.assumed.money > 0, "what it costs is not known, what was reserved for it is"
    assert MODEL in (budget.reason or "")
    it.rules = Rules(prices=Prices())
    it.crash()
    it.slots(1, Kind.COROUTINE)
    assert it.running() == [], "it is asked again at the start, and held again"
    it.post(Configure(Answer(), {}, Rules(prices=PRICES)))
    it.run()
    assert work(it) == 2


def test_the_days_budget_begins_anew_at_midnight():
    it = rig()
    change(it, "", Scope.DAY, money=2 * COST)
    it.submit(calls(5))
    assert work(it) == 2
    assert stored(it)[0].state.word == "held"
    patience = it.engine._patience()
    assert patience is not None
    assert 0 < patience <= 86_400
    it.clock.now += patience
    it.turn()
    it.run()
    assert work(it) == 2
    (budget,) = stored(it)
    assert budget.spent.money == 2 * COST


def test_midnight_finds_a_daemon_that_starts_nothing_asleep():
    it = rig()
    change(it, "", Scope.DAY, money=COST)
    it.submit(calls(3))
    assert work(it) == 1
    it.post(Starts(Answer(), on=False))
    it.run()
    it.clock.now += 86_400
    it.turn()
    assert it.would_sleep()
    it.post(Starts(Answer(), on=True))
    it.run()
    assert it.running() == [2]


def test_a_budget_of_the_settings_is_that_of_the_day():
    it = rig()
    it.submit([call()], uuid="before")
    work(it)
    rules = Rules(prices=PRICES, day_budget=money(2))
    it.post(Configure(Answer(), {}, rules))
    it.run()
    it.submit(calls(3))
    assert work(it) == 1, "what the day has cost already counts"
    answer = Answer()
    it.post(RemoveBudget(answer, Scope.DAY, None, ""))
    it.run()
    assert answer.code == "conflict"
    it.post(Configure(Answer(), {}, Rules(prices=PRICES)))
    it.run()
    assert stored(it) == []
    assert work(it) == 2


def test_a_queues_budget_holds_that_queue_alone():
    it = rig()
    change(it, "", Scope.QUEUE, queue="slow", tokens=160)
    it.submit([*calls(2, queue="slow"), *calls(2)])
    assert work(it) == 3
    assert it.state(2) is State.READY


def test_a_budget_that_is_set_later_counts_what_was_used():
    it = rig(slots=1)
    it.submit(calls(4))
    end(it, 1)
    answer = change(it, "f1", Scope.FLOW, money=3 * COST)
    assert answer.body["spent"]["tokens"] == 160
    work(it)
    assert it.state(4) is State.READY
    answer = Answer()
    it.post(RemoveBudget(answer, Scope.FLOW, parse("f1", "of"), ""))
    it.run()
    assert answer.body == {"of": "f1", "removed": True}
    assert work(it) == 1


@pytest.mark.parametrize(
    ("of", "scope", "queue", "counts"),
    [("f2", Scope.FLOW, "", 3), ("2", Scope.TASK, "", 1), ("", Scope.QUEUE, "default", 4), ("", Scope.TOTAL, "", 4)],
)
def test_a_budget_that_is_set_counts_what_is_in_flight(of: str, scope: Scope, queue: str, counts: int):
    it = rig(slots=4)
    it.submit(calls(1), uuid="first")
    work(it)
    it.submit(calls(3), uuid="s2")
    it.submit([new(), *calls(1), *calls(9, queue="night")], uuid="s3")
    answer = change(it, of, scope, money=(counts + 1) * COST, queue=queue)
    assert answer.body["reserved"]["money"] == pytest.approx(counts * COST / NANO)
    change(it, "", Scope.DAY, money=100 * COST)
    assert {budget.scope: budget.reserved.money for budget in stored(it)}[Scope.DAY] == 4 * COST
    for number in (2, 3, 4, 6):
        end(it, number)
    (budget, day) = stored(it)
    assert budget.spent.money == counts * COST
    assert (day.spent.money, day.reserved.money) == (5 * COST, len(it.running()) * COST)
    it.check()


def test_usage_outlives_its_flow():
    from gemflowd.model.facts import Delete
    from gemflowd.model.refs import parse_all

    it = rig()
    it.submit(calls(2), budget=money(3))
    work(it)
    it.post(Delete(Answer(), parse_all(["f1"])))
    it.run()
    assert not it.contents().flows
    assert stored(it) == []
    assert it.store.inner._db.execute("SELECT sum(cost) FROM usage").get == 2 * COST


@pytest.mark.parametrize("kind", ["gemini.tools", "agent", "agent.plan"])
def test_who_adds_the_tasks_that_call_a_model_has_no_budget_of_its_own(kind: str):
    it = rig()
    it.submit([new(type=kind)])
    answer = change(it, "1", Scope.TASK, money=1)
    assert (answer.code, stored(it)) == ("invalid_value", [])
    assert "f1" in str(answer.bodies), "the way to do it"


def test_what_can_not_be_raised_is_refused():
    it = rig()
    it.submit(calls(1), budget=money(1))
    assert change(it, "f9", Scope.FLOW, by=True, money=1).code == "not_found"
    assert change(it, "", Scope.TOTAL, by=True, money=1).code == "not_found"
    assert change(it, "f1", Scope.FLOW, by=True, tokens=1).code == "invalid_value"
    assert change(it, "f1", Scope.TASK, money=1).code == "invalid_value"
