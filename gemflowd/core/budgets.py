"""Money and tokens: reserved before an attempt starts, settled when it has ended. Limits that several tasks share, as in `core.limits`.

What a call will use is an estimate, so a budget is kept but for the estimate's error of what was in flight. Only tasks that call a
model are asked about, and counted against tokens and money.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgpack

from gemflowd.core.batched import goes_on, is_in_batch
from gemflowd.core.turn import Turn, UsageRow
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.budget import NOTHING, Action, Amount, Budget, BudgetState, ModelUse, Reservation, Scope, allows
from gemflowd.model.errors import Invalid
from gemflowd.model.event import BUDGET_TOPIC, Event
from gemflowd.model.lane import Lane
from gemflowd.model.prices import STANDARD, Tokens, model_of, tells_tokens, tier_of, tokens_of
from gemflowd.model.task import Task
from gemflowd.model.values import check_value

_DAY: Final = 86_400.0
#: Bytes of a task's body for a token, as long as nothing of its model is known.
_BYTES_PER_TOKEN: Final = 4
#: How an attempt may end while its call is on the way: it may have to be paid for.
_IN_FLIGHT: Final = frozenset(
    {Outcome.LOST, Outcome.CRASH, Outcome.SUSPECT, Outcome.MEMORY, Outcome.TIMEOUT, Outcome.CANCELLED}
)
#: The same, as a handler says it.
_UNANSWERED: Final = frozenset({"timeout", "disconnected", "bad_response"})
#: The outcomes with which it may say so. A call that had no answer may be made in another way, or later; who took what came of a batch,
#: and goes another way, has asked nobody itself.
_FAILED: Final = frozenset({Outcome.ERROR, Outcome.PERMANENT})
_SAID: Final = _FAILED | {Outcome.AGAIN, Outcome.PARKED}


class Wish(NamedTuple):
    """What a task says of its call."""

    ceiling: int | None = None  # tokens that its answer may have
    tier: str = ""  # that it asks for


class Estimate(NamedTuple):
    """What an attempt will use, about."""

    amount: Amount
    priced: bool  # False: the model has no price, and `amount.money` is 0
    guess: bool  # nothing of the model is known yet
    most: bool = False  # it is known, but not of calls that allow as long an answer: this is the most that it may use
    allows: int = 0


def today(turn: Turn) -> int:
    return int(turn.now // _DAY)


def estimate(turn: Turn, model: str, size: int, wish: Wish) -> Estimate:
    """What an attempt of a task will use. Money is that of the tier it asks for, where that is a dearer one: cheaper ones fall back.

    Args:
        size: bytes of its body.
    """
    like = allows(wish.ceiling)
    known, guess, most = _known(turn, model), False, False
    if known is None:
        guess = True
        answered = turn.rules.budget_output_tokens if wish.ceiling is None else wish.ceiling
    else:
        alike = _known(turn, model, like)
        known = alike or known
        answered = _up(known.answered, known.calls)
        if alike is None and wish.ceiling is not None:
            most = True
            answered = max(answered, wish.ceiling)
    prompt = _prompt(known, size)
    used = Tokens(prompt, 0, answered, 0, prompt + answered)
    money = turn.rules.prices.cost(model, used)
    if money is not None and wish.tier:
        money = max(money, turn.rules.prices.cost(model, used, wish.tier) or 0)
    return Estimate(Amount(money or 0, used.total), money is not None, guess, most, like)


def _known(turn: Turn, model: str, like: int = 0) -> ModelUse | None:
    """What calls of a model have used, if any has been."""
    known = turn.accounts.models.get((model, like))
    return known if known is not None and known.calls else None


def _prompt(known: ModelUse | None, size: int) -> int:
    """Tokens of a prompt; something is in flight, however small."""
    if known is None:
        return max(1, size // _BYTES_PER_TOKEN)
    return max(1, _up(size * known.prompt, known.size) if known.size else _up(known.prompt, known.calls))


def _up(amount: int, parts: int) -> int:
    """Rounded up: too little is the worse mistake."""
    return -(-amount // parts)


def is_known(turn: Turn, model: str) -> bool:
    """Whether there is a mean of what its calls have used."""
    return _known(turn, model) is not None


def those_of(turn: Turn, task: Task, lane: Lane) -> list[Budget]:
    """The budgets that an attempt falls under, the nearest first. Those of its flow and its own must have been loaded."""
    accounts = turn.accounts
    found = []
    if accounts.has_tasks and (own := accounts.tasks.get(task.number)) is not None:
        found.append(own)
    if accounts.has_flows and (flow := accounts.flows.get(task.flow)) is not None:
        found.append(flow)
    return found + _wide(turn, lane) if accounts.wide else found


def _wide(turn: Turn, lane: Lane) -> list[Budget]:
    wide = turn.accounts.wide
    keys = ((Scope.QUEUE, lane.key.queue), (Scope.DAY, 0), (Scope.TOTAL, 0))
    return [wide[key] for key in keys if key in wide]


def shut(turn: Turn, lane: Lane, calling: Callable[[str, Budget], bool]) -> bool:
    """Whether nothing of a lane may start, because what it falls under as a whole is used up or waits for what is in flight.

    Args:
        calling: as in `tried`.
    """
    model = model_of(lane.key.bucket)
    if model is None:
        return False
    its = _wide(turn, lane)
    flow = turn.accounts.flows.get(lane.key.gate) if lane.key.gate else None
    if flow is not None:
        its.append(flow)
    return any(budget.state for budget in its) or tried(turn, its, model, calling) is not None


def tried(turn: Turn, its: Sequence[Budget], model: str, calling: Callable[[str, Budget], bool]) -> Budget | None:
    """The first budget under which a model of which nothing is known has to wait for its one call: that tells what its calls cost.
    Only tasks of that model wait: others are known, or have a first call of their own.

    Args:
        calling: whether a call of a model is in flight under a budget.
    """
    if is_known(turn, model):
        return None
    return next((it for it in its if it.action is not Action.WARN and calling(model, it)), None)


def in_the_way(turn: Turn, its: Sequence[Budget], wanted: Estimate, model: str) -> Budget | None:
    """The first budget that does not let an attempt start now; its state says for how long.

    One that cancels is returned with state `open`: what is to be cancelled is the caller's to do.
    """
    for budget in its:
        if budget.state is BudgetState.HELD:
            return budget
        if budget.money is not None and not wanted.priced and budget.action is not Action.WARN:
            _stop(turn, budget, f"the model {model} has no price")
            return budget
        if budget.action is Action.WARN:
            if not _fits(budget, wanted.amount):
                _warn(turn, budget)
        elif _left(budget) if wanted.guess else _fits(budget, wanted.amount):
            continue  # a guess is no reason to stop (nor to let many go, see `tried`)
        elif budget.reserved != NOTHING:
            _to(turn, budget, BudgetState.WAITING, None)
            return budget
        elif wanted.most and _left(budget):
            continue  # alone it may; then it is known what such calls use
        elif budget.action is Action.HOLD:
            _stop(turn, budget, None)
            return budget
        else:
            return budget
    return None


def _fits(budget: Budget, wanted: Amount) -> bool:
    after = budget.used.plus(budget.reserved).plus(wanted)
    return (budget.money is None or after.money <= budget.money) and (
        budget.tokens is None or after.tokens <= budget.tokens
    )


def _left(budget: Budget) -> bool:
    used = budget.used.plus(budget.reserved)
    return (budget.money is None or used.money < budget.money) and (
        budget.tokens is None or used.tokens < budget.tokens
    )


def _stop(turn: Turn, budget: Budget, reason: str | None) -> None:
    if budget.state is not BudgetState.HELD:
        _to(turn, budget, BudgetState.HELD, reason)
        tell(turn, budget, "held")


def _warn(turn: Turn, budget: Budget) -> None:
    if not budget.warned:
        budget.warned = True
        changed(turn, budget)
        tell(turn, budget, "warned")


def _to(turn: Turn, budget: Budget, state: BudgetState, reason: str | None) -> None:
    if budget.state is not state or budget.reason != reason:
        budget.state, budget.reason = state, reason
        changed(turn, budget)


def tell(turn: Turn, budget: Budget, what: str, **more: Any) -> None:
    """An event, on the topic `budget`."""
    turn.events.append(Event(BUDGET_TOPIC, {"what": what, **budget.body(), **more}))
    turn.budget_news.append((what, budget))


def changed(turn: Turn, budget: Budget) -> None:
    turn.changed_budgets[budget.number] = budget


def reserve(turn: Turn, task: Task, its: Sequence[Budget], amount: Amount, like: int = 0) -> None:
    """An attempt starts."""
    for budget in its:
        budget.reserved = budget.reserved.plus(amount)
        changed(turn, budget)
    reservation = Reservation(amount, tuple(budget.number for budget in its), like)
    turn.accounts.reservations[task.number] = reservation
    turn.reservations[task.number] = reservation


def reserve_more(turn: Turn, task: Task, budget: Budget, wanted: Estimate) -> None:
    """A budget is set while an attempt is in flight: what is reserved for that is reserved in it, too."""
    before = turn.accounts.reservations.get(task.number) or Reservation(wanted.amount, (), wanted.allows)
    reservation = before._replace(budgets=(*before.budgets, budget.number))
    budget.reserved = budget.reserved.plus(reservation.amount)
    changed(turn, budget)
    turn.accounts.reservations[task.number] = turn.reservations[task.number] = reservation


def give_back(turn: Turn, task: Task) -> None:
    """What was handed over has not started."""
    if not is_in_batch(turn.lanes[task.lane]):
        let_go(turn, task)


def let_go(turn: Turn, task: Task, *, assume: bool = False) -> Reservation | None:
    """What was reserved for a task is free again.

    Args:
        assume: it counts as used from now on, since it may have to be paid for.

    Returns:
        What it was.
    """
    reservation = _unreserve(turn, task.number)
    if reservation is not None:
        for budget in those_of(turn, task, turn.lanes[task.lane]):
            _lift(turn, budget, reservation)
            if assume and budget.number in reservation.budgets:
                budget.assumed = budget.assumed.plus(reservation.amount)
    return reservation


def take_up(turn: Turn, task: Task, assumed: Reservation) -> None:
    """A task that had been given up asks for its answer after all: what was assumed for it is reserved again, unless something is."""
    its = [it for it in those_of(turn, task, turn.lanes[task.lane]) if it.number in assumed.budgets]
    for budget in its:  # that of the day may have begun anew since
        left = budget.assumed.minus(assumed.amount)
        budget.assumed = Amount(max(0, left.money), max(0, left.tokens))
        changed(turn, budget)
    if task.number not in turn.accounts.reservations:
        reserve(turn, task, its, assumed.amount, assumed.allows)


def _unreserve(turn: Turn, task: int) -> Reservation | None:
    reservation = turn.accounts.reservations.pop(task, None)
    if reservation is not None:
        turn.reservations[task] = None
    return reservation


def _lift(turn: Turn, budget: Budget, reservation: Reservation) -> None:
    """There is room again, perhaps."""
    if budget.number in reservation.budgets:
        budget.reserved = budget.reserved.minus(reservation.amount)
    if budget.state is BudgetState.WAITING:
        budget.state = BudgetState.OPEN
    changed(turn, budget)


def settle(turn: Turn, task: Task, ended: Ended) -> bytes | None:
    """An attempt ended: what it used takes the place of what was reserved for it.

    Returns:
        Its usage with its cost, as it is stored; None: it has told nothing that could be.
    """
    lane, joined = turn.lanes[task.lane], task.number in turn.joined
    if goes_on(lane, ended) or (joined and (task.cancelled or ended.outcome is Outcome.CANCELLED)):
        return None  # if the task ends with that, it is looked at then (`engine.batches`)
    usage = _unpacked(ended.usage)
    untold = ended.outcome is Outcome.DONE and calls_a_model(lane) and not tells_tokens(usage or {})
    if usage is None:
        if not untold:
            asked = not joined and task.number not in turn.unasked
            let_go(turn, task, assume=asked and _may_cost(lane, ended))
            return None
        usage = {}
    if usage.get("cached") is True:  # a stored answer: nothing was asked for, and nothing is to be paid
        let_go(turn, task)
        return msgpack.packb({**usage, "cost_nano": 0}, unicode_errors="surrogatepass")  # type: ignore[no-any-return]
    model = model_of(lane.key.bucket) or _named(usage)
    used = tokens_of(usage)
    tier = tier_of(usage)
    cost = turn.rules.prices.cost(model, used, tier) if model and not untold else None
    reservation = _unreserve(turn, task.number)
    _record(turn, task, model, tier, used, cost)
    _learn(turn, task, model, None if untold else used, reservation)
    for budget in those_of(turn, task, lane):
        if reservation is not None:
            _lift(turn, budget, reservation)
        budget.spent = budget.spent.plus(Amount(cost or 0, used.total))
        if cost is None:
            budget.unpriced += 1
            if reservation is not None and budget.number in reservation.budgets:
                budget.assumed = budget.assumed.plus(
                    Amount(reservation.amount.money, reservation.amount.tokens * untold)
                )
        if budget.action is Action.WARN and not _fits(budget, NOTHING):
            _warn(turn, budget)
        changed(turn, budget)
    if cost is not None:  # else what the handler has told is all that is known, for limits of what may be spent
        usage.pop("cost", None)
    usage["cost_nano"] = cost
    packed: bytes = msgpack.packb(usage, unicode_errors="surrogatepass")
    return packed


def calls_a_model(lane: Lane) -> bool:
    """Whether an attempt that has succeeded has had an answer of a model."""
    return model_of(lane.key.bucket) is not None or is_in_batch(lane)


def _unpacked(usage: bytes | None) -> dict[str, Any] | None:
    """What an attempt says that it used. Whoever asks for it must be able to read it: what is no map that can be sent says nothing."""
    if usage is None:
        return None
    try:
        found = msgpack.unpackb(usage, strict_map_key=False, unicode_errors="surrogatepass")
        check_value(found, "usage")
    except (ValueError, Invalid):
        return None
    return found if isinstance(found, dict) else None


def _named(usage: dict[str, Any]) -> str:
    """The model of a handler of one's own that falls under no model's limit."""
    model = usage.get("model")
    return model[:200] if isinstance(model, str) else ""


def _may_cost(lane: Lane, ended: Ended) -> bool:
    """Whether a call may have been answered that nobody has seen the answer of."""
    if ended.outcome in _IN_FLIGHT:
        return True
    if ended.outcome not in _SAID or (ended.outcome not in _FAILED and is_in_batch(lane)) or not ended.payload:
        return False
    try:
        error = msgpack.unpackb(ended.payload, strict_map_key=False, unicode_errors="replace")
    except ValueError:
        return False
    return isinstance(error, dict) and error.get("code") in _UNANSWERED


def _record(turn: Turn, task: Task, model: str, tier: str, used: Tokens, cost: int | None) -> None:
    """For `usage`."""
    key = (today(turn), model, task.flow, tier)
    standard = cost if cost is None or tier == STANDARD else turn.rules.prices.cost(model, used)
    turn.usage[key] = turn.usage.get(key, UsageRow()).plus(used, cost, standard or 0)


def _learn(turn: Turn, task: Task, model: str, used: Tokens | None, reservation: Reservation | None) -> None:
    """For estimates to come. What has answered without saying what it used is taken for what was reserved for it."""
    if not model:
        return
    if used is not None:
        prompt, answered = used.prompt, used.answered
    elif reservation is not None:
        prompt = min(_prompt(_known(turn, model), task.size), reservation.amount.tokens)
        answered = reservation.amount.tokens - prompt
    else:
        return
    for like in {0, reservation.allows if reservation is not None else 0}:
        known = turn.accounts.models.setdefault((model, like), ModelUse())
        known.note(task.size, prompt, answered)
        turn.changed_models[model, like] = known


def begin_day(turn: Turn) -> None:
    """The day's budget begins anew with each day."""
    budget = turn.accounts.wide.get((Scope.DAY, 0))
    if budget is not None and budget.day != today(turn):
        budget.day = today(turn)
        budget.spent = budget.assumed = NOTHING
        budget.unpriced, budget.warned = 0, False
        budget.state, budget.reason = BudgetState.OPEN, None
        changed(turn, budget)
