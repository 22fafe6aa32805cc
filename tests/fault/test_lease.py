"""What a killed daemon's tasks have started ends before anything of theirs runs again, however well it hides."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from helpers.daemon import running, wait_gone
from helpers.raw import Raw

#: Three grandchildren: one in the group, one in a session of its own, one that has also closed all descriptors and lost its
#: parent. Each appends a line with its number when it starts; the last word is the parent's.
SCRIPT = """
import os, sys, time

def note(word):
    with open(sys.argv[1], "a") as ledger:
        ledger.write(f"{os.environ['GEMFLOW_ATTEMPT']} {word} {os.getpid()}\\n")

def child(steps):
    ready, done = os.pipe()
    if os.fork() == 0:
        os.close(ready)
        for step in steps:
            step()
        if descriptors not in steps:
            os.close(done)
        time.sleep(1000)
        os._exit(0)
    os.close(done)
    os.read(ready, 1)  # until all have closed the other end
    os.close(ready)

def plain():
    note("plain")

def session():
    os.setsid()
    note("session")

def orphan():
    os.setsid()
    if os.fork():
        os._exit(0)
    note("hidden")

def descriptors():
    os.closerange(0, 256)

if os.environ["GEMFLOW_ATTEMPT"] != "1":
    note("again")
    # Whoever of the first attempt is alive now breaks the promise.
    first = [line.split() for line in open(sys.argv[1]) if line.startswith("1 ")]
    alive = [pid for _, _, pid in first if os.path.exists(f"/proc/{pid}/environ") and open(f"/proc/{pid}/stat").read().split()[2] != "Z"]
    print(" ".join(alive) or "none")
    sys.exit(0)

child([plain])
child([session])
child([orphan, descriptors])
note("parent")
sys.stderr.write("ready\\n")
sys.stderr.flush()
time.sleep(1000)
"""


def pids(ledger: Path, attempt: int) -> dict[str, int]:
    found = {}
    for line in ledger.read_text().splitlines():
        number, word, pid = line.split()
        if int(number) == attempt:
            found[word] = int(pid)
    return found


def command(tmp_path: Path) -> tuple[dict[str, object], Path]:
    script, ledger = tmp_path / "script.py", tmp_path / "ledger"
    script.write_text(SCRIPT)
    return {"type": "command", "data": {"args": [sys.executable, str(script), str(ledger)]}}, ledger


def test_what_a_killed_daemon_left_is_gone_before_the_next_attempt(tmp_path: Path) -> None:
    task, ledger = command(tmp_path)
    with running(workers=1) as daemon:
        client = daemon.client()
        number = client.submit(task)["first"]
        assert client.log_line(number)["text"] == "ready"
        first = pids(ledger, 1)
        assert set(first) == {"plain", "session", "hidden", "parent"}
        assert all(Path(f"/proc/{pid}").exists() for pid in first.values())
        assert os.getsid(first["hidden"]) != os.getsid(first["parent"])
        daemon.kill()
        assert Path(f"/proc/{first['hidden']}").exists(), "nothing but the lease finds it"
        daemon.restart()
        assert all(wait_gone(pid, 0) for pid in first.values()), "gone before the daemon serves anybody"
        client = daemon.client()
        client.wait(number)
        (line,) = client.results(number)
        assert line["result"] == {"stdout": "none\n", "exit_code": 0}
        assert [attempt["outcome"] for attempt in client.show(number)["attempts_log"]] == ["lost", "done"]


def killed_worker(client: Raw, number: int) -> None:
    worker = next(worker for worker in client("workers")["workers"] if number in worker["tasks"])
    os.kill(worker["pid"], 9)


def test_the_group_of_a_killed_worker_is_gone_before_the_next_attempt(tmp_path: Path) -> None:
    task, ledger = command(tmp_path)
    with running(workers=1) as daemon:
        client = daemon.client()
        number = client.submit(task)["first"]
        assert client.log_line(number)["text"] == "ready"
        killed_worker(client, number)
        client.wait(number)
        first = pids(ledger, 1)
        assert wait_gone(first["plain"], 5)
        assert wait_gone(first["parent"], 5)
        assert [attempt["outcome"] for attempt in client.show(number)["attempts_log"]] == ["crash", "done"]
        assert client.results(number)[0]["ok"]


def test_a_daemon_that_stops_leaves_nothing_behind(tmp_path: Path) -> None:
    task, ledger = command(tmp_path)
    with running(workers=1, drain_timeout=0) as daemon:
        client = daemon.client()
        number = client.submit(task)["first"]
        assert client.log_line(number)["text"] == "ready"
        first = pids(ledger, 1)
        daemon.stop()
        assert all(wait_gone(pid, 0) for pid in first.values())
