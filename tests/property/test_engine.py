"""Random histories of the queue (helpers/history.py says what is checked), found and made small by Hypothesis."""

from __future__ import annotations

import tempfile
from pathlib import Path

from helpers.history import History
from helpers.rig import InMemory, OnDisk
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.states import On

PICK = st.integers(0, 10_000)  # taken modulo the number of things there are
KINDS = st.sampled_from([Kind.BLOCKING, Kind.BLOCKING, Kind.COROUTINE])
ONS = st.sampled_from([On.SUCCESS, On.SUCCESS, On.SUCCESS, On.FAILURE, On.DONE])
OUTCOMES = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.CANCELLED] + [Outcome.DONE] * 6)
TASKS = st.lists(
    st.fixed_dictionaries(
        {
            "priority": st.sampled_from([5, 5, 5, 9, 0]),
            "kind": KINDS,
            "type": st.sampled_from(["echo", "sleep"]),
            "queue": st.sampled_from(["default", "night"]),
            "bucket": st.sampled_from([None, None, "a", "b"]),
            "delay": st.sampled_from([None, None, None, 0.0, 3.0, 50.0]),
            "retries": st.sampled_from([None, 0, 1]),
            "deps": st.lists(st.tuples(PICK, ONS), max_size=3),
            "resources": st.sampled_from(["", "", "", "gpu=0.5", "gpu=1", "gpu=2"]),
            "memory_mb": st.sampled_from([None, None, None, 64]),
            "expires_in": st.sampled_from([None, None, None, 4.0, 60.0]),
            "when": st.sampled_from([None, None, "1 == 1", "1 == 2", "deps.nobody.ok", "size(deps) > 1"]),
        }
    ),
    min_size=2,
    max_size=9,
)
COMPLETE = st.sampled_from([True, True, True, False])


class EngineMachine(History, RuleBasedStateMachine):
    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        History.__init__(self, self.backing())

    def backing(self) -> InMemory | OnDisk:
        return InMemory()

    def teardown(self) -> None:
        self.close()

    begin = initialize(
        eager=st.sampled_from([1, 1, 2, 4, 0]),
        shapes=TASKS,
        complete=COMPLETE,
        devices=st.sampled_from([(), ("0", "1")]),
    )(History.begin)
    all_holds = invariant()(History.all_holds)

    submit = rule(
        shapes=TASKS,
        complete=COMPLETE,
        weight=st.sampled_from([1.0, 4.0, 0.5]),
        stream=st.booleans(),
        critical_path=st.booleans(),
    )(History.submit)
    next_chunk = rule(
        shapes=TASKS, pick=PICK, complete=st.booleans(), wrong=st.sampled_from([0, 0, 0, 1, -1]), empty=st.booleans()
    )(History.next_chunk)
    repeat = rule(pick=PICK, which=PICK, other=st.booleans())(History.repeat)
    bad_chunk = rule(pick=PICK, unknown=st.booleans())(History.bad_chunk)
    discard = rule(pick=PICK)(History.discard)

    cancel = rule(pick=PICK, how=st.sampled_from([0, 0, 0, 1, 2, 3]))(History.cancel)
    retry = rule(pick=PICK, how=st.integers(0, 3), downstream=st.booleans())(History.retry)
    hold = rule(pick=PICK, how=st.integers(0, 3))(History.hold)
    release = rule(pick=PICK, how=st.integers(0, 3))(History.release)
    edit = rule(pick=PICK, how=st.integers(0, 3), priority=st.sampled_from([0, 5, 9]))(History.edit)
    delete = rule(pick=PICK)(History.delete)
    set_queue = rule(
        queue=st.sampled_from(["default", "night"]),
        paused=st.sampled_from([False, False, True]),
        most=st.sampled_from([None, None, 0, 1, 2]),
    )(History.set_queue)
    grow = rule(pick=PICK, count=st.integers(1, 3), step=st.booleans(), wrong=st.sampled_from([0, 0, 0, 1, -1]))(
        History.grow
    )
    jump = rule(seconds=st.sampled_from([3600.0, -3600.0, 0.5]))(History.jump)
    configure = rule(fair=st.booleans(), enabled=st.sampled_from([True] * 5 + [False]))(History.configure)

    work = rule(dice=PICK, rounds=st.integers(1, 12), good=st.booleans())(History.work)
    end = rule(
        pick=PICK,
        outcome=OUTCOMES,
        seconds=st.sampled_from([0.0001, 0.0001, 0.004, 1.0]),
        retry_after=st.sampled_from([None, 0.0, 7.0]),
    )(History.end)
    end_to_wait = rule(pick=PICK, which=st.integers(0, 2**16 - 1))(History.end_to_wait)
    end_several = rule(dice=PICK, seconds=st.sampled_from([0.0001, 0.001]))(History.end_several)
    obey_cancel = rule()(History.obey_cancel)
    late = rule(
        pick=PICK, outcome=st.sampled_from(Outcome), wrong=st.sampled_from([0, 0, 1_000, -1]), back=st.booleans()
    )(History.late)
    take_back = rule(pick=PICK, keep=st.integers(0, 2))(History.take_back)
    lose_slot = rule(pick=PICK, how=st.sampled_from(["stop", "kill", "innocent"]))(History.lose_slot)
    add_slot = precondition(lambda self: len(self.rig.executor.slots) < 5)(
        rule(kind=KINDS, size=st.integers(1, 4))(History.add_slot)
    )

    turn = rule(count=st.sampled_from([1, 1, 2, None, None, None]))(History.go_on)
    wait = rule(seconds=st.sampled_from([1.0, 6.0, 100.0]))(History.wait)
    restart = rule(how=st.sampled_from(["drain", "stop", "crash", "untold", "untold"]))(History.restart)
    failing_store = rule(verb=st.sampled_from(["write", "conclude", "commit", "tasks", "bodies"]), full=st.booleans())(
        History.failing_store
    )


class SqliteMachine(EngineMachine):
    def backing(self) -> OnDisk:
        self.folder = tempfile.TemporaryDirectory()
        return OnDisk(Path(self.folder.name) / "gemflow.db")

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestInMemory = EngineMachine.TestCase
TestOnDisk = SqliteMachine.TestCase
TestOnDisk.settings = settings(max_examples=max(15, settings().max_examples // 10))
