"""What the engine keeps between turns: windows, slots, running tasks, caches. Small, whatever is in the queue.

All of it can be made again from the store, and is, after a turn that failed.
"""

from __future__ import annotations

from typing import Final

from gemflowd.core.accounts import Accounts
from gemflowd.core.devices import Devices
from gemflowd.core.inputs import Gathering, Inputs
from gemflowd.core.lanes import Window
from gemflowd.core.limits import gpus
from gemflowd.core.placement import WHOLE_SLOT, Means, Slot
from gemflowd.core.turn import Cursor, CursorKind
from gemflowd.engine.calls import Cached, Calls
from gemflowd.engine.critical_path import Progress
from gemflowd.model.attempt import HandlerInfo, Kind
from gemflowd.model.lane import Bucket, Lane, LaneKey, Queue, amounts
from gemflowd.model.limit import Sent
from gemflowd.model.task import Flow, Task, runs_alone
from gemflowd.store.base import Key, Snapshot, StoredAccounts

_MOST_FLOWS: Final = 4096
#: More than any urgency.
NOTHING_AHEAD: Final = 1 << 62
#: Of limits: what their running attempts have reserved, and the task that tries whether a breaker may close.
InFlight = dict[str, tuple[dict[int, Sent], int | None]]


class Memory:
    """The engine's view of the store and of the slots."""

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}
        self.means = Means()
        self.lane_means: dict[int, float] = {}  # of the type that was started last
        # At most the urgency of what waits in workers behind a task that is not very short.
        self.least_ahead = NOTHING_AHEAD
        self.handlers: dict[str, HandlerInfo] = {}
        self.lanes: dict[int, Lane] = {}
        self.lane_by_key: dict[LaneKey, Lane] = {}
        self.buckets: dict[str, Bucket] = {}
        self.queues: dict[str, Queue] = {}
        self.used: dict[str, float] = {}  # named resources that running tasks have
        self.devices = Devices()  # GPUs; what is given of them outlives a failed turn, not the daemon
        self.accounts = Accounts()
        self.windows: dict[int, Window] = {}
        self.live: set[int] = set()  # lanes that may have something ready: the others aren't looked at
        self.elsewhere: set[int] = set()  # those whose tasks may fall under another limit
        self.cursors: dict[tuple[CursorKind, int], Cursor] = {}
        self.running: dict[int, Task] = {}
        self.flows: dict[int, Flow] = {}
        self.next_task = 1
        self.next_flow = 1
        self.next_event = 1
        self.ordinals: dict[str, int] = {}
        self.virtual_time = 0.0
        self.again = False  # a turn has freed a slot after it had filled them: take another one at once
        self.gathering: dict[int, Gathering] = {}  # ready, and their many inputs are being put together
        self.gathered: dict[int, Inputs] = {}
        self.to_gather: dict[int, tuple[int, Key]] = {}  # lane, key of those that must wait for others to be through
        self.ordering: Progress | None = None  # of the flow that is put in order by its critical path
        self.stops: dict[
            int, tuple[int, int]
        ] = {}  # flows with `max_errors`: that, and the failures at which it is held
        self.queued_bytes = 0
        self.value_bytes = 0  # of the shared memory, as its cap counts them
        self.value_version = 0  # the last that was given, of whatever key
        self.cache = Cached()
        self.calls = Calls()  # of running attempts that the cache may serve; they are in no store
        self.carriers: set[int] = set()  # tasks that carry a batch which is not over
        self.in_batches: dict[
            tuple[int, int], bool
        ] = {}  # attempts (task, token) that joined a batch, or (True) took what came of it
        self.tight = False  # the workers have all the memory that they may: no blocking task starts
        self.disk_low = False  # nothing new is taken
        self.next_times: tuple[float | None, float | None] = (None, None)  # by the steady clock, by the wall clock
        self.times_known = False
        self.next_run: float | None = None  # of any schedule, by the wall clock
        self.awaited: dict[int, str] = {}  # flows whose end a run of a schedule waits for
        self.unblocked: set[str] = (
            set()
        )  # schedules that have to be looked at: what a run of theirs waited for has ended

    def load(self, snapshot: Snapshot) -> None:
        """Take the store's word for everything; the slots stay, what runs in them is counted anew."""
        self.lanes = snapshot.lanes
        self.lane_by_key = {lane.key: lane for lane in snapshot.lanes.values()}
        self.buckets = snapshot.buckets
        self.queues = snapshot.queues
        self.used = {}
        self.accounts = _accounts_from(snapshot.accounts)
        self.windows = {number: Window() for number in snapshot.lanes}
        self.live = set(snapshot.lanes)
        self.elsewhere = {number for number, lane in snapshot.lanes.items() if lane.key.others}
        self.cursors = {(cursor.kind, cursor.target): cursor for cursor in snapshot.cursors}
        for cursor in snapshot.cursors:
            cursor.stored = True
            cursor.again = cursor.kind is CursorKind.RETRY  # what its round had put back is not known any more
        self.gathering, self.gathered, self.to_gather = {}, {}, {}
        self.ordering = None
        self.running = {task.number: task for task in snapshot.running}
        # Not known any more: the next one that becomes ready takes back.
        self.least_ahead = -NOTHING_AHEAD if snapshot.running else NOTHING_AHEAD
        self.flows = {}
        self.stops = snapshot.stops
        self.next_task = snapshot.next_task
        self.next_flow = snapshot.next_flow
        self.next_event = snapshot.next_event
        self.ordinals = snapshot.ordinals
        self.virtual_time = snapshot.meta.get("virtual_time", 0.0)
        self.queued_bytes = int(snapshot.meta.get("queued_bytes", 0))
        self.value_bytes = int(snapshot.meta.get("value_bytes", 0))
        self.value_version = int(snapshot.meta.get("value_version", 0))
        self.cache = Cached.of(snapshot.meta)
        self.carriers = snapshot.carriers
        self.handlers = {info.type: info for info in snapshot.catalogue}
        self.times_known = False
        self.next_run = snapshot.next_run
        self.awaited = snapshot.awaited
        self.unblocked = set(snapshot.awaited.values())  # perhaps; it is not known any more
        for slot in self.slots.values():
            slot.tasks.clear()
            slot.load = 0.0
        for task in snapshot.running:
            self._count(self.lanes[task.lane].key)
            running_in = self.slots.get(task.slot or "")
            if running_in is not None:
                running_in.put(task.number, self.expected(task))

    def in_flight(self) -> InFlight:
        """What is known of running attempts in no store, as it is before a turn."""
        return {
            name: (dict(bucket.sent), bucket.ledger.breaker.probe)
            for name, bucket in self.buckets.items()
            if bucket.sent or bucket.ledger.breaker.probe is not None
        }

    def still_in_flight(self, before: InFlight) -> None:
        """Take that back, after `load`: the turn has failed, so what ran before it runs still."""
        for name, (sent, probe) in before.items():
            bucket = self.buckets.setdefault(name, Bucket(name))
            bucket.sent, bucket.ledger.breaker.probe = sent, probe

    def _count(self, key: LaneKey) -> None:
        """A task of that lane runs."""
        if key.bucket is not None:
            self.buckets.setdefault(key.bucket, Bucket(key.bucket)).in_flight += 1
        if key.queue in self.queues:
            self.queues[key.queue].running += 1
        for name, amount in amounts(key.resources):
            self.used[name] = self.used.get(name, 0.0) + amount

    def expected(self, task: Task) -> float:
        """Seconds that a task takes, by its type; a whole slot where nothing may be handed over with it.

        Who has devices has its worker for itself, too: else others would wait for them behind what does not need them.
        """
        mean = self.means.of(task.type)
        lane = self.lanes[task.lane]
        alone = runs_alone(task) or (lane.shares and self.devices.known and gpus(lane) > 0)
        return max(mean, WHOLE_SLOT) if alone else mean

    def slow_down(self, slot_name: str | None) -> None:
        """Things were taken back from behind a task that takes longer than expected: the slot is full until it ends."""
        slot = self.slots.get(slot_name or "")
        if slot is not None and slot.tasks and slot.kind is Kind.BLOCKING:
            number = next(iter(slot.tasks))
            slot.load += WHOLE_SLOT - slot.tasks[number]
            slot.tasks[number] = WHOLE_SLOT

    def timeout_of(self, task_type: str) -> float | None:
        """Seconds that the handler asks for one attempt, if it does."""
        handler = self.handlers.get(task_type)
        return handler.timeout if handler else None

    def remember_flow(self, flow: Flow) -> None:
        if len(self.flows) >= _MOST_FLOWS:
            self.flows.clear()
        self.flows[flow.number] = flow


def _accounts_from(stored: StoredAccounts) -> Accounts:
    accounts = Accounts(
        has_flows=stored.has_flows,
        has_tasks=stored.has_tasks,
        reservations=stored.reservations,
        models=stored.models,
        next_number=stored.next_number,
    )
    for budget in stored.wide:
        accounts.put(budget)
    return accounts
