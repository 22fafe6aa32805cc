"""The shared memory in the engine: versions, compare and set, lives by the steady clock, caps, and what a failure leaves of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.rig import OnDisk, Rig
from helpers.tasks import Answer, many

from gemflowd.engine import engine as engine_module
from gemflowd.engine.values import ROW_COST
from gemflowd.model.attempt import Outcome
from gemflowd.model.errors import StoreFull
from gemflowd.model.facts import ClockSet, DeleteValue, SetValue, Speaker
from gemflowd.model.rules import Rules


@pytest.fixture(params=["memory", "sqlite"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "_FULL_PAUSE", 0.0)
    rig = Rig(OnDisk(tmp_path / "gemflow.db") if request.param == "sqlite" else None)
    yield rig
    check(rig)
    rig.store.close()


def check(rig: Rig) -> None:
    """The total is what is there, in the engine's memory and in the store."""
    run = rig.store.inner._db.execute
    rows = run("SELECT namespace, key, length(value) FROM value")
    total = sum(ROW_COST + len(namespace.encode()) + len(key.encode()) + size for namespace, key, size in rows)
    assert rig.engine._memory.value_bytes == total
    assert (run("SELECT value FROM meta WHERE key = 'value_bytes'").get or 0) == total
    highest = run("SELECT max(version) FROM value").get or 0
    assert rig.engine._memory.value_version >= highest
    rig.check()


def post_set(rig: Rig, key: str, value: bytes = b"\x01", namespace: str = "default", **how: Any) -> Answer:
    answer = Answer()
    rig.post(SetValue(answer, namespace, key, value, **how))
    return answer


def put(rig: Rig, key: str, value: bytes = b"\x01", **how: Any) -> Answer:
    answer = post_set(rig, key, value, **how)
    rig.run()
    return answer


def delete(rig: Rig, key: str, **how: Any) -> Answer:
    answer = Answer()
    rig.post(DeleteValue(answer, how.pop("namespace", "default"), key, **how))
    rig.run()
    return answer


def keys(rig: Rig) -> dict[str, tuple[int, bytes]]:
    return {key: (v, value) for key, v, value in rig.store.inner._db.execute("SELECT key, version, value FROM value")}


def writer(rig: Rig, key: str) -> tuple[Any, ...]:
    return rig.store.inner._db.execute("SELECT task, attempt, client FROM value WHERE key = ?", (key,)).get


def events(rig: Rig) -> list[dict[str, Any]]:
    return [fields for batch in rig.contents().events for topic, fields in batch.events if topic == "memory"]


def test_a_value_is_stored_with_a_version_and_told(rig: Rig) -> None:
    assert put(rig, "a").body == {"namespace": "default", "key": "a", "version": 1}
    assert put(rig, "a", b"\x02").body["version"] == 2
    assert keys(rig) == {"a": (2, b"\x02")}
    assert delete(rig, "a").body == {"deleted": True}
    assert delete(rig, "a").body == {"deleted": False}
    shared = {"namespace": "default", "key": "a"}
    assert events(rig) == [
        {**shared, "version": 1, "deleted": False},
        {**shared, "version": 2, "deleted": False},
        {**shared, "version": None, "deleted": True},
    ]
    assert writer(rig, "a") is None


def test_versions_grow_over_a_delete_and_a_restart(rig: Rig) -> None:
    put(rig, "a")
    put(rig, "a")
    delete(rig, "a")
    rig.crash()
    assert put(rig, "a").body["version"] == 3
    rig.stop()
    assert put(rig, "b").body["version"] == 4


def test_namespaces_are_apart(rig: Rig) -> None:
    put(rig, "a")
    assert put(rig, "a", namespace="other", version=0).code is None
    assert delete(rig, "a", namespace="third").body == {"deleted": False}


def test_compare_and_set(rig: Rig) -> None:
    assert put(rig, "a", version=1).code == "version_mismatch", "it does not exist"
    first = put(rig, "a", version=0).body["version"]
    assert put(rig, "a", version=0).code == "version_mismatch"
    second = put(rig, "a", b"\x02", version=first).body["version"]
    assert put(rig, "a", b"\x03", version=first).code == "version_mismatch"
    assert keys(rig) == {"a": (second, b"\x02")}
    assert delete(rig, "a", version=first).code == "version_mismatch"
    assert delete(rig, "a", version=second).body == {"deleted": True}
    assert delete(rig, "a", version=second).code == "version_mismatch"
    assert delete(rig, "a", version=0).body == {"deleted": False}
    assert len(events(rig)) == 3, "a refusal tells nothing"


def test_of_those_who_compare_in_one_turn_one_wins(rig: Rig) -> None:
    version = put(rig, "a").body["version"]
    answers = [post_set(rig, "a", b"%d" % n, version=version) for n in range(10)]
    rig.turn()
    assert [answer.code for answer in answers] == [None, *["version_mismatch"] * 9]


def test_what_has_expired_is_gone_at_once(rig: Rig) -> None:
    version = put(rig, "a", ttl=10.0).body["version"]
    rig.clock.now += 9.0
    assert put(rig, "a", ttl=10.0, version=0).code == "version_mismatch"
    rig.clock.now += 1.0
    stale = post_set(rig, "a", version=version)
    removed = Answer()
    rig.post(DeleteValue(removed, "default", "a"))
    fresh = post_set(rig, "a", b"\x02", version=0)
    rig.turn()
    assert (stale.code, removed.body, fresh.code) == ("version_mismatch", {"deleted": False}, None)
    assert set(keys(rig)) == {"a"}


def test_the_clock_removes_what_has_expired_and_tells(rig: Rig) -> None:
    put(rig, "a", ttl=10.0)
    put(rig, "b")
    assert rig.engine._patience() == 10.0
    rig.clock.now += 10.0
    rig.run()
    assert set(keys(rig)) == {"b"}
    assert events(rig)[-1] == {"namespace": "default", "key": "a", "version": None, "deleted": True}
    assert rig.engine._patience() is None


def test_a_new_value_has_a_life_of_its_own(rig: Rig) -> None:
    put(rig, "a", ttl=10.0)
    put(rig, "a")
    rig.clock.now += 10.0
    rig.run()
    assert set(keys(rig)) == {"a"}
    assert rig.engine._patience() is None


def test_setting_the_wall_clock_changes_no_life(rig: Rig) -> None:
    put(rig, "a", ttl=10.0)
    rig.clock.jump(1_000_000.0)
    assert put(rig, "b").code is None
    put(rig, "c", ttl=10.0)
    assert set(keys(rig)) == {"a", "b", "c"}
    rig.clock.jump(-2_000_000.0)
    put(rig, "d", ttl=9.0)
    rig.clock.now += 10.0
    rig.run()
    assert set(keys(rig)) == {"b"}


def test_a_life_goes_on_while_the_daemon_is_down(rig: Rig) -> None:
    put(rig, "a", ttl=10.0)
    put(rig, "b", ttl=30.0)
    rig.clock.now += 12.0
    rig.crash()
    rig.run()
    assert set(keys(rig)) == {"b"}
    rig.clock.jump(-1_000.0)
    rig.crash()
    rig.run()
    rig.clock.now += 17.9
    rig.run()
    assert set(keys(rig)) == {"b"}, "a clock that was set back while it was down can only make a life longer"
    rig.clock.now += 12.1
    rig.run()
    assert not keys(rig)


def test_many_that_expire_together_go_in_steps(rig: Rig) -> None:
    for number in range(450):
        post_set(rig, f"{number}", ttl=10.0)
    rig.run()
    rig.clock.now += 10.0
    left = []
    while not rig.would_sleep():
        rig.turn()
        left.append(len(keys(rig)))
        check(rig)
    assert left == [250, 50, 0]


def test_large_ones_that_expire_together_go_in_smaller_steps(rig: Rig) -> None:
    for number in range(20):
        put(rig, f"{number}", b"\xc6" + b"x" * 1_000_000, ttl=10.0)
    rig.clock.now += 10.0
    rig.turn()
    assert 5 <= len(keys(rig)) <= 15
    rig.run()
    assert not keys(rig)


def test_a_turn_takes_only_so_many_large_ones(rig: Rig) -> None:
    for number in range(40):
        post_set(rig, f"{number}", b"x" * 1_000_000)
    rig.turn()
    assert 5 <= len(keys(rig)) <= 30
    rig.run()
    assert len(keys(rig)) == 40


def limited(rig: Rig, value: int, total: int) -> None:
    rig.rules = Rules(max_value_bytes=value, max_memory_bytes=total)
    rig.stop()


def test_a_value_may_be_only_so_large(rig: Rig) -> None:
    limited(rig, 100, 10_000)
    assert put(rig, "a", b"x" * 100).code is None
    assert put(rig, "a", b"x" * 101).code == "too_large"
    assert keys(rig)["a"][1] == b"x" * 100


def test_all_together_may_be_only_so_large(rig: Rig) -> None:
    each = 100 + ROW_COST + len("default") + 1
    limited(rig, 1_000, 3 * each)
    assert [put(rig, key, b"x" * 100).code for key in "abcd"] == [None, None, None, "too_large"]
    assert put(rig, "a", b"x" * 101).code == "too_large"
    assert put(rig, "a", b"x" * 100).code is None, "no larger than it was"
    rig.crash()
    assert put(rig, "d", b"").code == "too_large", "the total survives"
    assert put(rig, "a", b"x").code is None
    assert put(rig, "b", b"x" * 199).code is None, "what one gives up another one may have"
    assert put(rig, "b", b"x" * 200).code == "too_large"
    delete(rig, "c")
    assert put(rig, "d", b"x" * 100).code is None


def test_less_is_always_accepted(rig: Rig) -> None:
    put(rig, "a", b"x" * 1_000)
    limited(rig, 2_000, 100)
    assert put(rig, "a", b"x" * 999).code is None
    assert put(rig, "a", b"x" * 1_000).code == "too_large"


def test_what_has_expired_makes_room_at_once(rig: Rig) -> None:
    limited(rig, 1_000, 3_000)
    for key in "ab":
        put(rig, key, b"x" * 1_000, ttl=10.0)
    rig.clock.now += 10.0
    answers = [post_set(rig, key, b"x" * 1_000) for key in "bc"]
    rig.turn()
    assert [answer.code for answer in answers] == [None, None]
    rig.run()
    assert set(keys(rig)) == {"b", "c"}


@pytest.mark.parametrize("verb", ["write", "conclude", "commit"])
def test_a_turn_that_fails_leaves_nothing_and_is_done_again(rig: Rig, verb: str) -> None:
    put(rig, "a")
    rig.store.fail = (verb, RuntimeError("once"))
    answers = [post_set(rig, "a", b"\x02" * 50), post_set(rig, "b", b"\x03" * 70)]
    rig.run()
    assert [answer.body["version"] for answer in answers] == [2, 3], "no version is lost or given twice"
    check(rig)
    rig.crash()
    check(rig)


def test_what_was_not_committed_is_gone_with_its_bytes(rig: Rig) -> None:
    put(rig, "a")
    rig.store.begin()
    rig.store.values.delete("default", "a")
    rig.crash()
    assert set(keys(rig)) == {"a"}
    check(rig)


def test_a_full_disk_refuses_what_adds_and_keeps_the_rest(rig: Rig) -> None:
    put(rig, "a")
    rig.store.fail = ("commit", StoreFull("full"))
    added, removed = post_set(rig, "b"), Answer()
    rig.post(DeleteValue(removed, "default", "a"))
    rig.run()
    assert (added.code, removed.body) == ("disk_full", {"deleted": True})
    assert not keys(rig)


def test_a_task_writes_with_its_live_attempt(rig: Rig) -> None:
    rig.slots()
    rig.submit(many(1, retries=3, backoff=0.0))
    first = Speaker(1, rig.attempt(1).token)
    put(rig, "a", speaker=first)
    assert writer(rig, "a") == (1, 1, None)
    rig.end(1, Outcome.ERROR)
    second = Speaker(1, rig.attempt(1).token)
    assert put(rig, "b", speaker=first).code == "stale_attempt"
    assert delete(rig, "a", speaker=first).code == "stale_attempt"
    put(rig, "a", speaker=second)
    assert writer(rig, "a") == (1, 2, None)
    rig.crash()
    assert put(rig, "b", speaker=second).code == "stale_attempt"
    assert writer(rig, "a") == (1, 2, None), "what an attempt has set stays when it is lost"
    assert put(rig, "b", speaker=Speaker(99, 1)).code == "stale_attempt"


def test_an_attempt_that_ended_in_the_same_turn_is_stale(rig: Rig) -> None:
    rig.slots()
    rig.submit(many(1))
    speaker = Speaker(1, rig.attempt(1).token)
    before = post_set(rig, "a", speaker=speaker)
    rig.executor.end(rig.attempt(1))
    after = post_set(rig, "a", speaker=speaker)
    rig.run()
    assert (before.code, after.code) == (None, "stale_attempt")


@dataclass
class Kept:
    value: bytes
    version: int
    until: float | None


@pytest.mark.parametrize("seed", range(8))
def test_a_random_history_is_that_of_a_simple_model(rig: Rig, seed: int) -> None:
    """Sets, deletes, time, clocks that are set, restarts and turns that fail: what is visible is what the model says."""
    dice = random.Random(seed)
    limited(rig, 200, 2_500)
    model: dict[str, Kept] = {}
    last = 0

    def now() -> float:
        return rig.engine._clocks.steady()

    def alive(key: str) -> Kept | None:
        kept = model.get(key)
        return kept if kept is not None and (kept.until is None or kept.until > now()) else None

    for _ in range(150):
        key = dice.choice("abcdefghijklmnopqrst")
        kept = alive(key)
        version = dice.choice([None, None, 0, kept.version if kept else 3])
        fits = version is None or version == (kept.version if kept else 0)
        match dice.randrange(8):
            case 0:
                rig.clock.now += dice.choice([0.5, 3.0, 20.0])
            case 1:
                rig.clock.jump(dice.choice([-1e6, 1e6]))
                rig.post(ClockSet())
                before = now()
                rig.run()
                rig.crash()
                assert now() == pytest.approx(before)
            case 2:
                dice.choice([rig.crash, rig.stop])()
            case 3:
                answer = delete(rig, key, version=version)
                assert answer.code == (None if fits else "version_mismatch")
                if fits:
                    assert answer.body == {"deleted": kept is not None}
                    model.pop(key, None)
            case _:
                value, ttl = bytes(dice.randrange(220)), dice.choice([None, 1.0, 10.0])
                if dice.random() < 0.1:
                    rig.store.fail = (dice.choice(["write", "conclude", "commit"]), RuntimeError("once"))
                answer = put(rig, key, value, version=version, ttl=ttl)
                others = [len(model[name].value) for name in model if name != key and alive(name)]
                total = sum(others) + len(value) + 108 * (1 + len(others))
                grows = kept is None or len(value) > len(kept.value)
                if not fits:
                    assert answer.code == "version_mismatch"
                elif len(value) > 200 or (total > 2_500 and grows):
                    assert answer.code == "too_large"
                else:
                    assert answer.body["version"] == last + 1
                    last += 1
                    model[key] = Kept(value, last, None if ttl is None else now() + ttl)
        rig.store.fail = None
        check(rig)
        seen = keys(rig)
        expected = {name: (model[name].version, model[name].value) for name in model if alive(name)}
        assert {name: seen[name] for name in expected} == expected
