"""Batches in a turn: questions that join one, answers that come, and who is told.

A question waits as a task that is `scheduled`, without a slot; its answer, or the end of its batch, makes it ready. Whoever sends a
batch and looks after it is a task of its own, so what survives a crash of that is what survives one of any task. Only
the name that Google gave a batch, its questions and its answers are kept apart.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from gemflowd.core import budgets, machine
from gemflowd.core.batched import is_judged
from gemflowd.core.turn import CursorKind, Turn
from gemflowd.engine import estimates
from gemflowd.engine.budgets import need
from gemflowd.engine.rows import Rows
from gemflowd.engine.submission import submit
from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.batch import (
    DEADLINE,
    GIVEN_UP,
    MOST_BYTES,
    TYPE,
    Answers,
    Batch,
    BatchState,
    Begin,
    End,
    Join,
    Name,
    Take,
)
from gemflowd.model.errors import Refused
from gemflowd.model.facts import BatchCall, NewTask, Submit
from gemflowd.model.lane import LaneKey
from gemflowd.model.prices import model_of
from gemflowd.model.states import State
from gemflowd.model.task import Task
from gemflowd.store.tables import BatchItem

_PRIORITY: Final = 9
_TIMEOUT: Final = 600.0
_RETRIES: Final = 1000


def carry_out(rows: Rows, fact: BatchCall) -> dict[str, Any]:
    """What a running attempt wants of its batch.

    Raises:
        Refused: `stale_attempt`, `not_found`, or why no task can be added to the queue.
    """
    task = rows.speaking(fact.speaker)
    match fact.wish:
        case Join():
            return _join(rows, task, fact.wish)
        case Take(late):
            return _take(rows, task, late=late)
        case Begin():
            return _begin(rows, _carried(rows, task))
        case Name(name):
            batch = _carried(rows, task)
            batch.name, batch.state = name, max(batch.state, BatchState.SENT)
            rows.store.batches.put(batch)
        case Answers(answers):
            batch = _carried(rows, task)
            rows.store.batches.answer(batch.number, answers)
            for found in rows.tasks([number for number, _ in answers]).values():
                _wake(rows.turn, found)
        case End(reason):
            _end(rows, _carried(rows, task), reason)
    return {}


def _join(rows: Rows, task: Task, wish: Join) -> dict[str, Any]:
    table = rows.store.batches
    rows.memory.in_batches[task.number, task.token] = False
    item = table.item(task.number)
    if item is not None:
        batch = table.get(item.batch)
        if batch is not None and (item.answered or batch.state is not BatchState.OVER):
            _take_up(rows, task, item)
            return {}  # an attempt that was lost has put it there
        table.remove([task.number])
    batch = table.open_for(wish.model, wish.until)
    if batch is not None and batch.bytes + len(wish.request) > MOST_BYTES:
        _fill(rows, batch)
        batch = None
    if batch is None:
        batch = _new(rows, wish)
    table.add(task.number, batch.number, wish.request)
    batch.items += 1
    batch.bytes += len(wish.request)
    if batch.items >= rows.turn.rules.batch_items:
        _fill(rows, batch)
    else:
        table.put(batch)
    return {}


def _fill(rows: Rows, batch: Batch) -> None:
    """No more go in: it is sent at once."""
    batch.state = BatchState.FULL
    rows.store.batches.put(batch)
    for task in rows.tasks([batch.number]).values():
        _wake(rows.turn, task)


def _new(rows: Rows, wish: Join) -> Batch:
    """A batch, and the task that carries it: a flow of its own, by the way of every submission."""
    turn = rows.turn
    delay = turn.rules.batch_wait
    if wish.until:
        delay = min(delay, max(0.0, (wish.until - turn.now) / 2))
    name = str(uuid.uuid4())
    task = NewTask(
        id=None,
        type=TYPE,
        priority=_PRIORITY,
        lane=LaneKey(TYPE, None, Kind.COROUTINE),
        timeout=_TIMEOUT,
        retries=_RETRIES,
        backoff=None,
        body=msgpack.packb({"data": {"model": wish.model}, "template": False}),
        delay=delay or None,
    )
    fact = Submit(
        reply=lambda _: None,
        submission=name,
        name=f"batch of {wish.model}"[:200],
        metadata=None,
        weight=1.0,
        offset=0,
        complete=True,
        digest=hashlib.blake2b(task.body, digest_size=16).digest(),
        tasks=[task],
    )
    number = submit(rows, fact)["first"]
    assert isinstance(number, int), number
    rows.memory.carriers.add(number)
    return Batch(number, name, wish.model, wish.until)


def _take(rows: Rows, task: Task, *, late: bool) -> dict[str, Any]:
    item = rows.store.batches.item(task.number)
    if item is None:
        return {}
    _take_up(rows, task, item)
    batch = rows.store.batches.get(item.batch)
    over = batch is None or batch.state is BatchState.OVER
    if not item.answered and not over and not late:
        return {"waits": True}
    rows.memory.in_batches[task.number, task.token] = True
    if item.answered:
        return {"ready": True}
    reason = (batch and batch.reason) or "unanswered"
    if not over or reason == GIVEN_UP:
        # Nobody knows whether it is answered after all. When this attempt has ended an answer finds no question any more.
        need(rows, [task])
        _given_up(rows, task)
        reason = DEADLINE
    return {"over": reason}


def _take_up(rows: Rows, task: Task, item: BatchItem) -> None:
    """It was given up with its question in the batch, and somebody has retried it."""
    if item.assumed is not None:
        need(rows, [task])
        budgets.take_up(rows.turn, task, item.assumed)
        rows.store.batches.assume(task.number, None)


def _carried(rows: Rows, task: Task) -> Batch:
    batch = rows.store.batches.get(task.number)
    if batch is None:
        raise Refused("not_found", f"task {task.number} carries no batch")
    return batch


def _begin(rows: Rows, batch: Batch) -> dict[str, Any]:
    tried = batch.state >= BatchState.SENDING
    if not tried:
        batch.state = BatchState.SENDING
        rows.store.batches.put(batch)
    return {
        "batch": batch.number,
        "uuid": batch.uuid,
        "name": batch.name,
        "model": batch.model,
        "items": batch.items,
        "until": batch.until,
        "over": batch.state is BatchState.OVER,
        "tried": tried,
        "waiting": rows.store.batches.waited_for(batch.number),
    }


def _end(rows: Rows, batch: Batch, reason: str) -> None:
    if batch.state is not BatchState.OVER:
        batch.state, batch.reason = BatchState.OVER, reason
        rows.store.batches.put(batch)
    rows.memory.carriers.discard(batch.number)
    rows.turn.cursor(CursorKind.UNBATCH, batch.number)


def release(rows: Rows, batch: int, after: int, limit: int) -> tuple[int, int]:
    """Some of those whose batch is over and has no answer for them are told. Returns how many were looked at, and the last."""
    waiting = rows.store.batches.unanswered(batch, after, limit)
    found = rows.tasks(waiting)
    for task in found.values():
        _wake(rows.turn, task)
    rows.store.batches.remove([number for number in waiting if number not in found or found[number].state.terminal])
    return len(waiting), waiting[-1] if waiting else after


def joined(rows: Rows, ended: Sequence[Ended]) -> frozenset[int]:
    """Those tasks whose attempts have put a question into a batch, whatever became of the attempts after that. Of what ran at the end
    of an earlier daemon the store knows."""
    known = rows.memory.in_batches
    found = [one.task for one in ended if known.get((one.task, one.token)) is False]
    lost = [one.task for one in ended if one.outcome is Outcome.LOST and (one.task, one.token) not in known]
    return frozenset(found + (rows.store.batches.those_in(lost) if lost else []))


def attempts_ended(rows: Rows, ended: Sequence[Ended]) -> None:
    """Attempts have ended, and some had to do with batches. Their rows are decided already."""
    known, table = rows.memory.in_batches, rows.store.batches
    for outcome in ended:
        took = known.pop((outcome.task, outcome.token), None)
        if took and is_judged(outcome):
            table.remove([outcome.task])
        elif took is False and outcome.outcome is Outcome.PARKED:
            item = table.item(outcome.task)
            batch = None if item is None else table.get(item.batch)
            if item is None or item.answered or batch is None or batch.state is BatchState.OVER:
                task = rows.turn.tasks.get(outcome.task)
                if task is not None:
                    _wake(rows.turn, task)  # that came before it was parked


def follow(rows: Rows) -> None:
    """Tasks have ended: those that carried a batch, and those that waited for one with something reserved."""
    turn, carriers = rows.turn, rows.memory.carriers
    if turn.accounts.active:
        _reserve_lost(rows)
    reserved = [task for task in turn.settled if task.number in turn.accounts.reservations]
    if reserved:
        need(rows, reserved)
        for task in reserved:
            _given_up(rows, task)
    for task in turn.settled:
        if task.number in carriers:
            batch = rows.store.batches.get(task.number)
            if batch is not None:
                _end(rows, batch, f"batch_{task.state.word}")


def _reserve_lost(rows: Rows) -> None:
    """Who has joined a batch and was lost on its way there has nothing reserved until it starts again. If it ends before that, its
    question may have to be paid for all the same."""
    turn = rows.turn
    ended = [task for task in turn.settled if task.state is not State.SUCCEEDED]
    ended = [task for task in ended if task.number not in turn.accounts.reservations]
    models = {task.number: model_of(turn.lanes[task.lane].key.bucket) for task in ended}
    asking = [number for number, model in models.items() if model is not None]
    left = rows.store.batches.those_in(asking) if asking else []
    for task in rows.tasks(left).values():
        need(rows, [task])
        its, item = budgets.those_of(turn, task, turn.lanes[task.lane]), rows.store.batches.item(task.number)
        if its and (model := models[task.number]) is not None and item is not None and item.assumed is None:
            found = estimates.wanted(rows, task, model)
            budgets.reserve(turn, task, its, found.amount, found.allows)


def _given_up(rows: Rows, task: Task) -> None:
    """Its question stays in the batch, which may have to be paid for all the same. What was not sent is not."""
    table = rows.store.batches
    item = table.item(task.number)
    batch = None if item is None else table.get(item.batch)
    if batch is not None and batch.state < BatchState.SENDING:
        table.remove([task.number])
        budgets.let_go(rows.turn, task)
        return
    reservation = budgets.let_go(rows.turn, task, assume=True)
    if item is not None:
        table.assume(task.number, reservation)


def _wake(turn: Turn, task: Task) -> None:
    if task.state is State.SCHEDULED:
        machine.due(turn, task)
    elif task.state is State.HELD:
        task.due = None
        turn.changed[task.number] = task
