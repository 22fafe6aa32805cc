"""What is old goes, in small steps and when its time has come; room is looked after. The engine sleeps in between."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.rig import Flaky, OnDisk, Rig
from helpers.tasks import Answer, dep, many, new, submission

from gemflowd.core.turn import CursorKind
from gemflowd.engine import upkeep
from gemflowd.engine.clocks import Clocks
from gemflowd.engine.engine import Engine
from gemflowd.engine.upkeep import ROUND_EVERY
from gemflowd.model.attempt import Outcome
from gemflowd.model.errors import Refused, StoreError, StoreFull
from gemflowd.model.facts import Configure, TaskNumber, UniqueKey
from gemflowd.model.refs import FlowRef, NamedTask, TaskRange
from gemflowd.model.rules import Rules
from gemflowd.model.states import State
from gemflowd.store.parts import upkeep as stored
from gemflowd.store.reader import Questions
from gemflowd.store.sqlite import SqliteStore

DAY = 86_400.0
KEEP = Rules(keep_flows=7 * DAY, keep_events=0.0)


def rig_of(rules: Rules = KEEP, backing: OnDisk | None = None, **engine: Any) -> Rig:
    rig = Rig(backing, rules, forgets=True, **engine)
    rig.slots()
    return rig


@pytest.fixture
def on_disk(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path / "gemflow.db")


def done(rig: Rig, uuid: str, count: int = 1) -> int:
    """A flow of that many tasks that have succeeded; its number."""
    flow = rig.submit(many(count), uuid).body["flow"]
    while rig.running():
        rig.end(rig.running()[0], payload=b"\xc0")
    return flow


def test_a_flow_goes_when_it_is_old_enough_and_not_before() -> None:
    rig = rig_of()
    flow = done(rig, "old", 3)
    assert rig.engine._patience() == pytest.approx(7 * DAY)  # sleeps until then, and no shorter
    rig.clock.now += 7 * DAY - 1
    rig.run()
    assert flow in rig.check().flows
    rig.clock.now += 1
    rig.run()
    found = rig.check()
    assert found.flows == {}
    assert found.tasks == {}
    assert found.results == {}
    assert rig.engine._patience() is None
    assert [e.topic for effects in rig.effects if effects.events for e in effects.events.events][-1] == "flow.deleted"


def test_for_ever() -> None:
    rig = rig_of(Rules(keep_flows=0.0, keep_events=0.0))
    done(rig, "old")
    rig.clock.now += 1_000 * DAY
    rig.run()
    assert rig.engine._patience() is None
    assert len(rig.check().flows) == 1


def test_setting_the_clock_deletes_nothing() -> None:
    rig = rig_of()
    done(rig, "old")
    rig.clock.now += 6 * DAY
    young = done(rig, "young")
    rig.clock.jump(1_000 * DAY)
    rig.run()
    assert len(rig.check().flows) == 2
    rig.clock.now += 1 * DAY  # a round is due, for the old one
    rig.run()
    assert set(rig.check().flows) == {young}


def test_a_flow_that_was_retried_counts_from_its_last_end() -> None:
    rig = rig_of()
    flow = rig.submit(many(1, retries=0)).body["flow"]
    rig.end(1, Outcome.ERROR)
    rig.clock.now += 6 * DAY
    rig.retry(f"f{flow}")
    rig.clock.now += 6 * DAY
    rig.run()
    rig.end(1)
    rig.clock.now += 6 * DAY
    rig.run()
    assert flow in rig.check().flows
    rig.clock.now += 1 * DAY
    rig.run()
    assert flow not in rig.check().flows


def test_what_somebody_waits_for_stays() -> None:
    rig = rig_of()
    rig.submit([new("ended"), new("late", due=rig.clock.now + 20 * DAY)], "parent")
    rig.end(1)
    rig.cancel(2)
    rig.submit([new("child", dep(TaskNumber(1)), due=rig.clock.now + 9 * DAY)], "child")
    rig.clock.now += 8 * DAY
    rig.run()
    assert set(rig.check().flows) == {1, 2}
    assert rig.engine._patience() == ROUND_EVERY  # it looks again, and not more often
    rig.clock.now += 1 * DAY
    rig.run()
    rig.end(3)
    rig.clock.now += ROUND_EVERY
    rig.run()
    assert set(rig.check().flows) == {2}


def test_many_old_flows_go_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_FLOWS", 5)
    rig = rig_of()
    for number in range(23):
        done(rig, f"s{number}")
    rig.clock.now += 8 * DAY
    hidden = []
    while not rig.would_sleep():
        effects = rig.turn()
        hidden.append(sum(event.topic == "flow.deleted" for event in effects.events.events) if effects.events else 0)
    assert sum(hidden) == 23
    assert max(hidden) == 5
    assert rig.check().flows == {}


def test_a_crash_in_the_middle_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_FLOWS", 5)
    rig = rig_of()
    for number in range(12):
        done(rig, f"s{number}", 3)
    rig.clock.now += 8 * DAY
    rig.turn()
    assert (CursorKind.DELETE, 0) in rig.contents().cursors
    rig.crash()
    rig.run()
    assert rig.check().flows == {}


def test_a_shorter_time_works_at_once() -> None:
    rig = rig_of()
    done(rig, "old")
    rig.clock.now += 2 * DAY
    rig.run()
    assert len(rig.check().flows) == 1
    rig.post(Configure(Answer(), {}, Rules(keep_flows=DAY, keep_events=0.0)))
    rig.run()
    assert rig.check().flows == {}


def test_unique_keys_whose_time_is_over_are_forgotten() -> None:
    rig = rig_of()
    rig.submit([new(key=UniqueKey("k", 100.0, "reject"))])
    rig.end(1)
    rig.clock.now += 101.0
    rig.run()
    assert rig.store.inner._db.execute("SELECT count(*) FROM unique_key").get == 0


# Events


def test_old_events_go_and_the_numbers_go_on(on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_EVENTS", 3)
    rig = rig_of(Rules(keep_flows=0.0, keep_events=DAY), on_disk)
    for number in range(10):
        done(rig, f"old{number}", 2)
    last = rig.contents().events[-1].last
    rig.clock.now += 2 * DAY
    rig.run()
    kept = rig.check().events
    assert [row.last for row in kept] == [last]  # the last stays: it says how far the numbers are
    done(rig, "new")
    assert rig.contents().events[1].first == last + 1
    rig.crash()
    assert rig.engine._memory.next_event == rig.contents().events[-1].last + 1
    rig.check()


def test_events_are_kept_as_long_as_they_shall(on_disk: OnDisk) -> None:
    rig = rig_of(Rules(keep_flows=0.0, keep_events=DAY), on_disk)
    done(rig, "a")
    rig.clock.now += DAY / 2
    first = rig.engine._memory.next_event
    done(rig, "b")
    rig.clock.now += DAY / 2 + 1
    rig.run()
    assert rig.check().events[0].first == first


@pytest.mark.parametrize("topics", [[], ["task."], ["task.succeeded", "flow."], ["flow.failed"], ["worker"]])
def test_what_was_missed_is_told_exactly(on_disk: OnDisk, topics: list[str]) -> None:
    rig = rig_of(Rules(keep_flows=0.0, keep_events=DAY), on_disk)
    flow = rig.submit(many(1, retries=0), "bad").body["flow"]
    rig.end(1, Outcome.ERROR)
    assert flow == 1
    for number in range(5):
        done(rig, f"old{number}", number + 1)
    every = [(row.first + i, topic) for row in rig.contents().events for i, (topic, _) in enumerate(row.events)]
    rig.clock.now += DAY / 2
    done(rig, "newer", 3)
    rig.clock.now += DAY / 2 + 1
    rig.run()
    first_kept = rig.check().events[0].first
    gone = [topic for number, topic in every if number < first_kept]
    assert gone
    wanted = Counter(topic for topic in gone if not topics or topic.startswith(tuple(topics)))
    questions = Questions(on_disk._path)
    for start in (1, 4, first_kept - 1):
        answer = questions.timed(lambda q, start=start: q.events(start, topics, 1000))
        assert answer["first_kept"] == first_kept
        assert answer["missed"] == {"first": start, "last": first_kept - 1, "topics": dict(wanted)}
        # what a client that has arrived at an ordinal has missed of a topic: nothing is counted twice or not at all
        got = Counter(event["topic"] for event in answer["events"])
        after = rig.contents().events[-1].ordinals
        for topic in after:
            if not topics or topic.startswith(tuple(topics)):
                assert wanted[topic] + got[topic] == after[topic]
    assert "missed" not in questions.timed(lambda q: q.events(first_kept, topics, 1000))
    questions.close()


def test_a_rare_topic_is_looked_for_in_bounded_steps(on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemflowd.store.told._MOST_EVENTS", 20)
    rig = rig_of(Rules(keep_flows=0.0, keep_events=0.0), on_disk)
    for number in range(20):
        done(rig, f"s{number}", 2)
    rig.submit(many(1, retries=0), "bad")
    rig.end(rig.running()[0], Outcome.ERROR)
    end = rig.engine._memory.next_event
    questions = Questions(on_disk._path)
    start, found, pages = 1, [], 0
    while start < end:
        page = questions.timed(lambda q, start=start: q.events(start, ["flow.failed"], 1000))
        assert start < page["next"] <= start + 20 + 20
        start, found, pages = page["next"], found + page["events"], pages + 1
    questions.close()
    assert [event["topic"] for event in found] == ["flow.failed"]
    assert pages > 3
    assert start == end


# Hidden


def test_what_is_being_deleted_is_there_for_nobody(on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemflowd.engine.cursors._REMOVED", 1)
    monkeypatch.setattr("gemflowd.engine.cursors.STEP", 1)
    monkeypatch.setattr("gemflowd.engine.engine.TURN_ROWS", 1)
    rig = rig_of(KEEP, on_disk)
    done(rig, "old", 5)
    rig.clock.now += 6 * DAY
    kept = done(rig, "kept", 2)
    rig.clock.now += 1 * DAY + 1
    rig.turn()
    assert len(rig.contents().tasks) > 2, "nothing is left to be hidden"
    questions = Questions(on_disk._path)

    def ask(question: Any) -> Any:
        return questions.timed(question)

    assert ask(lambda q: q.totals())["flows"] == {"succeeded": 1}
    assert ask(lambda q: q.totals())["tasks"]["succeeded"] == 2
    assert [task["flow"] for task in ask(lambda q: q.page("", (), 0, 100))["tasks"]] == [kept, kept]
    assert ask(lambda q: q.queues())["queues"][0]["tasks"] == {"succeeded": 2}
    assert ask(lambda q: q.results_in_order([TaskRange(1, 7)], 0, 1))["next"] == 6, "hidden ones leave no gap"
    rig.store.inner._db.execute("UPDATE task SET state = 5 WHERE number = 7")
    page = ask(lambda q: q.results_in_order([TaskRange(1, 7)], 0, 2))
    assert [line["number"] for line in page["results"]] == [6]
    assert not page["done"]
    rig.store.inner._db.execute("UPDATE task SET state = 6 WHERE number = 7")
    hidden = [FlowRef(1), NamedTask(1, "x"), TaskRange(5, 5)]
    for ref in hidden:
        for question in ("items", "states"):
            with pytest.raises(Refused, match="there is no"):
                ask(lambda q, ref=ref, question=question: getattr(q, question)([ref]))
        with pytest.raises(Refused, match="there is no"):
            ask(lambda q, ref=ref: q.show(ref))
        with pytest.raises(Refused, match="there is no"):
            ask(lambda q, ref=ref: q.results([ref], 0, 10))
    assert ask(lambda q: q.states([TaskRange(1, 99)])) == {State.SUCCEEDED: 2}
    assert len(ask(lambda q: q.results([TaskRange(1, 99)], 0, 99))["results"]) == 2
    with pytest.raises(Refused, match="no such submission"):
        ask(lambda q: q.submission("old"))
    assert ask(lambda q: q.submission("kept"))["flow"] == kept
    questions.close()


# The log


def test_a_long_log_is_carried_over_by_the_engine(on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "LOG_FRAMES", 50)
    on_disk.crash()
    rig = rig_of(KEEP, on_disk)
    sizes = []
    for number in range(60):
        done(rig, f"s{number}")
        sizes.append(on_disk._path.with_name("gemflow.db-wal").stat().st_size)
    assert max(sizes) < 150 * 4096
    assert on_disk._path.stat().st_size > 4096 * 10


def test_a_checkpoint_that_fails_stops_the_engine(on_disk: OnDisk) -> None:
    rig = rig_of(KEEP, on_disk)
    done(rig, "a")

    class Failing:
        def __getattr__(self, verb: str) -> Any:
            return getattr(on_disk.store.upkeep, verb)

        def checkpoint(self) -> None:
            raise StoreError("the database can't be trusted")

    rig.store.__dict__["upkeep"] = Failing()
    with pytest.raises(StoreError, match="trusted"):
        rig.engine.turn([])


def test_room_is_given_back_when_nothing_happens(on_disk: OnDisk) -> None:
    rig = rig_of(KEEP, on_disk)
    flows = [rig.submit(many(500, body=b"x" * 4000), f"s{number}").body["flow"] for number in range(4)]
    rig.cancel(*[f"f{flow}" for flow in flows])
    while rig.running():
        rig.end(rig.running()[0])
    rig.clock.now += 8 * DAY
    rig.run()
    db = on_disk.store._db
    pages, free = db.execute("PRAGMA page_count").get, db.execute("PRAGMA freelist_count").get
    assert free > pages // 2
    steps = 0
    while rig.engine._upkeep.tidy(rig.store):
        steps += 1
        assert steps < 10_000
    assert steps
    assert db.execute("PRAGMA freelist_count").get <= 256
    assert db.execute("PRAGMA page_count").get < pages // 2
    assert not rig.engine._upkeep.tidy(rig.store)
    rig.check()


# Room


class Disk:
    """What the engine is told of it."""

    def __init__(self) -> None:
        self.free = 1 << 40
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.free


def test_submissions_are_refused_while_the_disk_is_nearly_full() -> None:
    disk = Disk()
    rig = rig_of(Rules(min_free_bytes=1000), free_bytes=disk)
    rig.submit(many(2), "a")
    rig.clock.now += 2
    disk.free = 999
    refused = rig.submit(many(1), "b")
    assert refused.code == "disk_full"
    assert rig.submit(many(2), "a").body["repeated"]  # what is stored is acknowledged again
    rig.end(1)
    assert rig.state(1) is State.SUCCEEDED
    assert rig.running() == [2]  # running work goes on
    disk.free = 1000
    assert rig.submit(many(1), "b").code == "disk_full"  # it looks once a second at most
    rig.clock.now += 1
    assert rig.submit(many(1), "b").code is None
    looks = disk.looks
    for number in range(10):
        rig.submit(many(1), f"c{number}")
    assert disk.looks == looks
    rig.check()


def test_only_submissions_look_at_the_disk() -> None:
    disk = Disk()
    rig = rig_of(Rules(min_free_bytes=1000), free_bytes=disk)
    done(rig, "a", 3)
    assert disk.looks == 1


def test_the_queue_takes_so_many_bytes() -> None:
    rig = rig_of(Rules(max_queued_bytes=100))
    rig.submit(many(1, body=b"x" * 60), "a")
    refused = rig.submit(many(1, body=b"x" * 60), "b")
    assert refused.code == "queue_full"
    rig.end(1)
    assert rig.submit(many(1, body=b"x" * 60), "b").code is None


def test_a_full_disk_takes_outcomes_into_the_ballast(tmp_path: Path) -> None:
    on_disk = OnDisk(tmp_path / "gemflow.db")
    on_disk.store.close()
    on_disk.store = SqliteStore(on_disk._path, ballast=1 << 20)
    ballast = tmp_path / "ballast"
    disk = Disk()
    rig = rig_of(Rules(min_free_bytes=0), on_disk, free_bytes=disk)
    rig.submit(many(1), "a")
    assert ballast.stat().st_size == 1 << 20
    assert ballast.stat().st_blocks * 512 >= 1 << 20
    refused = Answer()
    rig.store.fail = ("commit", StoreFull("the disk is full"))
    rig.executor.end(rig.attempt(1))
    rig.post(submission(refused, "b", many(1)))
    rig.run()
    assert refused.code == "disk_full"
    assert not ballast.exists()
    assert rig.state(1) is State.SUCCEEDED  # at once: no second was waited for
    disk.free = 1000
    rig.clock.now += 2
    assert rig.submit(many(1), "b").code == "disk_full"  # no room for the ballast yet
    disk.free = 1 << 21
    rig.clock.now += 2
    assert rig.submit(many(1), "b").code is None
    assert ballast.exists()
    rig.check()
    rig.store.close()


@pytest.mark.parametrize(("verb", "state"), [("note_start", State.RUNNING), ("commit", State.RUNNING)])
def test_a_start_on_a_full_disk_uses_the_ballast(tmp_path: Path, verb: str, state: State) -> None:
    on_disk = OnDisk(tmp_path / "gemflow.db")
    rig = rig_of(KEEP, on_disk)
    rig.submit(many(2), "a")
    assert rig.state(1) is state
    on_disk.crash()
    on_disk.store.close()
    on_disk.store = SqliteStore(on_disk._path, ballast=1 << 20)
    on_disk.store.upkeep.keep_ballast()
    flaky = Flaky(on_disk.store)
    flaky.fail = (verb, StoreFull("the disk is full"))
    engine = Engine(lambda: flaky, KEEP, Clocks(rig.clock.wall, rig.clock.monotonic), lambda _: None)
    engine.open()
    assert not (tmp_path / "ballast").exists()
    assert engine.opened.done()
    (task,) = on_disk.store.tasks([1])
    assert task.state is State.READY
    assert task.losses == 1
    on_disk.store.close()


def test_a_start_without_any_room_says_so(on_disk: OnDisk) -> None:
    flaky = Flaky(on_disk.store)
    flaky.fail = ("note_start", StoreFull("the disk is full"))
    ended: list[Any] = []
    Engine(lambda: flaky, KEEP, Clocks(lambda: 1.0, lambda: 1.0), ended.append).run()
    assert "disk is full" in str(ended[-1].failure)
