"""The daemon itself: starting, being refused, stopping, settings, sockets, events."""

from __future__ import annotations

import grp
import os
import signal
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import Daemon, gemflowd_says, running, wait_gone, with_handlers, write_settings
from helpers.raw import NoReply, Raw, Refusal


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(**with_handlers("odd_tasks", workers=2, batch_size=10, grace=0.5)) as daemon:
        yield daemon


def nap(seconds: float = 0, **fields: Any) -> dict[str, Any]:
    return {"type": "nap", "data": {"seconds": seconds}, **fields}


def sleep(seconds: float, **fields: Any) -> dict[str, Any]:
    return {"type": "sleep", "data": {"seconds": seconds}, **fields}


def echo(**fields: Any) -> dict[str, Any]:
    return {"type": "echo", **fields}


def polite(**fields: Any) -> dict[str, Any]:
    return {"type": "polite", "data": {"seconds": 600}, **fields}


# Stopping


def test_sigterm_drains() -> None:
    with running(**with_handlers("odd_tasks", workers=1, drain_timeout=30)) as daemon:
        client = daemon.client()
        runs = daemon.subscriber("task.running")
        first = client.submit(nap(0.7, id="runs"), nap(id="waits"), echo(id="after", deps=["runs"]))["first"]
        runs.until("task.running", task=first)
        daemon.terminate()
        daemon.wait_said("STOPPING=1")
        # It still answers, says so, and takes nothing new.
        assert client("hello")["state"] == "draining"
        with pytest.raises(Refusal) as caught:
            client.submit(echo())
        assert caught.value.code == "draining"
        assert daemon.wait_end() == 0
        assert daemon.left() == []
        assert not Path(daemon.directory, "d.sock").exists()
        daemon.restart()
        client = daemon.client()
        client.wait(f"{first}-{first + 2}")
        shown = [client.show(first + i) for i in range(3)]
        assert [[attempt["outcome"] for attempt in task["attempts_log"]] for task in shown] == [["done"]] * 3
        (runs_task, waits, after) = shown
        assert runs_task["finished"] < client("hello")["started"] < min(waits["started"], after["started"])


@pytest.mark.parametrize("how", ["timeout", "second SIGTERM", "shutdown request"])
def test_what_does_not_finish_in_time_is_given_back(how: str) -> None:
    drain = 0.3 if how == "timeout" else 600
    with running(**with_handlers("odd_tasks", workers=1, drain_timeout=drain)) as daemon:
        client = daemon.client()
        numbers = [client.submit(task)["first"] for task in (polite(), nap(600))]
        runs = daemon.subscriber("task.running")
        numbers.append(client.submit({"type": "command", "data": {"args": ["sleep", "600"]}})["first"])
        assert client.log_line(numbers[0])
        assert client.show(numbers[1])["state"] == "running"
        assert client.show(numbers[2])["state"] == "ready"
        assert runs is not None
        if how == "shutdown request":
            assert client("shutdown", drain=False) == {"state": "draining"}
        else:
            daemon.terminate()
            daemon.wait_said("STOPPING=1")
            if how == "second SIGTERM":
                daemon.terminate()
        assert daemon.wait_end() == 0
        assert daemon.left() == []
        daemon.restart()
        client = daemon.client()
        mark = client.log_line(numbers[0], 1)
        assert mark["text"] == "[attempt 1 broke off: the daemon stops]"
        assert client.log_line(numbers[0], mark["seq"])["text"] == "waiting"
        for number in numbers[:2]:
            outcomes = client.show(number)["attempts_log"]
            assert [attempt["outcome"] for attempt in outcomes] == ["lost"], "and no try is charged"
        client("cancel", refs=numbers)
        client.wait(*numbers)


def test_sigterm_while_it_starts() -> None:
    """As soon as it is ready, before any worker is; and again, before it is ready."""
    daemon = Daemon(workers=2)
    try:
        daemon.start()
        daemon.stop()
        daemon.launch()
        socket = Path(daemon.directory, "state", "lease")
        assert socket.exists()
        daemon.terminate()
        status = daemon.wait_end()
        assert status in (0, -signal.SIGTERM)  # before it has handlers for signals, it dies of them
    finally:
        daemon.close()


def test_sigint_is_like_sigterm() -> None:
    with running(workers=1) as daemon:
        os.kill(daemon.pid, signal.SIGINT)
        assert daemon.wait_end() == 0


def test_kill_leaves_nothing_that_a_new_one_stumbles_over() -> None:
    with running(**with_handlers("odd_tasks", workers=1)) as daemon:
        client = daemon.client()
        done = client.run(echo(data={"x": 1}))[0]
        number = client.submit(nap(600))["first"]
        workers = [
            worker["pid"] for worker in client("workers")["workers"] if worker["pid"]
        ]  # one may not be forked yet
        nursery = daemon.nursery()
        assert nursery is not None
        daemon.kill()
        assert all(wait_gone(pid, 5) for pid in [nursery, *workers]), "PDEATHSIG"
        daemon.restart()
        client = daemon.client()
        assert client.results(done["number"]) == [done]
        client("cancel", refs=[number])
        client.wait(number)


# Refused starts


def test_a_second_daemon_on_the_same_state(daemon: Daemon) -> None:
    said = gemflowd_says("run", "--state-dir", str(daemon.state), "--endpoint", f"ipc://{daemon.directory}/other.sock")
    assert said.returncode == 1
    assert "is another gemflowd running?" in said.stderr
    assert str(daemon.pid) in said.stderr
    assert "Traceback" not in said.stderr


def test_a_second_daemon_on_the_same_endpoint(daemon: Daemon, client: Raw, tmp_path: Path) -> None:
    said = gemflowd_says("run", "--state-dir", str(tmp_path / "state"), "--endpoint", daemon.endpoint)
    assert said.returncode == 1
    assert "is another gemflowd running?" in said.stderr
    assert client("hello")["pid"] == daemon.pid


def test_all_problems_of_the_configuration_at_once(tmp_path: Path) -> None:
    config = tmp_path / "gemflowd.toml"
    write_settings(config, {"workers": 0, "colour": "blue", "retries": "many"})
    said = gemflowd_says(
        "run",
        "--config",
        str(config),
        "--profile",
        "reckless",
        env={"GEMFLOW_GRACE": "long", "PARALLEL_BATCH_SIZE": "-1"},
    )
    assert said.returncode == 78
    for word in ("workers", "colour", "retries", "reckless", "GEMFLOW_GRACE", "PARALLEL_BATCH_SIZE"):
        assert word in said.stderr
    assert "Traceback" not in said.stderr
    again = gemflowd_says("check-config", "--config", str(config))
    assert again.returncode == 78
    assert "colour" in again.stderr


@pytest.mark.parametrize(
    ("endpoint", "word"),
    [
        (f"ipc:///tmp/{'x' * 120}/d.sock", "107"),
        ("tcp://127.0.0.1:5555", "CURVE"),
        ("ipc://relative/d.sock", "absolute"),
        ("nonsense", "endpoint"),
    ],
)
def test_an_endpoint_that_can_not_work(tmp_path: Path, endpoint: str, word: str) -> None:
    said = gemflowd_says("run", "--state-dir", str(tmp_path / "state"), "--endpoint", endpoint)
    assert said.returncode == 78
    assert word in said.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "case", ["handlers", "group", "persona", "state is a file", "state belongs to all", "no such option"]
)
def test_other_reasons_not_to_start(tmp_path: Path, case: str) -> None:
    endpoint = f"ipc://{tmp_path}/d.sock"
    state = tmp_path / "state"
    config = tmp_path / "gemflowd.toml"
    settings: dict[str, Any] = {}
    options: list[str] = []
    status, word = 78, ""
    match case:
        case "handlers":
            settings, word = {"handlers": ["no_such_module"]}, "no_such_module"
        case "group":
            settings, word = {"socket_group": "no-such-group"}, "no-such-group"
        case "persona":
            (tmp_path / "bad.toml").write_text("name = 5\n")
            settings, word = {"personas": [str(tmp_path)]}, "bad.toml"
            config = tmp_path / "conf" / "gemflowd.toml"
            config.parent.mkdir()
        case "state is a file":
            state.touch()
            status, word = 1, str(state)
        case "state belongs to all":
            state.mkdir()
            state.chmod(0o777)
            status, word = 1, str(state)
        case "no such option":
            options, status, word = ["--fast"], 2, "--fast"
    write_settings(config, settings)
    said = gemflowd_says("run", "--config", str(config), "--state-dir", str(state), "--endpoint", endpoint, *options)
    assert said.returncode == status, said.stderr
    assert word in said.stderr
    assert "Traceback" not in said.stderr


# Sockets


@pytest.mark.parametrize("shared_with_group", [False, True])
def test_who_may_use_the_sockets(shared_with_group: bool) -> None:
    group = grp.getgrgid(os.getgid() or 1)
    settings = {"socket_group": group.gr_name} if shared_with_group else {}
    with running(workers=1, **settings) as daemon:
        for name in ("d.sock", "events.sock"):
            status = Path(daemon.directory, name).stat()
            assert stat.S_ISSOCK(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == (0o660 if shared_with_group else 0o600)
            if shared_with_group:
                assert status.st_gid == group.gr_gid
        for private in (daemon.state, daemon.state / "gemflow.db"):
            assert stat.S_IMODE(private.stat().st_mode) & 0o077 == 0


# Settings


def value(client: Raw, key: str) -> Any:
    return next((s["value"], s["origin"]) for s in client("config")["settings"] if s["key"] == key)


def test_settings_at_run_time_outlive_the_daemon() -> None:
    with running(workers=2, batch_size=4, env={"PARALLEL_RETRY_ATTEMPTS": "1"}) as daemon:
        client = daemon.client()
        assert value(client, "workers") == (2, str(daemon.config))
        assert value(client, "retries") == (1, "PARALLEL_RETRY_ATTEMPTS")
        changed = client("workers", count=3)
        assert (changed["count"], changed["slots"]) == (3, {"blocking": 3, "coroutine": 12})
        profile = client("profile", name="performance")
        assert profile["profile"] == "performance"
        assert {shadow["key"]: shadow["origin"] for shadow in profile["shadowed"]} == {
            "workers": "run time",
            "batch_size": str(daemon.config),
        }
        assert client("config", set={"retries": 7, "task_timeout": 12})["settings"]
        for restart in (False, True):
            if restart:
                daemon.kill()
                daemon.restart()
                client = daemon.client()
            assert value(client, "retries") == (7, "run time")
            assert value(client, "task_timeout") == (12.0, "run time")
            assert value(client, "profile") == ("performance", "run time")
            assert client("workers")["count"] == 3
        client("config", reset=["retries", "workers", "profile", "task_timeout"])
        daemon.stop()
        daemon.restart()
        client = daemon.client()
        assert value(client, "retries") == (1, "PARALLEL_RETRY_ATTEMPTS")
        assert value(client, "workers") == (2, str(daemon.config))
        assert client("profile")["profile"] == "balanced"


def test_the_number_of_workers_follows_at_once(daemon: Daemon, client: Raw) -> None:
    events = daemon.subscriber("worker", "task.running")
    client("workers", count=4)
    numbers = [client.submit(nap(600))["first"] for _ in range(4)]
    while sum(client.show(number)["state"] == "running" for number in numbers) < 4:
        events.next()
    # Fewer: what runs is not touched, and who is too many leaves when it has finished.
    client("config", reset=["workers"])
    assert sum(client.show(number)["state"] == "running" for number in numbers) == 4
    blocking = [worker for worker in client("workers")["workers"] if worker["kind"] == "blocking"]
    assert sorted(worker["state"] for worker in blocking) == ["busy", "busy", "stopping", "stopping"]
    client("cancel", refs=numbers)
    client.wait(*numbers)
    while len([worker for worker in client("workers")["workers"] if worker["kind"] == "blocking"]) > 2:
        events.next()


def test_sighup_reads_the_settings_again() -> None:
    with running(workers=1, retries=2) as daemon:
        client = daemon.client()
        client("config", set={"backoff": 0.5})
        write_settings(daemon.config, {"workers": 2, "retries": 5, "backoff": 2.0})
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_said("RELOADING=1")
        daemon.wait_ready()
        assert value(client, "retries") == (5, str(daemon.config))
        assert value(client, "backoff") == (0.5, "run time")
        assert client("workers")["count"] == 2
        # A mistake leaves everything as it was.
        write_settings(daemon.config, {"workers": 0, "colour": "blue"})
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_said("RELOADING=1")
        daemon.wait_ready()
        assert value(client, "retries") == (5, str(daemon.config))
        assert "colour" in daemon.log_text()
        lines = client.run(nap_free := echo(), nap_free)
        assert all(line["ok"] for line in lines)


# One at a time


def test_without_parallel_execution_there_is_one_task_at_a_time() -> None:
    with running(enabled=False, workers=3, batch_size=5, **with_handlers("odd_tasks")) as daemon:
        client = daemon.client()
        client.run(nap(), sleep(0))  # both kinds of worker are there
        begin = client("subscribe")["next"]
        tasks = [nap(0.02) if index % 2 else sleep(0.02) for index in range(12)]
        reply = client.submit(*tasks)
        client.wait(f"f{reply['flow']}")
        events = client("events", **{"from": begin, "topics": ["task.running", "task.succeeded"]})["events"]
        assert [event["topic"] for event in events] == ["task.running", "task.succeeded"] * 12
        order = [event["task"] - reply["first"] for event in events[::2]]
        assert order == list(range(12))
        # Switched on again while it runs.
        client("config", set={"enabled": True})
        numbers = [client.submit(nap(600))["first"] for _ in range(3)]
        runs = daemon.subscriber("task.running")
        while sum(client.show(number)["state"] == "running" for number in numbers) < 3:
            runs.next()
        client("cancel", refs=numbers)
        client.wait(*numbers)


# Events


def test_events_of_a_flow_in_order_and_without_gaps(daemon: Daemon, client: Raw) -> None:
    subscriber = daemon.subscriber("")
    position = client("subscribe", topics=["task."])
    assert position["endpoint"] == daemon.events
    assert position["epoch"] == client("hello")["epoch"]
    assert all(topic.startswith("task.") for topic in position["topics"])
    flow = client.submit(
        {"type": "refuse", "id": "bad"},
        echo(id="b", deps=["bad"]),
        echo(id="c", deps=[{"id": "bad", "on": "failure"}]),
        echo(id="later", delay=0.1),
        name="named",
    )["flow"]
    messages: list[tuple[str, dict[str, Any]]] = []
    while not messages or messages[-1][0] != "flow.failed":
        topic, message = subscriber.message()
        if topic != "stats":
            messages.append((topic, message))
    events = sorted((event for _, message in messages for event in message["events"]), key=lambda event: event["seq"])
    assert [event["seq"] for event in events] == list(range(position["next"], position["next"] + len(events)))
    ordinals = dict(position["topics"])
    for topic, message in messages:
        assert message["epoch"] == position["epoch"]
        assert message["first"] == message["events"][0]["seq"]
        assert message["last"] == message["events"][-1]["seq"]
        assert all(event["topic"] == topic for event in message["events"])
        if topic.startswith("task."):
            assert message["topic_first"] == ordinals.get(topic, 0)
            ordinals[topic] = message["topic_first"] + len(message["events"])
    by_task: dict[str, list[str]] = {}
    for event in events:
        if event["topic"].startswith("task."):
            assert event["flow"] == flow
            by_task.setdefault(event["id"], []).append(event["topic"].removeprefix("task."))
    assert by_task == {
        "bad": ["ready", "running", "failed"],
        "b": ["blocked", "skipped"],
        "c": ["blocked", "ready", "running", "succeeded"],
        "later": ["scheduled", "ready", "running", "succeeded"],
    }
    assert [(event["topic"], event["name"]) for event in events if event["topic"].startswith("flow.")] == [
        ("flow.active", "named"),
        ("flow.failed", "named"),
    ]
    # The store tells the same.
    assert client("events", **{"from": position["next"]})["events"] == events
    some = client("events", **{"from": position["next"], "limit": 3})
    assert (some["events"], some["next"]) == (events[:3], position["next"] + 3)
    assert client("events", **{"from": some["next"], "topics": ["flow."]})["events"][-1] == events[-1]
    assert client("events", **{"from": 10**9})["events"] == []


def test_events_are_numbered_on_after_a_restart() -> None:
    with running(workers=1) as daemon:
        client = daemon.client()
        client.run(echo())
        position = client("subscribe")
        daemon.kill()
        daemon.restart()
        client = daemon.client()
        again = client("subscribe")
        assert again["epoch"] != position["epoch"]
        client.run(echo())
        events = client("events", **{"from": 1})["events"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert again["next"] >= position["next"]
        assert again["topics"]["task.succeeded"] == position["topics"]["task.succeeded"] == 1


def test_statistics(daemon: Daemon, client: Raw) -> None:
    subscriber = daemon.subscriber("stats")
    client.run(echo(), nap(0.05))
    topic, message = subscriber.message()
    while message["events"][0]["throughput"] == 0:
        _, message = subscriber.message()
    (event,) = message["events"]
    assert topic == "stats"
    assert event["seq"] is message["first"] is message["last"] is None
    answer = client("stats")
    assert event.keys() - {"seq", "topic"} == answer.keys()
    assert answer["completed"] >= 2
    assert answer["average_seconds"] > 0
    assert answer["refused_outcomes"] >= 0
    assert {worker["kind"] for worker in answer["workers"]} == {"blocking", "coroutine"}
    assert all(worker["rss_bytes"] > 1_000_000 for worker in answer["workers"] if worker["state"] != "starting")


# Long polls


def test_wait_is_a_long_poll(client: Raw) -> None:
    reply = client.submit(polite())
    number = reply["first"]
    client.log_line(number)
    begin = time.monotonic()
    answer = client("wait", refs=[number], timeout=0.3)
    assert 0.3 <= time.monotonic() - begin < 5
    assert answer == {"done": False, "total": 1, "ended": 0, "tasks": {"running": 1}}
    done = client.run(echo())[0]["number"]
    assert client("wait", refs=[number, done], any=True)["done"]
    assert not client("wait", refs=[number, done], timeout=0)["done"]
    waiting = [client.send("wait", refs=refs) for refs in ([number], [f"{number}-{done}"], [f"f{reply['flow']}", done])]
    client("ping")
    client("cancel", refs=[number])
    begin = time.monotonic()
    assert all(client.reply_to(request)["done"] for request in waiting)
    assert time.monotonic() - begin < 5


def test_logs_can_be_followed(client: Raw) -> None:
    script = "for i in 1 2 3; do echo line $i >&2; read x; done"
    number = client.submit({"type": "command", "data": {"args": ["sh", "-c", script], "stdin": "a\nb\nc\n"}})["first"]
    lines: list[str] = []
    after, ended = 0, False
    while not ended:
        answer = client("logs", ref=number, after=after, wait=10)
        lines += [line["text"] for line in answer["lines"]]
        after, ended = answer["next"], answer["ended"]
    assert lines == ["line 1", "line 2", "line 3"]
    quiet = client.submit(polite())["first"]
    first = client.log_line(quiet)
    assert (first["attempt"], first["stream"], first["text"]) == (1, "log", "waiting")
    follow = client.send("logs", ref=quiet, after=first["seq"], wait=30)
    client("cancel", refs=[quiet])
    assert client.reply_to(follow)["lines"][0]["text"] == "stopping, cancelled=True"


def test_log_lines_are_published(daemon: Daemon, client: Raw) -> None:
    subscriber = daemon.subscriber("log.")
    number = client.submit(polite())["first"]
    event = subscriber.until(f"log.{number}")[-1]
    assert (event["task"], event["attempt"], event["text"], event["seq"]) == (number, 1, "waiting", None)
    client("cancel", refs=[number])
    client.wait(number)


# Clients that are no good


def test_the_65th_unanswered_request_is_refused(client: Raw) -> None:
    number = client.submit(polite())["first"]
    client.log_line(number)
    waiting = [client.send("wait", refs=[number], timeout=30) for _ in range(64)]
    with pytest.raises(Refusal) as caught:
        client("ping")
    assert caught.value.code == "overloaded"
    with Raw(client.socket.last_endpoint.decode().rstrip("\0")) as other:
        assert other("ping")
        other("cancel", refs=[number])
    assert all(client.reply_to(request)["done"] for request in waiting)
    assert client("ping"), "and the credit is there again"


def test_a_client_that_never_reads_hurts_nobody(daemon: Daemon, client: Raw) -> None:
    client.run(*(echo(data={"text": "x" * 10_000}) for _ in range(200)))
    with Raw(daemon.endpoint, RCVHWM=1, SNDHWM=100_000, RCVBUF=4096) as deaf:
        for _ in range(3000):
            deaf.send("results", refs=["1-100000"], limit=100)
        begin = time.monotonic()
        for _ in range(20):
            assert client("ping")
            assert client.run(echo())[0]["ok"]
        assert time.monotonic() - begin < 20
        rss = next(
            int(line.split()[1])
            for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        assert rss < 1_500_000, f"{rss} KB"
    assert client("ping")


def test_a_client_that_leaves_while_it_waits(daemon: Daemon, client: Raw) -> None:
    number = client.submit(polite())["first"]
    client.log_line(number)
    for _ in range(20):
        with Raw(daemon.endpoint) as other:
            for _ in range(10):
                other.send("wait", refs=[number])
            other("ping")
    client("cancel", refs=[number])
    client.wait(number)
    with pytest.raises(NoReply):
        client.receive(0.05)


def test_many_requests_at_once_are_all_answered(client: Raw) -> None:
    requests = [client.send("submit", submission=str(uuid.uuid4()), tasks=[echo(data={"i": i})]) for i in range(64)]
    flows = {client.reply_to(request)["flow"] for request in requests}
    assert len(flows) == 64
    client.wait(*(f"f{flow}" for flow in flows))
