"""Workers in control groups of their own, on a machine where systemd delegates cgroup v2. Run by `vm`, not by `make test`.

What the kernel does is only seen here; what the daemon makes of it is also tested without (tests/unit/host/test_cgroups.py).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Service

MB = 1024 * 1024
CAP = 300
GROUP = Path("/sys/fs/cgroup/system.slice/gemflowd.service")
HELPERS = Path(__file__).resolve().parents[1] / "helpers"
SETTINGS = f"workers = 2\nmemory_mb = {CAP}\nmin_life = 0\ngrace = 2\ndrain_timeout = 6\nhandlers = ['greedy_tasks']\n"
#: More than its cap, in memory that no look at processes shows: the kernel is the only one who can notice.
HIDDEN = ["sh", "-c", "rm -f /dev/shm/hidden; exec head -c 700M /dev/zero >/dev/shm/hidden"]
MY_LIMIT = ["sh", "-c", 'cat "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.max"']
_SAID = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout
VERSION = int((re.findall(r"systemd (\d+)", _SAID) or ["0"])[0])

pytestmark = [
    pytest.mark.skipif(os.environ.get("SYSTEMD_TEST_MACHINE") != "this", reason="only on a machine of its own (vm)"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def delegated(installed: Service) -> Iterator[Service]:
    """The service with its own unit file. It is the same one for all: where the machine is emulated a start takes long."""
    installed.reset()
    installed.box.write("/etc/gemflow/gemflowd.toml", SETTINGS)
    installed.configure("test", f"[Service]\nEnvironment=PYTHONPATH={HELPERS}\n")
    yield installed
    installed.reset()


@pytest.fixture
def running(delegated: Service) -> Iterator[Service]:
    delegated.systemctl("start")
    ready(delegated)
    yield delegated
    Path("/dev/shm/hidden").unlink(missing_ok=True)


@contextmanager
def configured(service: Service, name: str, settings: str) -> Iterator[None]:
    """With that drop-in, and stopped before and after."""
    service.systemctl("stop")
    service.configure(name, settings)
    try:
        yield
    finally:
        service.systemctl("stop", check=False)
        service.configure(name, "")


def workers(service: Service) -> dict[str, dict[str, Any]]:
    [shown] = service.json("workers")
    return {worker["name"]: worker for worker in shown["workers"]}


def ready(service: Service) -> None:
    service.box.until(
        lambda: sum(worker["state"] == "idle" for worker in workers(service).values()) == 3, "three workers are there"
    )


def groups(root: Path = GROUP) -> dict[str, Path]:
    return {path.name: path for path in root.glob("worker-*")}


def members(group: Path) -> set[int]:
    return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}


def killed(root: Path = GROUP) -> int:
    """Processes that the kernel has killed for want of memory in it and below, also in groups that are gone."""
    return int(dict(line.split() for line in (root / "memory.events").read_text().splitlines())["oom_kill"])


def submit(service: Service, kind: str, *flags: str, **data: Any) -> int:
    [made] = service.json("submit", kind, "--data", json.dumps(data), "--retries", "0", *flags)
    return int(made["first"])


def ended(service: Service, task: int) -> dict[str, Any]:
    service.ctl("wait", str(task), "--timeout", "120", check=False)
    [shown] = service.json("show", str(task))
    return shown


def same(service: Service, pid: int) -> None:
    """It is the same daemon, and systemd is content with it."""
    shown = service.shows("ActiveState", "SubState", "Result", "MainPID")
    assert shown == {"ActiveState": "active", "SubState": "running", "Result": "success", "MainPID": str(pid)}


def test_each_worker_has_a_group_of_its_own(running: Service) -> None:
    there = workers(running)
    assert groups().keys() == {f"worker-{name}" for name in there}
    for name, worker in there.items():
        group = groups()[f"worker-{name}"]
        assert members(group) == {worker["pid"]}
        assert int((group / "memory.max").read_text()) == CAP * MB
        assert (group / "memory.oom.group").read_text() == "1\n"
        assert (group / "memory.swap.max").read_text() == "0\n"
        assert group.owner() == "gemflow"
    assert members(GROUP) == set()
    assert running.pid in members(GROUP / "daemon")
    same(running, running.pid)


@pytest.mark.parametrize(
    ("kind", "data", "kills"),
    [
        ("command", {"args": HIDDEN}, 2),
        ("command", {"args": ["python3", "-c", "bytearray(1 << 30)"]}, 0),
        ("leak", {"mb": 1024}, 0),
    ],
    ids=["hidden", "program", "handler"],
)
def test_a_hog(running: Service, kind: str, data: dict[str, Any], kills: int) -> None:
    before, pid = killed(), running.pid
    neighbour = submit(running, "whoami", seconds=10)  # there are two workers: it has begun when the next is submitted
    shown = ended(running, submit(running, kind, **data))
    print("killed by the kernel:", killed() - before, shown["attempts_log"])
    assert [attempt["outcome"] for attempt in shown["attempts_log"]] == ["memory", "memory"]
    for attempt in shown["attempts_log"]:
        assert f"its cap is {CAP} MB" in attempt["error"]["message"]
        assert "no memory left" not in attempt["error"]["message"]
        assert attempt["error"]["cap_mb"] == CAP
        assert attempt["error"]["rss_mb"] >= CAP - 1
    assert killed() - before >= kills
    shown = ended(running, neighbour)
    assert [attempt["outcome"] for attempt in shown["attempts_log"]] == ["done"]
    same(running, pid)
    ready(running)
    running.box.until(
        lambda: groups().keys() == {f"worker-{name}" for name in workers(running)}, "groups of the living"
    )


def test_swap_does_not_save_a_hog(running: Service) -> None:
    for module in ("zsmalloc", "lzo", "lzo-rle", "zram"):
        for path in Path("/usr/lib/modules").glob(f"{module}.ko*"):
            running.box.run("insmod", str(path), check=False)
    if not Path("/sys/block/zram0").exists():
        pytest.skip("no swap in memory to be had")
    Path("/sys/block/zram0/disksize").write_text(str(1024 * MB))
    running.box.run("mkswap", "/dev/zram0")
    running.box.run("swapon", "/dev/zram0")
    try:
        shown = ended(running, submit(running, "command", args=HIDDEN))
        assert [attempt["outcome"] for attempt in shown["attempts_log"]] == ["memory", "memory"]
        assert shown["attempts_log"][0]["error"]["rss_mb"] >= CAP - 1
    finally:
        running.box.run("swapoff", "/dev/zram0")


def test_a_task_with_a_cap_of_its_own(running: Service) -> None:
    shown = ended(running, submit(running, "command", "--memory-mb", "200", args=MY_LIMIT))
    assert shown["result"]["stdout"] == 200 * MB
    shown = ended(running, submit(running, "command", args=MY_LIMIT))
    assert shown["result"]["stdout"] == CAP * MB
    shown = ended(running, submit(running, "command", "--memory-mb", "150", args=HIDDEN))
    assert {attempt["error"]["cap_mb"] for attempt in shown["attempts_log"]} == {150}


def test_out_of_memory_for_another_reason(delegated: Service) -> None:
    """The service's own limit: the worker was not over its cap, and that is not said of it."""
    with configured(delegated, "limit", "[Service]\nMemoryMax=700M\nMemorySwapMax=0\n"):
        delegated.systemctl("start")
        ready(delegated)
        pid = delegated.pid
        shown = ended(delegated, submit(delegated, "leak", "--memory-mb", "2000", mb=1024))
        print(shown["attempts_log"])
        assert [attempt["outcome"] for attempt in shown["attempts_log"]] == ["memory", "memory"]
        said = shown["attempts_log"][0]["error"]["message"]
        assert "its cap is 2000 MB, but the machine or the service had no memory left" in said
        same(delegated, pid)


def test_workers_that_are_replaced_leave_none(running: Service) -> None:
    before = workers(running)
    running.ctl("workers", "restart")
    running.box.until(lambda: not before.keys() & workers(running).keys(), "all are replaced")
    ready(running)
    running.box.until(
        lambda: groups().keys() == {f"worker-{name}" for name in workers(running)}, "groups of the living"
    )


def test_what_leaves_its_session_ends_with_its_worker(running: Service) -> None:
    left = int(ended(running, submit(running, "leave-behind"))["result"])
    [group] = [group for group in groups().values() if left in members(group)]
    # As if everything else that looks after it had gone: the daemon, stopped, sees nothing of it.
    (group / "cgroup.kill").write_text("1")
    running.box.until(lambda: not Path(f"/proc/{left}").exists(), "it is gone")
    left = int(ended(running, submit(running, "leave-behind"))["result"])
    running.ctl("workers", "restart")
    running.box.until(lambda: not Path(f"/proc/{left}").exists(), "it is gone")


def test_a_program_may_make_groups_of_its_own(running: Service) -> None:
    make = 'd="/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/a/b"; mkdir -p "$d"; '
    make += 'setsid -f sh -c "echo \\$\\$ >$d/cgroup.procs; exec sleep 1000"'
    ended(running, submit(running, "command", args=["sh", "-c", make]))
    running.box.until(lambda: list(GROUP.glob("worker-*/a/b")), "they are there")
    running.ctl("workers", "restart")
    running.box.until(lambda: not list(GROUP.glob("worker-*/a")), "they are gone")


def test_reload_watchdog_and_stop(delegated: Service) -> None:
    """Processes of its own in groups of its own are nothing that systemd minds."""
    with configured(delegated, "watchdog", "[Service]\nWatchdogSec=10\n"):
        delegated.systemctl("start")
        ready(delegated)
        pid = delegated.pid
        fed = delegated.shows("WatchdogTimestampMonotonic")
        delegated.systemctl("reload")  # its `kill` goes into the group `.control`
        delegated.box.until(lambda: delegated.shows("SubState")["SubState"] == "running", "it has reloaded")
        delegated.box.until(lambda: delegated.shows("WatchdogTimestampMonotonic") != fed, "it feeds the watchdog")
        same(delegated, pid)
        task = submit(delegated, "whoami", seconds=3)
        submit(delegated, "stubborn")
        delegated.box.until(lambda: delegated.json("list", "--state", "running"), "something runs")
        delegated.systemctl("stop")
        shown = delegated.shows("ActiveState", "Result", "ExecMainStatus")
        assert shown == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
        assert not GROUP.exists()
        delegated.systemctl("start")
        assert ended(delegated, task)["state"] == "succeeded"
        delegated.ctl("cancel", str(task + 1))


def test_killed_and_started_again(running: Service) -> None:
    left = int(ended(running, submit(running, "leave-behind"))["result"])
    before = {worker["pid"] for worker in workers(running).values()}
    pid = running.pid
    running.box.run("kill", "-9", str(pid))
    running.box.until(lambda: running.pid not in {0, pid}, "systemd starts it again")
    running.box.until(running.answers, "it answers again")
    ready(running)
    assert groups().keys() == {f"worker-{name}" for name in workers(running)}
    assert not {pid for pid in before | {left} if Path(f"/proc/{pid}").exists()}
    assert "no control group" not in running.box.journal()
    assert ended(running, submit(running, "command", args=MY_LIMIT))["result"]["stdout"] == CAP * MB


def test_killed_and_started_again_where_nobody_cleans_up(delegated: Service) -> None:
    """In a group that goes on, the next daemon finds what the one before has left."""
    program = (
        "[Service]\nType=exec\nWatchdogSec=0\nExecStart=\nExecStart=/bin/sh -c 'gemflowd run; gemflowd run; exit 1'\n"
    )
    with configured(delegated, "shell", program):
        delegated.systemctl("start")
        delegated.box.until(delegated.answers, "it answers")
        ready(delegated)
        left = int(ended(delegated, submit(delegated, "leave-behind"))["result"])
        assert any(left in members(group) for group in groups().values())
        first = Path(f"/proc/{delegated.pid}/task/{delegated.pid}/children").read_text().split()[0]  # of the shell
        (GROUP / "worker-b77").mkdir()
        delegated.box.run("kill", "-9", first)
        delegated.box.until(lambda: not Path(f"/proc/{left}").exists(), "what it has left is gone")
        delegated.box.until(delegated.answers, "the second answers")
        ready(delegated)
        assert groups().keys() == {f"worker-{name}" for name in workers(delegated)}


@pytest.mark.skipif(VERSION < 254, reason=f"systemd {VERSION} has no DelegateSubgroup=")
@pytest.mark.parametrize("name", ["daemon", "supervisor"])
def test_in_a_group_that_systemd_has_made(delegated: Service, name: str) -> None:
    with configured(delegated, "subgroup", f"[Service]\nDelegateSubgroup={name}\n"):
        delegated.systemctl("start")
        ready(delegated)
        assert delegated.pid in members(GROUP / name)
        assert groups().keys() == {f"worker-{name}" for name in workers(delegated)}
        assert ended(delegated, submit(delegated, "command", args=MY_LIMIT))["result"]["stdout"] == CAP * MB
        delegated.systemctl("stop")
        assert not GROUP.exists()


def test_a_user_service(installed: Service) -> None:
    installed.reset()  # its settings are for a user's daemon too
    box = installed.box
    uid, home = 4711, "/home/ada"
    root = Path(f"/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/gemflowd.service")
    box.run("useradd", "--create-home", "--home-dir", home, f"--uid={uid}", "--user-group", "ada")
    box.run("systemctl", "start", f"user@{uid}.service")

    def ada(*command: str) -> str:
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        return box.run(*become, "env", f"HOME={home}", "USER=ada", f"XDG_RUNTIME_DIR=/run/user/{uid}", *command).stdout

    try:
        ada("mkdir", "-p", f"{home}/.config/systemd/user")
        unit = Path(__file__).resolve().parents[2] / "systemd" / "gemflowd-user.service"
        ada("cp", str(unit), f"{home}/.config/systemd/user/gemflowd.service")
        ada("systemctl", "--user", "daemon-reload")
        ada("systemctl", "--user", "start", "gemflowd")
        box.until(lambda: "worker-b1" in groups(root), "its workers have groups")
        ada("gemflowctl", "submit", "command", "--data", '{"args": ["true"]}', "--wait")
        ada("systemctl", "--user", "stop", "gemflowd")
        assert not root.exists()
        assert "Result=success" in ada("systemctl", "--user", "show", "gemflowd", "--property=Result")
    finally:
        box.run("systemctl", "stop", f"user@{uid}.service", check=False)
        box.run("userdel", "--remove", "ada", check=False)
