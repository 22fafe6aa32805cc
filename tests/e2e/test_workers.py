"""Workers of a real daemon: memory, new handler code, what tasks leave behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers.daemon import HELPERS, Daemon, running, wait_gone, with_handlers, write_settings
from helpers.raw import Raw, Refusal

CODE = """
from gemflowd.handlers.registry import task

@task("{name}")
def {name}(data, context):
    return "{answer}"
"""


def greedy(kind: str, **fields: Any) -> dict[str, Any]:
    data = fields.pop("data", {})
    return {"type": kind, "data": data, "retries": 0, **fields}


def test_over_its_cap_a_task_runs_once_more_alone_and_then_fails_with_both_figures() -> None:
    with running(workers=1, memory_mb=1000, **with_handlers("greedy_tasks")) as daemon:
        client = daemon.client()
        (line,) = client.run(greedy("eat", memory_mb=120))
        assert line["error"]["code"] == "memory"
        attempts = client.show(1)["attempts_log"]
        assert [attempt["outcome"] for attempt in attempts] == ["memory", "memory"]
        for attempt in attempts:
            assert "its cap is 120 MB" in attempt["error"]["message"]
            assert attempt["peak_kb"] > 120 * 1024
        assert client.run(greedy("whoami"))[0]["ok"]


def test_a_cap_below_what_a_worker_has_is_refused() -> None:
    with running(workers=1) as daemon:
        client = daemon.client()
        for request in (
            lambda: client("config", set={"memory_mb": 5}),
            lambda: client.submit({"type": "echo", "memory_mb": 5}),
        ):
            with pytest.raises(Refusal, match="before its first task") as caught:
                request()
            assert caught.value.code == "invalid_value"
            assert (caught.value.path or "").endswith("memory_mb")


def test_a_daemon_with_such_a_cap_does_not_start() -> None:
    daemon = Daemon(workers=1, memory_mb=5)
    try:
        daemon.launch()
        assert daemon.wait_end() == 78
        assert "memory_mb must be more than a worker has before its first task" in daemon.log_text()
    finally:
        daemon.close()


def test_above_the_limit_for_all_blocking_tasks_wait_and_coroutines_run() -> None:
    with running(workers=2, memory_mb=1000, memory_total_mb=250, **with_handlers("greedy_tasks")) as daemon:
        client = daemon.client()
        hog = client.submit(greedy("child-eats", data={"mb": 300}))["first"]
        while "all workers together" not in daemon.log_text():
            client("status")
        waiting = client.submit(greedy("whoami"))["first"]
        assert "memory" in {reason["code"] for reason in client("explain", ref=waiting)["reasons"]}
        assert client.run({"type": "sleep", "data": {"seconds": 0}})[0]["ok"]
        assert client.show(waiting)["state"] == "ready"
        client("cancel", refs=[hog])
        client.wait(waiting)


def test_what_has_left_its_session_and_cleared_its_environment_ends_with_its_worker() -> None:
    with running(workers=1, **with_handlers("greedy_tasks")) as daemon:
        client = daemon.client()
        (line,) = client.run(greedy("leave-behind"))
        left = line["result"]
        assert Path(f"/proc/{left}").exists()
        (worker,) = [w for w in client("workers")["workers"] if w["kind"] == "blocking"]
        os.kill(worker["pid"], signal.SIGKILL)
        assert wait_gone(left)


def reload(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_said("RELOADING=1")
    daemon.wait_ready()


def renewed(daemon: Daemon, client: Raw) -> None:
    """Wait until the last worker with old code is gone."""
    events = daemon.subscriber("worker")
    while any(worker["recycle"] or worker["state"] == "stopping" for worker in client("workers")["workers"]):
        events.next()


def answer(client: Raw, name: str = "answer") -> str:
    (line,) = client.run({"type": name})
    return str(line["result"])


def test_sighup_brings_new_handler_code_while_old_tasks_run(tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    module.write_text(CODE.format(name="answer", answer="old"))
    settings = {"handlers": ["changing", "greedy_tasks"], "handler_path": [str(tmp_path), str(HELPERS)]}
    with running(workers=2, env={"PYTHONDONTWRITEBYTECODE": "1"}, **settings) as daemon:
        client = daemon.client()
        assert answer(client) == "old"
        running_on = client.submit(greedy("whoami", data={"seconds": 1.0}))["first"]
        client.log_line(running_on)
        module.write_text(CODE.format(name="answer", answer="new") + CODE.format(name="added", answer="added"))
        reload(daemon)
        assert answer(client, "added") == "added"
        client.wait(running_on)
        renewed(daemon, client)
        assert answer(client) == "new"
        assert [attempt["outcome"] for attempt in client.show(running_on)["attempts_log"]] == ["done"]

        # What can't be imported changes nothing, and says why.
        module.write_text("import there_is_no_such_module")
        reload(daemon)
        assert "there_is_no_such_module" in daemon.log_text()
        assert answer(client) == "new"

        # A type that is gone: its tasks are held, and refused from now on.
        client("pause", queue="default")
        held = client.submit({"type": "answer"})["first"]
        module.write_text(CODE.format(name="other", answer="other"))
        reload(daemon)
        renewed(daemon, client)
        client("resume", queue="default")
        while client.show(held)["state"] != "held":
            client("status")
        with pytest.raises(Refusal, match="no handler for task type 'answer'"):
            client.submit({"type": "answer"})
        assert "missing_handler" in {reason["code"] for reason in client("explain", ref=held)["reasons"]}
        module.write_text(CODE.format(name="answer", answer="back"))
        reload(daemon)
        client.wait(held)
        assert client.results(held)[0]["result"] == "back"


def test_a_reload_keeps_what_must_not_change_and_takes_new_limits() -> None:
    with running(workers=1, memory_mb=500, **with_handlers("greedy_tasks")) as daemon:
        client = daemon.client()
        client.run(greedy("whoami"))
        write_settings(daemon.config, {"memory_mb": 5, **with_handlers("greedy_tasks")})
        reload(daemon)
        assert "nothing is reloaded: memory_mb must be more" in daemon.log_text()
        write_settings(daemon.config, {"workers": 1, "grace": 0.2, **with_handlers("greedy_tasks")})
        reload(daemon)
        stubborn = client.submit(greedy("stubborn"))["first"]
        client.log_line(stubborn)
        client("cancel", refs=[stubborn])
        client.wait(stubborn)
        assert client.show(stubborn)["state"] == "cancelled"


def test_what_a_command_leaves_in_a_session_of_its_own_ends_with_it() -> None:
    with running(workers=1) as daemon:
        client = daemon.client()
        script = "setsid sh -c 'setsid sleep 1000 & echo $! > pid; exit' & wait; cat pid"
        (line,) = client.run({"type": "command", "data": {"args": ["sh", "-c", script]}, "retries": 0})
        with pytest.raises(ProcessLookupError):  # already: before its outcome was told
            os.kill(line["result"]["stdout"], 0)
