"""Thousands of tasks while daemon, nursery and workers are killed at random: nothing is lost, nothing runs twice at a time.

The same seed kills the same kinds of processes after the same amounts of progress, over the same tasks; what the machine
does in between is its own affair. `GEMFLOW_FAULT_SEED=n` repeats a run, `GEMFLOW_FAULT_LONG=1` kills 200 times.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq
from helpers.daemon import Daemon, running, with_handlers
from helpers.raw import NoReply, Raw, Refusal, Subscriber

LONG = bool(os.environ.get("GEMFLOW_FAULT_LONG"))
SEED = int(os.environ.get("GEMFLOW_FAULT_SEED") or random.SystemRandom().randrange(10**6))
KILLS = 200 if LONG else 8
TASKS = 2_000
LAYERS = 8
FLOWS = 10
CHUNK = 70


@dataclass
class Plan:
    """A flow to be submitted: its tasks and what each waits for, as (flow, index)."""

    submission: str
    tasks: list[dict[str, Any]] = field(default_factory=list)
    needs: list[list[tuple[int, int]]] = field(default_factory=list)
    stream: bool = False
    flow: int = 0
    numbers: list[int] = field(default_factory=list)  # as they were acknowledged


def make_plans(rng: random.Random, ledger: Path, locks: Path) -> list[Plan]:
    """Flows of several layers; a task waits for up to three of earlier layers, of its own or of an earlier flow."""
    plans: list[Plan] = []
    for number in range(FLOWS):
        plan = Plan(str(uuid.UUID(int=rng.getrandbits(128), version=4)), stream=rng.random() < 0.3)
        plans.append(plan)
        size = TASKS // FLOWS
        for index in range(size):
            layer = index * LAYERS // size
            needs: set[tuple[int, int]] = set()
            if layer and rng.random() < 0.8:
                for _ in range(rng.randint(1, 3)):
                    needs.add((number, rng.randrange(layer * size // LAYERS)))
            if number and rng.random() < 0.05:
                needs.add((rng.randrange(number), rng.randrange(size)))
            kind = rng.choice(("note", "anote"))
            seconds = rng.choice((0, 0.001, 0.01)) if kind == "note" else rng.choice((0, 0.01, 0.1))
            plan.needs.append(sorted(needs))
            task = {
                "id": index,
                "type": kind,
                "priority": rng.randint(0, 10),
                "data": {"ledger": str(ledger), "locks": str(locks), "seconds": seconds},
            }
            if rng.random() < 0.1:
                task["key"] = f"{number}/{index}"
            if rng.random() < 0.1:
                task["delay"] = rng.choice((0.01, 0.3))
            if needs and rng.random() < 0.2:
                task["when"] = "deps.all(name, deps[name].ok)"
            plan.tasks.append(task)
    return plans


class Submitter(threading.Thread):
    """Sends all flows in chunks; when no reply comes, it sends the same again on a new socket."""

    def __init__(self, endpoint: str, plans: list[Plan]) -> None:
        super().__init__(name="submitter")
        self._endpoint = endpoint
        self._plans = plans
        self.failure: BaseException | None = None
        self.repeated = 0

    def run(self) -> None:
        try:
            for number, plan in enumerate(self._plans):
                for offset in range(0, len(plan.tasks), CHUNK):
                    self._send(number, plan, offset)
        except BaseException as error:
            self.failure = error

    def _send(self, number: int, plan: Plan, offset: int) -> None:
        tasks = []
        for index, task in enumerate(plan.tasks[offset : offset + CHUNK], offset):
            deps = [
                other if flow == number else {"flow": self._plans[flow].flow, "id": other}
                for flow, other in plan.needs[index]
            ]
            tasks.append({**task, "deps": deps, "template": False})
        body = {
            "submission": plan.submission,
            "tasks": tasks,
            "offset": offset,
            "complete": offset + CHUNK >= len(plan.tasks),
            "stream": plan.stream,
        }
        for _ in range(200):
            try:
                with Raw(self._endpoint) as client:
                    reply = client("submit", patience=2.0, **body)
            except NoReply:
                continue
            self.repeated += reply["repeated"]
            assert reply["received"] == offset + len(tasks)
            assert plan.flow in (0, reply["flow"])
            plan.flow = reply["flow"]
            assert len(plan.numbers) == offset
            plan.numbers += range(reply["first"], reply["first"] + len(tasks))  # a tick may lie between two chunks
            return
        raise AssertionError("no reply to a submission that was sent 200 times")


class Killer:
    """Kills by the seed, each time some progress was made since the last."""

    def __init__(self, daemon: Daemon, rng: random.Random) -> None:
        self._daemon = daemon
        self._rng = rng
        self._events = Subscriber(daemon.events, "task.succeeded")
        self.kills: list[str] = []
        self.workers: list[tuple[str, float]] = []  # name, time

    def close(self) -> None:
        self._events.close()

    def after(self, ended: int) -> bool:
        """Wait until so many tasks have ended, then kill something. False: nothing ended for a while."""
        try:
            for _ in range(ended):
                self._events.next(3.0)
        except NoReply:
            return False
        time.sleep(self._rng.uniform(0, 0.03))  # anywhere between two steps
        held = self._hold() if self._rng.random() < 0.2 else None
        victim = self._rng.choice(("daemon", "daemon", "worker", "nursery", "starting daemon"))
        self.kills.append(victim)
        match victim:
            case "daemon":
                self._daemon.kill()
                self._daemon.restart()
            case "starting daemon":
                self._daemon.kill()
                self._daemon.launch()
                time.sleep(self._rng.uniform(0, 0.8))  # anywhere in its start
                self._daemon.kill()
                self._daemon.restart()
            case "nursery":
                self._kill(self._daemon.nursery())
            case "worker":
                self._kill_worker()
        if held is not None:
            with Raw(self._daemon.endpoint) as client:
                client("release", refs=[held])
        return True

    def _hold(self) -> str | None:
        """A flow is held while something dies; it must be held afterwards."""
        with Raw(self._daemon.endpoint) as client:
            flows = client("status")["flows"]
            flow = f"f{self._rng.randint(1, FLOWS)}"
            if not sum(flows.values()):
                return None
            try:
                client("hold", refs=[flow])
            except Refusal as refusal:
                assert refusal.code in ("not_found", "conflict")
                return None
        return flow

    def _kill_worker(self) -> None:
        with Raw(self._daemon.endpoint) as client:
            workers = [worker for worker in client("workers")["workers"] if worker["pid"]]
        if workers:
            worker = self._rng.choice(workers)
            self.workers.append((worker["name"], time.time()))
            self._kill(worker["pid"])

    @staticmethod
    def _kill(pid: int | None) -> None:
        if pid is not None:
            with suppress(ProcessLookupError):  # it went by itself
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(1800 if LONG else 180)
def test_kills_at_random(tmp_path: Path) -> None:
    print(f"GEMFLOW_FAULT_SEED={SEED}")
    rng = random.Random(SEED)
    ledger, locks = tmp_path / "ledger", tmp_path / "locks"
    locks.mkdir()
    ledger.touch()
    plans = make_plans(rng, ledger, locks)
    settings = with_handlers(
        "ledger_tasks", workers=3, batch_size=10, crash_limit=100, lost_limit=1000, retries=0, grace=2.0
    )
    with running(**settings) as daemon:
        killer = Killer(daemon, rng)
        submitter = Submitter(daemon.endpoint, plans)
        tick = {"type": "echo", "queue": "ticks"}
        with Raw(daemon.endpoint) as client:
            client("schedule_add", name="tick", cron="* * * * * *", task=tick, overlap="allow", misfire="all")
        submitter.start()
        try:
            share = TASKS / KILLS
            while len(killer.kills) < KILLS and killer.after(rng.randint(1, max(1, int(share)))):
                pass
        finally:
            submitter.join()
            killer.close()
        print(f"{len(killer.kills)} kills: { {k: killer.kills.count(k) for k in set(killer.kills)} }")
        assert submitter.failure is None, submitter.failure
        assert len(killer.kills) >= KILLS * 0.75, "too little was killed: the tasks ended too soon"
        client = daemon.client()
        flows = [f"f{plan.flow}" for plan in plans]
        client.wait(*flows, patience=30)
        check_results(client, plans, flows)
        check_ledger(plans, ledger)
        check_blame(client, plans, killer)
        ticks = check_ticks(client)
        assert client("status")["tasks"]["succeeded"] == TASKS + ticks


def check_results(client: Raw, plans: list[Plan], flows: list[str]) -> None:
    """Each task that was acknowledged has succeeded, with one line of result, its own."""
    lines = client.results(*flows)
    wrong = [line for line in lines if line["state"] != "succeeded" or line["result"] != line["number"]]
    assert not wrong, wrong[:5]
    numbers = [line["number"] for line in lines]
    assert sorted(numbers) == sorted(set(numbers))
    assert set(numbers) == {number for plan in plans for number in plan.numbers}
    for plan in plans:
        (item,) = client("status", refs=[f"f{plan.flow}"])["items"]
        assert (item["state"], item["total"], item["submission"]) == ("succeeded", len(plan.tasks), plan.submission)


def check_ticks(client: Raw) -> int:
    """A schedule for every second has run once for every second, whatever died meanwhile. Returns how often."""
    client("schedule_pause", name="tick")
    tasks: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = client("list", queue="ticks", after=after, limit=1000)
        tasks += page["tasks"]
        after = page["next"]
    client.wait(*(task["number"] for task in tasks))
    runs = [client.show(f"f{task['flow']}")["metadata"]["run_at"] for task in tasks]
    assert len(runs) > 3
    assert sorted(runs) == [min(runs) + place for place in range(len(runs))]
    assert client("schedule_show", name="tick")["fired"] == len(runs)
    return len(runs)


def check_ledger(plans: list[Plan], ledger: Path) -> None:
    """What the tasks themselves wrote down: who ran when, in one order for all."""
    lines: dict[int, list[tuple[int, int, str]]] = defaultdict(list)  # task -> (place, attempt, word)
    for place, text in enumerate(ledger.read_text().splitlines()):
        number, attempt, word = text.split()
        lines[int(number)].append((place, int(attempt), word))
    assert not [number for number, its in lines.items() if any(word == "overlap" for _, _, word in its)]
    for plan in plans:
        for index, needs in enumerate(plan.needs):
            its = lines[plan.numbers[index]]
            words = [word for _, _, word in its]
            assert "end" in words
            # Attempt after attempt: starts and at most one end each, in rising order, never mixed.
            attempts = [attempt for _, attempt, _ in its]
            assert attempts == sorted(attempts), its
            for attempt in set(attempts):
                mine = [word for _, other, word in its if other == attempt]
                assert mine in (["start"], ["start", "end"]), (its, "an attempt ran twice")
            for flow, other in needs:
                last = lines[plans[flow].numbers[other]][-1]
                assert last[2] == "end"
                assert last[0] < its[0][0], f"task {plan.numbers[index]} started before its dependency had ended"


def check_blame(client: Raw, plans: list[Plan], killer: Killer) -> None:
    """Only what ran in a worker that was itself killed is suspected or charged; nothing else costs anything."""
    blamed = 0
    for plan in plans:
        again = [task["number"] for task in client("list", flow=plan.flow, limit=1000)["tasks"] if task["attempts"] > 1]
        for number in again:
            for attempt in client.show(number)["attempts_log"]:
                outcome = attempt["outcome"]
                assert outcome in ("done", "lost", "crash", "suspect"), attempt
                if outcome in ("crash", "suspect"):
                    blamed += 1
                    assert any(
                        name == attempt["worker"] and attempt["started"] - 1 <= at <= attempt["finished"] + 1
                        for name, at in killer.workers
                    ), attempt
    print(f"{blamed} attempts were blamed for {len(killer.workers)} killed workers")


def test_a_request_that_was_sent_while_no_daemon_was_there() -> None:
    """The next one answers it."""
    with running(workers=1) as daemon:
        client = daemon.client()
        assert client("ping")
        daemon.kill()
        request = client.send("ping")
        assert not client.socket.poll(0, zmq.POLLIN)
        daemon.restart()
        assert client.reply_to(request)
        with pytest.raises(Refusal):
            client("show", ref=1)
