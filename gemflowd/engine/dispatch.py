"""Hand ready tasks to free slots: lanes in order, limits asked, bodies and inputs fetched, tokens given."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgpack

from gemflowd.core import budgets, limits, machine
from gemflowd.core.another_way import note_of
from gemflowd.core.lanes import WINDOW, Key, Window, key_of, pick
from gemflowd.core.placement import AHEAD_SECONDS, HAND_OVER_SECONDS, WHOLE_SLOT, Placing, Slot
from gemflowd.core.turn import Turn
from gemflowd.engine.budgets import admit, need, shut
from gemflowd.engine.inputs import begin_to_gather, gather, inputs_of, large, must_gather
from gemflowd.engine.memory import NOTHING_AHEAD, Memory
from gemflowd.engine.rows import Rows
from gemflowd.model.attempt import TAKE_BACK_AFTER, Ended, Kind, Outcome, Start
from gemflowd.model.effects import Retract
from gemflowd.model.lane import Lane
from gemflowd.model.states import State
from gemflowd.model.task import NOTED, Hold, Task, agains, shown_id

#: Bytes of data that one slot is given in one turn, where it is more than one task.
MAX_HAND_OVER_BYTES = 4 * 1024 * 1024
_READY: Final = State.READY
#: Tasks taken from the windows in one go.
_MOST = 512


def enqueue(turn: Turn, memory: Memory) -> None:
    """Tell the windows of everything that became ready in this turn, in order."""
    for task in {task.number: task for task in turn.became_ready}.values():  # each once: the last place counts
        if task.state is State.READY:
            machine.give_tag(turn, task, memory.virtual_time, memory.means.of(task.type))
            turn.changed[task.number] = task
            window = memory.windows.get(task.lane)
            if window is None:
                window = memory.windows[task.lane] = Window()
            if turn.lanes[task.lane].key.others:
                memory.elsewhere.add(task.lane)
            window.push(key_of(task, turn.lanes[task.lane]))
            memory.live.add(task.lane)
            if task.urgency > memory.least_ahead and turn.lanes[task.lane].key.kind is Kind.BLOCKING:
                turn.take_back(Retract.AHEAD)  # else it would wait for what waits itself, however long that takes
                memory.least_ahead = NOTHING_AHEAD


def dispatch(rows: Rows, budget: int) -> list[Start]:
    """Start what can be started, at most about `budget` tasks."""
    gather(rows)
    starts: list[Start] = []
    for kind in _kinds(rows):
        if kind is Kind.BLOCKING and rows.memory.tight:
            continue
        slots = [slot for slot in rows.memory.slots.values() if slot.kind is kind and not slot.stopping]
        if slots:
            _fill(rows, kind, slots, starts, budget)
    return starts


def _kinds(rows: Rows) -> list[Kind]:
    """Which kinds of worker are served. Where one task runs at a time only that of the very next task, even if it must wait."""
    if rows.turn.rules.enabled:
        return list(Kind)
    heads: dict[Kind, Key] = {}
    for kind in Kind:
        for number in _startable(rows, kind):
            head = rows.memory.windows[number].head()
            if head is not None:
                heads[kind] = min(head, heads.get(kind, head))
    return sorted(heads, key=lambda kind: heads[kind])[:1]


def _startable(rows: Rows, kind: Kind) -> dict[int, Lane]:
    """The lanes of that kind which may start and may have something ready, their windows filled."""
    turn, live = rows.turn, rows.memory.live
    found = {}
    for number in list(live):
        lane = turn.lanes.get(number)
        if lane is None:
            live.discard(number)  # its flow was discarded
        elif lane.key.kind is kind and limits.may_start(turn, lane):
            if turn.accounts.active and shut(rows, lane):
                continue
            refill(rows, number)
            window = rows.memory.windows[number]
            head = window.head()
            if head is not None:
                if lane.key.bucket is None or not _waits(rows, lane.key.bucket, head):
                    found[number] = lane
            elif window.must_fill:
                rows.memory.again = True  # the rest is behind what this turn has not written yet
            else:
                live.discard(number)
    return found


def _waits(rows: Rows, bucket: str, head: Key) -> bool:
    """Whether the first of a lane waits behind one of the same limit, which has no room for that one yet."""
    blocked = rows.turn.buckets[bucket].blocked
    if blocked is None:
        return False
    window = rows.memory.windows.get(blocked.lane)
    return limits.blocks(rows.turn, rows.turn.buckets[bucket], head, None if window is None else window.head())


def _fill(rows: Rows, kind: Kind, slots: list[Slot], starts: list[Start], budget: int) -> None:
    turn, memory = rows.turn, rows.memory
    placing = Placing(slots)
    looked = 0
    while len(starts) < budget and (lanes := _startable(rows, kind)):
        if looked >= budget:  # most of what was taken may not run: the rest in the next turn
            memory.again = True
            return
        mean = min((memory.lane_means.get(number, WHOLE_SLOT) for number in lanes), default=WHOLE_SLOT)
        room = sum(slot.room(mean) for slot in slots)
        spare = _spare(rows, lanes, slots) if kind is Kind.BLOCKING and mean <= AHEAD_SECONDS else 0
        if spare > room:
            room = min(spare, sum(slot.room(mean, ahead=True) for slot in slots))
        room = min(room, _MOST, budget - len(starts))
        if kind is Kind.COROUTINE:
            room = min(room, _coroutines_left(memory, turn.rules.coroutines))
        if not turn.rules.enabled:
            room = min(room, 1 - len(memory.running))
        if room <= 0:
            return
        taken = pick(memory.windows, lanes, room, limits.Room(turn, lanes))
        if not taken:
            return
        looked += len(taken)
        if not _start(rows, taken, spare, placing, starts):
            return
    memory.again = memory.again or len(starts) >= budget


def _spare(rows: Rows, lanes: dict[int, Lane], slots: list[Slot]) -> int:
    """Up to how many may be taken while one of them waits behind another: of the last ones each goes to a slot that is free.

    What shares something does not count, for it would hold what others need while it only waits.
    """
    if rows.turn.queues:
        return 0
    windows = rows.memory.windows
    return sum(len(windows[number]) for number, lane in lanes.items() if not lane.shares) - len(slots)


def _coroutines_left(memory: Memory, most: int) -> int:
    """How many more may run. What finishes in a worker that has been replaced counts: its successor has as many slots."""
    slots = memory.slots.values()
    return most - sum(len(slot.tasks) for slot in slots if slot.kind is Kind.COROUTINE)


def refill(rows: Rows, lane: int) -> None:
    """Fill an empty window from the store, which has all of this turn but what was started just now."""
    memory = rows.memory
    window = memory.windows.setdefault(lane, Window())
    if window.must_fill:
        stored = rows.store.ready(lane, WINDOW + len(memory.running))
        complete = len(stored) < WINDOW + len(memory.running)
        known = rows.turn.tasks
        shift = rows.turn.lanes[lane].shift
        if shift:
            stored = [(urgency, tag + shift, number) for urgency, tag, number in stored]
        keys = [
            key
            for key in stored
            if key[2] not in memory.running and (key[2] not in known or is_ready(known[key[2]], lane))
        ]
        window.fill(keys, None if complete else stored[-1])


def is_ready(task: Task, lane: int) -> bool:
    """Whether a task is where the window of a lane has it."""
    return task.state is _READY and task.lane == lane


def _start(rows: Rows, taken: list[tuple[int, Key]], spare: int, placing: Placing, starts: list[Start]) -> bool:
    """Place and start what was taken. Returns False when the slots are full; what is left goes back to its window."""
    turn, memory = rows.turn, rows.memory
    found = rows.tasks([key[2] for _, key in taken])
    bulky = large(rows, found.values())
    placed: list[tuple[Task, Slot]] = []
    budgeted = turn.accounts.active
    if budgeted:
        need(rows, found.values())
    full = False
    for index, (number, key) in enumerate(taken):
        task, lane = found.get(key[2]), turn.lanes[number]
        if key[2] in memory.running:
            continue  # taken just now: what was held and released again is in the window twice
        if task is None or not is_ready(task, number) or key != key_of(task, lane):
            memory.gathered.pop(key[2], None)
            continue  # ended, moved or edited since the window was filled
        if not _may_run(rows, task):
            continue
        if task.inputs and must_gather(memory, task):
            begin_to_gather(memory, task, number, key)
            continue
        if lane.shares and not (limits.devices_fit(turn, lane) and limits.admit(turn, lane, task, key)):
            # Who was taken before it and may not run had made room for it; or its limit has none for this very one.
            _put_back(memory, [(number, key)])
            continue
        asked = None
        if budgeted and (asked := admit(rows, task, lane, key)) is None:
            continue
        mean = memory.expected(task)
        if task.number in bulky:
            mean = WHOLE_SLOT
        memory.lane_means[number] = mean
        plain = not lane.shares and not turn.queues
        slot = placing.place(task.number, mean, ahead=plain and len(placed) < spare)
        if slot is None:
            _put_back(memory, taken[index:])
            full = True
            break
        if not plain:
            limits.reserve(turn, lane, task.number, task.size)
        if asked is not None and asked.budgets:
            budgets.reserve(turn, task, asked.budgets, asked.amount, asked.allows)
        memory.running[task.number] = task
        memory.virtual_time = max(memory.virtual_time, key[1])
        placed.append((task, slot))
        if len(slot.tasks) > 1 and slot.load > HAND_OVER_SECONDS:
            memory.least_ahead = min(memory.least_ahead, task.urgency)
    if placed:
        turn.begin([(task, slot.name) for task, slot in placed])
        _orders(rows, placed, starts)
    return not full


def _put_back(memory: Memory, taken: list[tuple[int, Key]]) -> None:
    for lane, key in taken:
        memory.windows[lane].push(key)


def _may_run(rows: Rows, task: Task) -> bool:
    """Whether nobody has stopped its flow meanwhile, and its type is there. What may not leaves the lane."""
    turn, handlers = rows.turn, rows.memory.handlers
    flow = turn.flows[task.flow]
    if not flow.cancelled and not flow.on_hold and (task.type in handlers or not handlers):
        return True
    if flow.cancelled:
        pass  # the cursor that cancels it comes to it in a moment
    elif flow.on_hold:
        machine.hold(turn, task, Hold.PERSON, "its flow is held")
    else:
        machine.hold(turn, task, Hold.HANDLER, f"there is no handler for the type {task.type}")
    return False


def _orders(rows: Rows, placed: list[tuple[Task, Slot]], starts: list[Start]) -> None:
    rules = rows.turn.rules
    bodies = rows.store.bodies([task.number for task, _ in placed])
    inputs = inputs_of(rows, (task for task, _ in placed))
    handed: Counter[str] = Counter()
    for task, slot in placed:
        its = inputs.get(task.number)
        size = len(bodies[task.number]) + (its.size if its is not None else 0)
        handed[slot.name] += size
        if its is not None and its.size > rules.max_inputs_bytes:
            _refuse_inputs(rows, task, slot, its.size)
            continue
        if handed[slot.name] > MAX_HAND_OVER_BYTES and handed[slot.name] > size:
            machine.take_back(rows.turn, task, task.token)
            slot.remove(task.number)
            del rows.memory.running[task.number]
            rows.memory.slow_down(slot.name)
            continue
        starts.append(
            Start(
                task=task.number,
                token=task.token,
                attempt=task.attempts + 1,
                flow=task.flow,
                id=shown_id(task.id, task.flags),
                type=task.type,
                slot=slot.name,
                body=bodies[task.number],
                inputs=None if its is None else its.packed(),
                timeout=task.timeout or rows.memory.timeout_of(task.type) or rules.timeout,
                memory_mb=task.memory_mb,
                devices=rows.turn.devices.given(task.number),
                note=_note(rows, task) if task.flags & NOTED else None,
                patience=max(TAKE_BACK_AFTER, 2 * slot.tasks[task.number]),
            )
        )


def _note(rows: Rows, task: Task) -> tuple[int, bytes] | None:
    note = note_of(rows.store.last_again(task.number))
    return None if note is None else (agains(task), note)


def _refuse_inputs(rows: Rows, task: Task, slot: Slot, size: int) -> None:
    limit = rows.turn.rules.max_inputs_bytes
    message = f"the results of its dependencies have {size} bytes; the setting max_inputs_mb allows {limit}"
    error = {"class": "InputsTooLarge", "code": "inputs_too_large", "message": message}
    machine.outcome(rows.turn, task, Ended(task.number, task.token, Outcome.PERMANENT, msgpack.packb(error)))
    slot.remove(task.number)
    del rows.memory.running[task.number]
    rows.memory.again = True  # its slot is free, and nobody would say so
