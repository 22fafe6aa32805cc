"""Schedules in the engine: their runs are flows like any other, each once, whatever clocks, crashes and full queues do."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from helpers.rig import Rig
from helpers.tasks import Answer, many, new

from gemflowd.engine import schedules
from gemflowd.engine.schedules import MOST_RUNS, pack_task, unpack_task
from gemflowd.model.attempt import Kind, Outcome
from gemflowd.model.errors import Refused, StoreFull
from gemflowd.model.facts import AddSchedule, ClockSet, Drain, NewTask, PauseSchedule, Ping, RemoveSchedule
from gemflowd.model.rules import Rules
from gemflowd.model.schedule import Schedule
from gemflowd.model.states import State

#: The rig's clock stands at 1,000,000: 20 s before a full minute, 13:46:40.
MINUTE = 1_000_020.0


@pytest.fixture
def rig() -> Any:
    rig = Rig()
    yield rig
    rig.check()


def add(rig: Rig, name: str = "s", cron: str = "* * * * *", task: NewTask | None = None, **how: Any) -> Answer:
    answer = Answer()
    values = {
        "zone": "UTC",
        "misfire": "once",
        "misfire_limit": 10,
        "overlap": "allow",
        "paused": False,
        "replace": False,
    }
    shown = msgpack.packb({"type": "echo", "data": {"name": name}})
    rig.post(AddSchedule(answer, name, cron, task=task or new(), shown=shown, **{**values, **how}))
    rig.run()
    return answer


def tell(rig: Rig, fact: type, *values: Any) -> Answer:
    answer = Answer()
    rig.post(fact(answer, *values))
    rig.run()
    return answer


def until(rig: Rig, moment: float) -> None:
    """The clock goes on to that moment by itself; nobody says anything."""
    rig.clock.now = moment
    rig.run()


def row(rig: Rig, name: str = "s") -> Schedule:
    found = rig.store.schedules.get(name)
    assert found is not None
    return found


def events(rig: Rig) -> list[tuple[str, dict[str, Any]]]:
    """What was said of schedules, from the first stored event on."""
    return [
        (fields["what"], {key: value for key, value in fields.items() if key not in ("what", "schedule")})
        for batch in rig.contents().events
        for topic, fields in batch.events
        if topic == "schedule"
    ]


def words(rig: Rig) -> list[str]:
    return [what for what, _ in events(rig)]


def run_times(rig: Rig) -> list[float]:
    return [fields["run_at"] for what, fields in events(rig) if what == "fired"]


def test_there_may_be_so_many_and_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.schedules.MOST_SCHEDULES", 2)
    assert [add(rig, name).code if name == "c" else add(rig, name).body["name"] for name in "abc"] == [
        "a",
        "b",
        "too_many_schedules",
    ]
    assert add(rig, "a", replace=True).body["name"] == "a"


# One run after the other


def test_it_sleeps_until_the_run_and_then_there_is_a_flow(rig: Rig):
    body = add(rig).body
    assert (body["next_run"], body["fired"], body["last_flow"]) == (MINUTE, 0, None)
    assert body["task"] == {"type": "echo", "data": {"name": "s"}}
    assert rig.engine._patience() == 20.0
    until(rig, MINUTE - 0.001)
    assert rig.contents().flows == {}
    until(rig, MINUTE)
    (flow,) = rig.contents().flows.values()
    assert (flow.name, flow.received) == ("s", 1)
    metadata = rig.store.inner._db.execute("SELECT metadata FROM flow").get
    assert msgpack.unpackb(metadata) == {"schedule": "s", "run_at": MINUTE}
    it = row(rig)
    assert (it.next_run, it.last_run, it.last_flow, it.fired) == (MINUTE + 60, MINUTE, flow.number, 1)
    assert events(rig) == [("added", {}), ("fired", {"flow": flow.number, "run_at": MINUTE})]
    until(rig, MINUTE + 60)
    assert run_times(rig) == [MINUTE, MINUTE + 60]


def test_a_run_is_started_in_the_turn_that_submits_it(rig: Rig):
    rig.slots()
    add(rig)
    rig.clock.now = MINUTE
    effects = rig.turn()
    assert [start.task for start in effects.starts] == [1]


def test_the_task_is_what_was_submitted(rig: Rig):
    task = new(
        "nightly", priority=8, queue="slow", bucket="b", kind=Kind.COROUTINE, timeout=5.0, retries=2, backoff=0.5,
        resources="gpu=1", body=b"\x80", rules='{"X": 1}', estimate=3.0,
        expires_in=30.0,
    )  # fmt: skip
    assert unpack_task(pack_task(task)) == task
    add(rig, task=task)
    until(rig, MINUTE)
    stored = rig.task(1)
    assert (stored.id, stored.priority, stored.timeout, stored.retries, stored.rules) == (
        "nightly",
        8,
        5.0,
        2,
        '{"X": 1}',
    )
    key = rig.engine._memory.lanes[stored.lane].key
    assert (key.queue, key.bucket, key.kind, key.resources) == ("slow", "b", Kind.COROUTINE, "gpu=1")
    assert rig.contents().bodies == {1: b"\x80"}
    assert stored.expires == MINUTE + 30
    until(rig, MINUTE + 30)
    assert rig.state(1) is State.SKIPPED


#: `new("a", retries=3, body=b"bod", rules='{"X":1}')`, as version 1 packs it.
PACKED = bytes.fromhex(
    "8ca776657273696f6e01a26964a161a474797065a46563686fa87072696f7269747905a774696d656f7574c0a77265747269"
    "657303a76261636b6f6666c0a4626f6479c403626f64aa657870697265735f696ec0a572756c6573a77b2258223a317da865"
    "7374696d617465c0a46c616e6584a57175657565a764656661756c74a66275636b6574c0a46b696e6401a97265736f757263"
    "6573a0"
)


def test_what_version_1_has_packed_is_read_by_every_later_one():
    assert unpack_task(PACKED) == new("a", retries=3, body=b"bod", rules='{"X":1}')


def test_a_task_of_a_later_version_is_skipped_and_said(rig: Rig):
    add(rig)
    values = msgpack.unpackb(rig.store.schedules.task("s"))
    rig.store.schedules.put(row(rig), b"\x80", msgpack.packb({**values, "version": 99}))
    until(rig, MINUTE)
    ((what, fields),) = events(rig)[1:]
    assert (what, "version 99" in fields["reason"]) == ("skipped", True)
    assert row(rig).next_run == MINUTE + 60


# What people do


def test_a_name_that_exists_is_refused_unless_it_is_to_be_replaced(rig: Rig):
    add(rig)
    until(rig, MINUTE)
    assert add(rig, cron="0 0 * * *").code == "conflict"
    assert row(rig).cron == "* * * * *"
    body = add(rig, cron="*/30 * * * *", replace=True).body
    assert (body["cron"], body["fired"], body["last_run"]) == ("*/30 * * * *", 1, MINUTE)
    assert body["next_run"] == MINUTE + 13 * 60  # 14:00
    assert body["created"] > 1_000_000.0
    until(rig, MINUTE + 13 * 60)
    assert row(rig).fired == 2


def test_a_run_of_its_successor_is_not_taken_for_its_own(rig: Rig):
    """Also when the clock was set back between, and both have a run of the same moment."""
    add(rig)
    until(rig, MINUTE)
    rig.clock.jump(-30.0)
    rig.post(ClockSet())
    add(rig, replace=True, task=new(priority=9))
    rig.clock.jump(30.0)
    rig.post(ClockSet())
    rig.run()
    assert run_times(rig) == [MINUTE, MINUTE]
    assert rig.task(2).priority == 9


def test_what_can_not_be_is_refused(rig: Rig):
    answer = add(rig, cron="61 * * * *")
    assert answer.code == "invalid_value"
    (refused,) = answer.bodies
    assert isinstance(refused, Refused)
    assert refused.path == "cron"
    assert add(rig, zone="Mars/Olympus").code == "invalid_value"
    assert tell(rig, PauseSchedule, "s", True).code == "not_found"
    assert tell(rig, RemoveSchedule, "s").code == "not_found"
    assert events(rig) == []


def test_while_it_is_paused_nothing_runs_and_nothing_is_made_up_for(rig: Rig):
    add(rig, misfire="all")
    body = tell(rig, PauseSchedule, "s", True).body
    assert (body["paused"], body["next_run"]) == (True, None)
    until(rig, MINUTE + 600)
    assert rig.engine._patience() is None
    body = tell(rig, PauseSchedule, "s", False).body
    assert (body["paused"], body["next_run"], body["skipped"]) == (False, MINUTE + 660, 0)
    assert tell(rig, PauseSchedule, "s", False).body == body
    until(rig, MINUTE + 660)
    assert words(rig) == ["added", "paused", "resumed", "fired"]


def test_it_may_begin_paused(rig: Rig):
    assert add(rig, paused=True).body["next_run"] is None
    until(rig, MINUTE)
    assert rig.contents().flows == {}
    assert tell(rig, PauseSchedule, "s", False).body["next_run"] == MINUTE + 60


def test_what_is_removed_runs_no_more_and_its_flows_stay(rig: Rig):
    add(rig)
    until(rig, MINUTE)
    assert tell(rig, RemoveSchedule, "s").body == {"name": "s"}
    until(rig, MINUTE + 60)
    assert len(rig.contents().flows) == 1
    assert words(rig) == ["added", "fired", "removed"]
    assert rig.engine._patience() is None


# Clocks


@pytest.mark.parametrize(("misfire", "made_up"), [("skip", []), ("once", [9]), ("all", [7, 8, 9])])
def test_a_jump_forward_is_a_misfire(rig: Rig, misfire: str, made_up: list[int]):
    add(rig, misfire=misfire, misfire_limit=3)
    rig.clock.jump(20.0 + 600.0 + 30.0)  # 10:30 minutes after the first one: 0 … 9 are missed, 10 is late
    rig.post(ClockSet())
    rig.run()
    assert run_times(rig) == [MINUTE + 60 * minute for minute in [*made_up, 10]]
    assert row(rig).skipped == 10 - len(made_up)
    assert row(rig).next_run == MINUTE + 660
    (skipped,) = [fields for what, fields in events(rig) if what == "skipped"]
    assert skipped == {"run_at": MINUTE + 60 * (9 - len(made_up)), "reason": "missed", "count": 10 - len(made_up)}


def test_a_jump_back_fires_nothing_twice(rig: Rig):
    add(rig)
    until(rig, MINUTE)
    rig.clock.jump(-7_200.0)
    rig.post(ClockSet())
    rig.run()
    assert row(rig).next_run == MINUTE + 60, "it waits"
    for minute in range(1, 121):
        until(rig, MINUTE + 60 * minute)
    assert run_times(rig) == [MINUTE]
    until(rig, MINUTE + 7_200 + 60)
    assert run_times(rig) == [MINUTE, MINUTE + 60]


def test_resumed_after_a_jump_back_it_goes_by_the_new_time_and_runs_nothing_twice(rig: Rig):
    add(rig)
    until(rig, MINUTE)
    rig.clock.jump(-30.0)
    tell(rig, PauseSchedule, "s", True)
    assert tell(rig, PauseSchedule, "s", False).body["next_run"] == MINUTE
    until(rig, MINUTE + 30)
    assert run_times(rig) == [MINUTE]
    assert events(rig)[-1] == ("skipped", {"run_at": MINUTE, "reason": "it is flow f1 already"})
    until(rig, MINUTE + 90)
    assert run_times(rig) == [MINUTE, MINUTE + 60]


def test_durations_go_by_the_other_clock(rig: Rig):
    """Time that passes while the wall clock is set back does not bring a run nearer."""
    add(rig)
    rig.clock.jump(-10.0)
    until(rig, MINUTE)
    assert run_times(rig) == []
    assert rig.engine._patience() == 10.0


# Crashes, full queues, the end


def test_a_run_is_there_once_whenever_the_daemon_dies(rig: Rig):
    add(rig)
    rig.clock.now = MINUTE
    rig.crash()  # due, and not decided yet
    rig.run()
    rig.crash()  # decided
    rig.run()
    assert run_times(rig) == [MINUTE]
    assert len(rig.contents().flows) == 1


@pytest.mark.parametrize("verb", ["conclude", "commit"])
def test_a_turn_that_fails_leaves_neither_the_run_nor_its_trace(rig: Rig, verb: str):
    """The flow and the schedule's next run are one transaction."""
    add(rig)
    rig.clock.now = MINUTE
    rig.store.fail = (verb, RuntimeError("injected"))
    with pytest.raises(RuntimeError, match="injected"):
        rig.turn()
    assert (row(rig).next_run, row(rig).fired, rig.contents().flows) == (MINUTE, 0, {})
    rig.crash()
    rig.run()
    assert run_times(rig) == [MINUTE]
    assert len(rig.contents().flows) == 1


def test_a_turn_that_failed_is_done_again(rig: Rig):
    """What was remembered of it is forgotten: the next run, and which flow's end is awaited."""
    busy(rig, "queue")
    rig.clock.now = MINUTE + 60
    rig.store.fail = ("commit", RuntimeError("injected"))
    rig.post(Ping(Answer()))
    rig.run()
    assert words(rig) == ["added", "fired", "queued"]
    rig.store.fail = ("commit", RuntimeError("injected"))
    rig.end(1)
    assert run_times(rig) == [MINUTE, MINUTE + 60]


def test_what_was_missed_while_the_daemon_was_down(rig: Rig):
    add(rig, misfire="all", misfire_limit=2)
    rig.stop()
    rig.clock.now = MINUTE + 600 + 1
    rig.open()
    rig.run()
    assert run_times(rig) == [MINUTE + 480, MINUTE + 540, MINUTE + 600], "the last two, and one that is in time"


def test_while_it_drains_nothing_runs_and_nothing_is_lost(rig: Rig):
    add(rig)
    rig.post(Drain())
    rig.run()
    until(rig, MINUTE)
    assert rig.would_sleep()
    tell(rig, Ping)  # what makes another turn does not start it either
    assert (row(rig).next_run, rig.contents().flows) == (MINUTE, {})
    rig.stop()
    rig.run()
    assert run_times(rig) == [MINUTE]


def test_a_full_queue_skips_the_run_and_says_so():
    rig = Rig(rules=Rules(max_queued_bytes=10))
    add(rig, task=new(body=b"x" * 11))
    until(rig, MINUTE)
    ((what, fields),) = events(rig)[1:]
    assert (what, fields["run_at"]) == ("skipped", MINUTE)
    assert fields["reason"].startswith("queue_full: ")
    assert (row(rig).skipped, row(rig).fired, row(rig).next_run) == (1, 0, MINUTE + 60)
    rig.engine._rules = Rules()
    until(rig, MINUTE + 60)
    assert run_times(rig) == [MINUTE + 60]
    rig.check()


def test_a_disk_that_is_nearly_full_skips_the_run(rig: Rig):
    add(rig)
    rig.engine._memory.disk_low = True
    until(rig, MINUTE)
    assert events(rig)[-1][1]["reason"].startswith("disk_full: ")
    assert row(rig).skipped == 1


def test_a_disk_that_is_full_keeps_the_run_for_later(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gemflowd.engine.engine._FULL_PAUSE", 0.0)
    add(rig)
    rig.clock.now = MINUTE
    rig.store.fail = ("commit", StoreFull("full"))
    rig.turn()
    assert row(rig).next_run == MINUTE
    rig.run()
    assert run_times(rig) == [MINUTE]


def test_a_schedule_that_can_not_be_told_is_paused_and_the_others_go_on(rig: Rig, caplog: pytest.LogCaptureFixture):
    add(rig, "bad")
    add(rig, "good")
    rig.store.inner._db.execute("UPDATE schedule SET zone = 'Mars/Olympus' WHERE name = 'bad'")
    until(rig, MINUTE)
    assert (row(rig, "bad").paused, row(rig, "good").fired) == (True, 1)
    assert "bad is paused" in caplog.text
    assert rig.engine._patience() == 60.0
    assert tell(rig, PauseSchedule, "bad", False).code == "invalid_value"


# Many


def test_many_at_once_are_run_by_turns(rig: Rig):
    for number in range(MOST_RUNS + 30):
        add(rig, f"s{number:03}")
    rig.clock.now = MINUTE
    turns = rig.run()
    assert len(rig.contents().flows) == MOST_RUNS + 30
    assert len(turns) > 1
    assert all(row(rig, f"s{number:03}").fired == 1 for number in range(MOST_RUNS + 30))


def test_very_many_missed_runs_are_made_up_for_by_turns(rig: Rig):
    for name in "abc":
        add(rig, name, cron="* * * * * *", misfire="all", misfire_limit=100)
    rig.clock.now = MINUTE + 400 * 86_400
    turns = rig.run()
    assert len(turns) > 3
    times = [fields["run_at"] for what, fields in events(rig) if what == "fired"]
    assert len(times) == 3 * 161
    for name in "abc":
        assert (row(rig, name).fired, row(rig, name).next_run) == (161, rig.clock.now + 1)


# Overlap


def busy(rig: Rig, policy: str, **how: Any) -> None:
    """A schedule whose first run, task 1, goes on."""
    rig.slots(4)
    add(rig, overlap=policy, **how)
    until(rig, MINUTE)
    assert rig.running() == [1]


def test_overlap_allow(rig: Rig):
    busy(rig, "allow")
    until(rig, MINUTE + 60)
    assert rig.running() == [1, 2]


def test_overlap_skip(rig: Rig):
    busy(rig, "skip")
    until(rig, MINUTE + 60)
    assert rig.running() == [1]
    assert events(rig)[-1] == ("skipped", {"run_at": MINUTE + 60, "reason": "flow f1 has not ended"})
    rig.end(1)
    until(rig, MINUTE + 120)
    assert rig.running() == [2]
    assert (row(rig).fired, row(rig).skipped) == (2, 1)


def test_overlap_cancel(rig: Rig):
    busy(rig, "cancel")
    until(rig, MINUTE + 60)
    assert rig.executor.asked == {(1, 1)}
    assert rig.running() == [1, 2], "it is asked to stop; the next one does not wait for that"
    rig.end(1, Outcome.CANCELLED)
    assert rig.state(1) is State.CANCELLED
    rig.end(2)
    until(rig, MINUTE + 120)
    assert rig.contents().flows[1].cancelled
    assert not rig.contents().flows[2].cancelled


def test_overlap_queue(rig: Rig):
    busy(rig, "queue")
    until(rig, MINUTE + 60)
    until(rig, MINUTE + 120)
    assert rig.running() == [1]
    assert words(rig) == ["added", "fired", "queued", "skipped"]
    assert row(rig).waiting == MINUTE + 60
    rig.end(1)
    assert rig.running() == [2], "at once, when the first has ended"
    it = row(rig)
    assert (it.waiting, it.last_run, it.last_flow, it.fired, it.skipped) == (None, MINUTE + 60, 2, 2, 1)
    assert rig.engine._memory.awaited == {}


@pytest.mark.parametrize("outcome", [Outcome.PERMANENT, Outcome.CANCELLED])
def test_an_end_is_an_end_however_it_came(rig: Rig, outcome: Outcome):
    busy(rig, "queue")
    until(rig, MINUTE + 60)
    rig.end(1, outcome, payload=msgpack.packb({"class": "X"}))
    assert rig.running() == [2]


def test_what_waits_survives_a_crash(rig: Rig):
    busy(rig, "queue")
    until(rig, MINUTE + 60)
    rig.crash()
    rig.run()
    assert run_times(rig) == [MINUTE], "its predecessor is ready again"
    rig.slots()
    rig.end(1)
    assert run_times(rig) == [MINUTE, MINUTE + 60]


def test_what_waited_for_an_end_that_came_while_the_daemon_drained(rig: Rig):
    busy(rig, "queue")
    until(rig, MINUTE + 60)
    rig.post(Drain())
    rig.end(1)
    assert rig.would_sleep()
    assert run_times(rig) == [MINUTE]
    rig.stop()
    rig.run()
    assert run_times(rig) == [MINUTE, MINUTE + 60]


def test_a_flow_that_is_retried_is_waited_for_again(rig: Rig):
    """What ended and goes on again before the waiting run was looked at: that run waits on."""
    busy(rig, "queue")
    until(rig, MINUTE + 60)
    rig.end(1, Outcome.PERMANENT, payload=msgpack.packb({"class": "X"}))
    assert rig.running() == [2]
    rig.retry("f1")
    until(rig, MINUTE + 120)
    assert row(rig).waiting == MINUTE + 120, "the predecessor is the last run"
    rig.end(2)
    assert run_times(rig) == [MINUTE, MINUTE + 60, MINUTE + 120]


@pytest.mark.parametrize("what", ["paused", "removed", "replaced"])
def test_what_waits_goes_with_its_schedule(rig: Rig, what: str):
    busy(rig, "queue")
    until(rig, MINUTE + 60)
    if what == "paused":
        tell(rig, PauseSchedule, "s", True)
    elif what == "removed":
        tell(rig, RemoveSchedule, "s")
    else:
        add(rig, cron="0 0 * * *", overlap="queue", replace=True)
    assert ("skipped", {"run_at": MINUTE + 60, "reason": what}) in events(rig)
    rig.end(1)
    assert rig.running() == []
    assert rig.engine._memory.awaited == {}


def test_ends_of_other_flows_touch_no_schedule(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    busy(rig, "queue")
    until(rig, MINUTE + 60)
    monkeypatch.setattr(schedules, "_end_wait", lambda *_: pytest.fail("looked at"))
    rig.submit(many(2))
    rig.end(2)
    rig.end(3)
