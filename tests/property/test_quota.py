"""Random histories of limited tasks: no window ever has more than it may, nobody waits for ever, what is reserved is settled."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgpack
from helpers.rig import Rig
from helpers.tasks import Answer, new
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gemflowd.model.attempt import Ended, Kind, Outcome
from gemflowd.model.facts import AttemptsEnded, SetLimit
from gemflowd.model.limit import PACIFIC, Figures
from gemflowd.model.rules import Rules
from gemflowd.model.states import State

BUCKETS = ("gemini:a", "gemini:b")
SLOTS = 12
FIGURES = st.fixed_dictionaries(
    {},
    optional={
        "rpm": st.integers(1, 6),
        "tpm": st.sampled_from([50, 120, 1000]),
        "rpd": st.integers(3, 12),
        "requests": st.integers(1, 4),
        "per": st.sampled_from([1.0, 10.0, 300.0]),
        "in_flight": st.integers(1, 5),
        "reserve": st.sampled_from([0.0, 0.3, 0.9]),
        "breaker": st.sampled_from([0, 2, 5]),
    },
)
NAMED = st.sampled_from([None, {"id": "RequestsPerMinute", "value": "4"}, {"id": "RequestsPerDay", "value": "9"}])


class Call(NamedTuple):
    at: float
    tokens: int  # at most: by its size
    high: bool


class QuotaMachine(RuleBasedStateMachine):
    """The engine with one coroutine slot of some size. All that runs is a call, and every call is of a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[Call]] = {name: [] for name in (*BUCKETS, "gemini")}
        self.counted: dict[tuple[int, int], tuple[str, Call]] = {}  # by task and token
        self.bucket_of: dict[int, tuple[str, int, int]] = {}  # by task: limit, bytes, priority
        self.flows = 0
        self.given: dict[str, dict[str, Any]] = {}
        self.changed: set[str] = set()  # limits that were given other figures

    @initialize(one=FIGURES, other=FIGURES, group=st.one_of(st.none(), FIGURES))
    def begin(self, one: dict[str, Any], other: dict[str, Any], group: dict[str, Any] | None) -> None:
        self.given = {BUCKETS[0]: one, BUCKETS[1]: other, **({"gemini": group} if group else {})}
        self.rig = Rig(rules=Rules(retries=1, limits=dict(self.given)), now=1_800_000_000.0)
        self.rig.slots(1, Kind.COROUTINE, SLOTS)
        self.seen = 0
        self.look()

    def look(self) -> None:
        """Note what has started since."""
        for order in self.rig.executor.started[self.seen :]:
            bucket, size, priority = self.bucket_of[order.task]
            high = priority >= 8
            call = Call(self.rig.clock.now, size // 4, high)
            self.counted[order.task, order.token] = bucket, call
            for name in (bucket, "gemini"):
                self.calls[name].append(call)
        self.seen = len(self.rig.executor.started)

    def uncount(self, task: int, token: int) -> None:
        bucket, call = self.counted.pop((task, token))
        for name in (bucket, "gemini"):
            if call in self.calls[name]:  # else it is from before its figures were changed
                self.calls[name].remove(call)

    @rule(
        which=st.sampled_from(BUCKETS),
        count=st.integers(1, 6),
        size=st.sampled_from([4, 160, 4000]),
        priority=st.sampled_from([5, 5, 8]),
    )
    def submit(self, which: str, count: int, size: int, priority: int) -> None:
        first = self.rig.engine._memory.next_task
        for number in range(first, first + count):
            self.bucket_of[number] = which, size, priority
        self.flows += 1
        tasks = [new(kind=Kind.COROUTINE, bucket=which, body=b"x" * size, priority=priority) for _ in range(count)]
        self.rig.submit(tasks, f"s{self.flows}")
        self.look()

    @rule(
        pick=st.integers(0, 100),
        outcome=st.sampled_from([Outcome.DONE] * 4 + [Outcome.ERROR, Outcome.RATE_LIMITED, Outcome.LOST]),
        used=st.booleans(),
        retry_after=st.sampled_from([None, 0.2, 30.0]),
        code=st.sampled_from(["overloaded", "bad_json"]),
        named=NAMED,
    )
    def end(self, pick: int, outcome: Outcome, used: bool, retry_after: Any, code: str, named: Any) -> None:
        handed = self.rig.executor.handed()
        if not handed:
            return
        order = handed[pick % len(handed)]
        self.finish(order.task, outcome, used, retry_after, {"code": code, "quota": [named] if named else []})

    def finish(self, task: int, outcome: Outcome, used: bool, retry_after: Any, error: dict[str, Any]) -> None:
        rig = self.rig
        ended: Ended = rig.executor.ended(rig.attempt(task), outcome, 0.0, msgpack.packb(error), retry_after)
        if outcome is Outcome.RATE_LIMITED:
            self.uncount(task, ended.token)
        elif used:
            # As guessed: what is known too late can't be kept to.
            ended.usage = msgpack.packb({"prompt_tokens": self.bucket_of[task][1] // 4})
        rig.post(AttemptsEnded([ended]))
        rig.run()
        self.look()

    @rule(keep=st.integers(0, 3))
    def take_back(self, keep: int) -> None:
        for name in list(self.rig.executor.slots):
            for order in self.rig.executor.take_back(name, keep):
                self.uncount(order.task, order.token)
        self.rig.run()
        self.look()

    @rule(seconds=st.sampled_from([0.01, 0.5, 9.9, 61.0, 7200.0]))
    def pass_time(self, seconds: float) -> None:
        """The engine would wake by itself, so no moment at which it does may be passed over."""
        until = self.rig.clock.now + seconds
        while (patience := self.rig.engine._patience()) is not None and self.rig.clock.now + patience < until:
            self.rig.clock.now += max(patience, 1e-4)
            self.rig.run()
            self.look()
        self.rig.clock.now = max(until, self.rig.clock.now)
        self.rig.run()
        self.look()

    @rule()
    def crash(self) -> None:
        self.rig.crash()
        self.seen = 0
        self.rig.slots(1, Kind.COROUTINE, SLOTS)
        self.look()

    @rule(which=st.sampled_from(BUCKETS), figures=FIGURES)
    def set_figures(self, which: str, figures: dict[str, Any]) -> None:
        self.given[which] = {**self.given[which], **figures}
        self.calls[which] = []  # what was before, its old figures have allowed
        self.changed.add(which)
        self.rig.post(SetLimit(Answer(), which, figures))
        self.rig.run()
        self.look()

    @invariant()
    def no_window_has_more_than_it_may(self) -> None:
        if not hasattr(self, "rig"):
            return
        for name, figures in self.given.items():
            allowed = Figures(**figures)
            calls = self.calls[name]
            for limit, seconds in ((allowed.rpm, 60.0), (allowed.requests, allowed.per)):
                if limit is not None:
                    found = most([(call.at, 1) for call in calls], seconds)
                    assert found <= limit, f"{name}: {found} of {limit} in {seconds} s"
            if allowed.tpm is not None and calls:
                found = most([(call.at, call.tokens) for call in calls], 60.0)
                # One that is larger than all of it goes alone.
                assert found <= max(allowed.tpm, *(call.tokens for call in calls)), f"{name}: {found} tokens"
            if allowed.rpd is not None:
                days = Counter(datetime.fromtimestamp(call.at, ZoneInfo(PACIFIC)).date() for call in calls)
                assert max(days.values(), default=0) <= allowed.rpd

    @invariant()
    def not_more_run_than_may(self) -> None:
        if not hasattr(self, "rig"):
            return
        running: dict[str, int] = dict.fromkeys(self.calls, 0)
        for order in self.rig.executor.handed():
            bucket = self.bucket_of[order.task][0]
            for name in (bucket, "gemini"):
                running[name] += 1
        for name, figures in self.given.items():
            if "in_flight" in figures and name not in self.changed:
                assert running[name] <= figures["in_flight"]

    @invariant()
    def what_is_stored_holds(self) -> None:
        if hasattr(self, "rig"):
            self.rig.check()
            buckets = self.rig.engine._memory.buckets
            running = {order.task for order in self.rig.executor.handed()}
            for bucket in buckets.values():
                assert bucket.sent.keys() <= running, "what was reserved is settled"
                for log in bucket.ledger.logs.values():
                    assert len(log.cells) < 1000
                    assert abs(sum(cell[2] for cell in log.cells) - log.total) < 1e-3 * max(1.0, log.total)
                    assert all(cell[2] >= 0 for cell in log.cells)

    def teardown(self) -> None:
        """Whatever it was, it comes to an end: each call goes well from now on, and time passes as the engine sleeps."""
        if not hasattr(self, "rig"):
            return
        for _ in range(2_000):
            for order in self.rig.executor.handed():
                self.finish(order.task, Outcome.DONE, False, None, {})
            if not self.rig.executor.handed():
                left = [task for task in self.rig.contents().tasks.values() if not task.state.terminal]
                if not left:
                    return
                patience = self.rig.engine._patience()
                assert patience is not None, (
                    f"nobody would ever wake up for {[(t.number, State(t.state)) for t in left]}"
                )
                self.rig.clock.now += max(patience, 1e-4)
                self.rig.run()
                self.look()
        raise AssertionError("it does not come to an end")


def most(calls: list[tuple[float, int]], seconds: float) -> int:
    """The most in any window of so many seconds."""
    found = total = begin = 0
    for at, amount in calls:
        total += amount
        while at - calls[begin][0] >= seconds:
            total -= calls[begin][1]
            begin += 1
        found = max(found, total)
    return found


TestQuota = QuotaMachine.TestCase
TestQuota.settings = settings(settings.get_profile("ci"), max_examples=40, stateful_step_count=20)
