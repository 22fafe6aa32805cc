"""gemflowd under a real systemd, with its own unit file: start, crash, reload, stop, bad settings, watchdog, secrets.

What a task is and what becomes of it is tested elsewhere; here it only has to be there again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Service

TASKS = [
    {"id": "echo", "type": "echo", "data": {"n": 1}},
    {"id": "sleep", "type": "sleep", "data": {"seconds": 2}},
    {"id": "command", "type": "command", "data": {"args": ["id", "-un"]}},
    {"id": "after", "type": "echo", "data": {}, "deps": ["sleep", "command"]},
]


@pytest.fixture
def running(service: Service) -> Service:
    service.systemctl("start")
    return service


def test_it_starts_as_its_own_user(running: Service):
    # Type=notify: systemctl came back, so the daemon said that it serves.
    assert running.answers()
    owner = running.box.run("stat", "--format=%U %a", "/var/lib/gemflow", f"/proc/{running.pid}").stdout.splitlines()
    assert owner[0] == "gemflow 700"
    assert owner[1].startswith("gemflow ")


def test_nothing_is_lost_when_it_is_killed(running: Service):
    lines = "".join(f"{json.dumps(task)}\n" for task in TASKS)
    running.ctl("submit", "-f", "-", stdin=lines)
    before = running.pid
    running.box.run("kill", "-9", str(before))
    running.box.until(lambda: running.shows("NRestarts")["NRestarts"] == "1", "systemd starts it again")
    running.box.until(running.answers, "it answers again")
    assert running.pid != before
    running.ctl("wait", "f1", "--timeout", "60")
    results = {line["id"]: line for line in running.json("results", "f1")}
    assert {name: line["state"] for name, line in results.items()} == {task["id"]: "succeeded" for task in TASKS}
    assert results["command"]["result"]["stdout"].strip() == "gemflow"


def test_reload(running: Service):
    before = running.pid
    running.systemctl("reload")

    def settled() -> bool:
        shown = running.shows("SubState", "ReloadResult", "MainPID")
        return shown == {"SubState": "running", "ReloadResult": "success", "MainPID": str(before)}

    running.box.until(settled, "the reload ends")
    assert running.answers()


def test_stop(running: Service):
    running.systemctl("stop")
    shown = running.shows("ActiveState", "Result", "ExecMainCode", "ExecMainStatus")
    assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainCode": "1", "ExecMainStatus": "0"}


def test_stop_lets_a_running_task_finish(running: Service):
    running.ctl("submit", "sleep", "--set", "seconds=5")
    running.box.until(lambda: running.json("list", "--state", "running"), "the task runs")
    running.systemctl("stop")
    assert running.shows("Result")["Result"] == "success"
    running.systemctl("start")
    [result] = running.json("results", "1")
    assert result["state"] == "succeeded"
    assert result["attempts"] == 1


def test_bad_settings_are_not_tried_again(service: Service):
    service.box.write("/etc/gemflow/gemflowd.toml", "no_such_setting = 1\n")
    assert service.systemctl("start", check=False).returncode != 0
    shown = service.shows("ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    assert "no_such_setting" in service.box.run("journalctl", "--unit=gemflowd", "--output=cat").stdout


def test_a_daemon_that_hangs_is_started_again(service: Service):
    service.configure("test", "[Service]\nWatchdogSec=2\nTimeoutAbortSec=5\n")
    service.systemctl("start")
    before = service.pid
    # It feeds the watchdog: it is alive when more than one interval has passed.
    fed = service.shows("WatchdogTimestampMonotonic")
    service.box.until(lambda: service.shows("WatchdogTimestampMonotonic") != fed, "it feeds the watchdog")
    assert service.shows("NRestarts")["NRestarts"] == "0"
    service.box.run("kill", "-STOP", str(before))
    service.box.until(lambda: service.shows("NRestarts")["NRestarts"] == "1", "systemd starts it again")
    service.box.until(service.answers, "it answers again")
    assert service.pid != before
    assert "Watchdog timeout" in service.box.journal()


def test_the_key_comes_as_a_credential(service: Service):
    key = "not-a-real-key-0123456789"
    service.box.write("/etc/credstore/gemini-api-key", key)
    service.systemctl("start")
    assert service.answers()
    pid = service.pid
    # Where the daemon finds it; its environment and its arguments can be read by others.
    credentials = f"/run/credentials/{service.unit}/gemini-api-key"
    assert service.box.run("cat", credentials).stdout == key
    assert key not in service.box.run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline").stdout
    assert key not in service.box.run("journalctl", "--unit=gemflowd", "--output=cat").stdout
