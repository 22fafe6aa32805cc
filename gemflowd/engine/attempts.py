"""What an executor reports: attempts that ended or came back, slots that come and go."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from gemflowd.core import machine
from gemflowd.core.budgets import begin_day
from gemflowd.core.placement import Slot
from gemflowd.engine import batches, cache
from gemflowd.engine.budgets import need
from gemflowd.engine.memory import Memory
from gemflowd.engine.rows import Rows
from gemflowd.engine.waiting import wait_for_added
from gemflowd.model.attempt import Ended, Outcome
from gemflowd.model.event import WORKER_TOPIC, Event
from gemflowd.model.facts import SlotDown, SlotStopping, SlotUp
from gemflowd.model.task import Task

log = logging.getLogger("gemflow.queue")
_AGAIN = Outcome.AGAIN  # a member by its name costs much before Python 3.12


def end_attempts(rows: Rows, ended: Sequence[Ended], *, unclean: bool = False) -> None:
    """Attempts have ended. `unclean`: the daemon died while they ran."""
    turn, memory = rows.turn, rows.memory
    found = rows.tasks([outcome.task for outcome in ended])
    if turn.accounts.active:
        begin_day(turn)
        need(rows, found.values())
    if memory.carriers or memory.in_batches:
        turn.joined = batches.joined(rows, ended)
    if memory.calls.attempts:
        turn.unasked = cache.unasked(rows, ended)
    done: dict[int, Task] = {}
    for outcome in ended:
        task = found.get(outcome.task)
        if task is None or not machine.is_live(task, outcome) or task.number in done:
            turn.refused_outcomes += 1
            log.warning(
                "outcome %s of task %d refused: its attempt is not the live one", outcome.outcome.word, outcome.task
            )
            continue
        if outcome.outcome is _AGAIN:
            outcome = wait_for_added(rows, task, outcome)
        if machine.record(turn, task, outcome, unclean=unclean):
            done[task.number] = task
            memory.means.note(task.type, outcome.seconds)
        turn.seconds[task.number] = outcome.seconds
        _leave_slot(memory, task)
    turn.succeed(list(done.values()))
    if memory.calls.attempts:
        cache.attempts_ended(rows, ended)
    if memory.in_batches:
        batches.attempts_ended(rows, ended)


def take_back(rows: Rows, attempts: Sequence[tuple[int, int]]) -> None:
    """Attempts, as (task, token), that were handed over and had not started."""
    if rows.turn.accounts.active:
        need(rows, rows.tasks([number for number, _ in attempts]).values())
    for number, token in attempts:
        task = rows.tasks([number]).get(number)
        if task is not None and machine.take_back(rows.turn, task, token):
            _leave_slot(rows.memory, task)
            rows.memory.slow_down(task.slot)


def _leave_slot(memory: Memory, task: Task) -> None:
    """Its attempt runs no more."""
    memory.running.pop(task.number, None)
    slot = memory.slots.get(task.slot or "")
    if slot is not None:
        slot.remove(task.number)


def change_slot(rows: Rows, fact: SlotUp | SlotStopping | SlotDown) -> None:
    """A slot is there, takes nothing new, or is gone."""
    turn, slots = rows.turn, rows.memory.slots
    if isinstance(fact, SlotUp) and fact.name in slots:
        slots[fact.name].size = fact.size
    elif isinstance(fact, SlotUp):
        slots[fact.name] = Slot(fact.name, fact.kind, fact.size)
        turn.events.append(Event(WORKER_TOPIC, {"worker": fact.name, "state": "up", "pid": fact.pid}))
    elif isinstance(fact, SlotStopping):
        if fact.name in slots:
            slots[fact.name].stopping = True
    elif slots.pop(fact.name, None) is not None:
        fields: dict[str, object] = {"worker": fact.name, "state": "down", "pid": fact.pid}
        if fact.cause:
            fields["cause"] = fact.cause
        turn.events.append(Event(WORKER_TOPIC, fields))
