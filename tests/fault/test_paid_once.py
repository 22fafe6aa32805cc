"""Hundreds of questions to a model that fails now and then, while the daemon is killed twice: every task has one result, and no
question is paid for twice but for those that were in flight at a kill.

`GEMFLOW_QUESTIONS=FILE` asks those of a file instead, JSON lines with `question`: `make paid-once DATA=FILE`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import apsw
import msgpack
from helpers.daemon import Daemon
from helpers.standin import digest, stand_in

from gemflowd.model.states import State

QUESTIONS = os.environ.get("GEMFLOW_QUESTIONS")
KILLS = 2
FAULTS = ("--rate-503", "0.02", "--rate-disconnect", "0.01", "--rate-malformed", "0.01", "--latency", "0.05")


def questions() -> list[str]:
    """One for each task. Of those that are made up every third is asked twice."""
    if QUESTIONS:
        return [json.loads(line)["question"] for line in Path(QUESTIONS).read_text("utf-8").splitlines()]
    made_up = [
        f"A train has {n + 2} waggons with {3 * n + 1} seats each. How many seats are there?" for n in range(200)
    ]
    return made_up + made_up[::3]


def in_flight(daemon: Daemon) -> set[str]:
    """What the daemon that was killed had running, as it is stored."""
    db = apsw.Connection(str(daemon.state / "gemflow.db"))
    try:
        sql = "SELECT value FROM body JOIN task ON task = number WHERE state = ?"
        return {digest(msgpack.unpackb(body)["data"]["prompt"]) for (body,) in db.execute(sql, (State.RUNNING,))}
    finally:
        db.close()


def test_no_question_is_paid_for_twice(tmp_path: Path) -> None:
    asked = questions()
    with stand_in(tmp_path, *FAULTS) as model:
        daemon = Daemon(env=model.env, **model.settings, workers=1, batch_size=25, retries=20, backoff=0.05)
        try:
            daemon.start()
            tasks = [
                {"id": n, "type": "gemini", "data": {"prompt": text, "config": {"temperature": 0}}}
                for n, text in enumerate(asked)
            ]
            with daemon.client() as client:
                flow = client.submit(*tasks, name="questions")["flow"]
            allowed: Counter[str] = Counter(dict.fromkeys(map(digest, asked), 1))
            for _ in range(KILLS):
                done = daemon.subscriber("task.succeeded")
                for _ in range(len(asked) // (KILLS + 2)):
                    done.next()
                daemon.kill()
                allowed.update(in_flight(daemon))
                daemon.start()
            client = daemon.client()
            client.wait(f"f{flow}", patience=600.0 if QUESTIONS else 60.0)
            lines = client.results(f"f{flow}")
            stats = client("cache_stats")
        finally:
            daemon.close()
        answered = model.answered()
        faults = Counter(line["fault"] for line in model.lines())
    assert [line["id"] for line in lines] == list(range(len(asked))), "every task has one result"
    assert [line for line in lines if not line["ok"]] == []
    assert {fault for fault in faults if fault} == {"503", "disconnect", "malformed"}, "it was no fair weather"
    assert set(answered) == set(map(digest, asked))
    twice = {question: count for question, count in answered.items() if count > 1}
    assert {question: count for question, count in twice.items() if count > allowed[question]} == {}
    assert stats["hits"] + stats["misses"] == len(asked)
    assert stats["misses"] == len(set(asked)), "what was stored was not asked for again"
    print(
        f"{len(asked)} tasks, {len(set(asked))} questions, {sum(answered.values())} answers, {len(twice)} of them twice;"
        f" {sum(allowed.values()) - len(set(asked))} in flight at {KILLS} kills; faults: {dict(faults)}"
    )
