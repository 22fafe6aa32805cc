"""What programs leave behind when they have left their group, with real processes below a child subreaper, as a worker is one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gemflowd.handlers.command import command
from gemflowd.handlers.errors import AttemptCancelled, Permanent, Transient
from gemflowd.handlers.tool.handler import tool
from gemflowd.host.process import children_of
from gemflowd.worker import orphans
from gemflowd.worker.orphans import MANY, reap_orphans
from tests.helpers.contexts import make_context

#: As a daemon of the old school: two forks, a session, no environment, no descriptors; says its number in a file.
DAEMON = """
import os, sys, time
if os.fork():
    sys.exit()
os.setsid()
if os.fork():
    os._exit(0)
for descriptor in range(3):
    os.close(descriptor)
os.execve(sys.executable, [sys.executable, '-c', '''
import os, sys, time
place = os.open(sys.argv[1], os.O_WRONLY)
os.write(place, b"%d%c" % (os.getpid(), 10))
time.sleep(1000)
''', sys.argv[1]], {})
"""


@pytest.fixture(autouse=True)
def subreaper() -> Iterator[None]:
    """What a test leaves is found here, and it leaves nothing: neither alive nor as a zombie."""
    from gemflowd.host import process

    process.become_subreaper()
    before = set(children_of(os.getpid()))
    try:
        yield
        assert set(children_of(os.getpid())) - before == set()
    finally:
        process._prctl(process._PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def held() -> Iterator[tuple[int, int]]:
    """A pipe: whoever has inherited its second end still lives as long as the first has no end."""
    alive, end = os.pipe()
    yield alive, end
    os.close(alive)


def run(*args: str, held: int, **data: Any) -> Any:
    context, _ = make_context(pass_fds=(held,))
    try:
        return command({"args": list(args), **data}, context)["stdout"]
    finally:
        os.close(held)


def test_a_session_of_its_own(held: tuple[int, int]) -> None:
    alive, end = held
    assert run("sh", "-c", "setsid sleep 1000 & echo started", held=end) == "started\n"
    assert os.read(alive, 1) == b""


def test_a_daemon_without_environment(held: tuple[int, int], tmp_path: Any) -> None:
    alive, end = held
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    # The program ends when the daemon runs, and not before.
    script = '"$0" -c "$1" "$2" && read pid < "$2"; echo "$pid"'
    pid = int(run("sh", "-c", script, sys.executable, DAEMON, str(fifo), held=end))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert os.read(alive, 1) == b""


def test_what_the_left_have_left_in_their_turn(held: tuple[int, int]) -> None:
    alive, end = held
    deep = """setsid sh -c 'setsid sh -c "setsid sleep 1000 & wait" & wait'"""
    assert run("sh", "-c", f"{deep} & echo started", held=end) == "started\n"
    assert os.read(alive, 1) == b""


def test_a_writer_that_holds_the_pipes_open_holds_nothing_up(held: tuple[int, int]) -> None:
    alive, end = held
    script = "setsid sh -c 'while :; do echo more; echo more >&2; done' & echo first"
    assert run("sh", "-c", script, held=end).startswith(("first\n", "more\n"))
    assert os.read(alive, 1) == b""


@pytest.mark.parametrize("ending", ["exit 65", "kill -9 $$", "yes"])
def test_also_when_the_program_fails(held: tuple[int, int], ending: str) -> None:
    alive, end = held
    context, _ = make_context(pass_fds=(end,), settings={"max_result_mb": 1})
    with pytest.raises((Permanent, Transient)):
        command({"args": ["sh", "-c", f"setsid sleep 1000 & {ending}"]}, context)
    os.close(end)
    assert os.read(alive, 1) == b""


def test_also_when_it_is_cancelled(held: tuple[int, int]) -> None:
    alive, end = held

    def cancel(text: str) -> None:
        raise AttemptCancelled

    context, _ = make_context(pass_fds=(end,), grace=3.0)
    context.emit = lambda stream, text: cancel(text)
    with pytest.raises(AttemptCancelled):
        command({"args": ["sh", "-c", "setsid sleep 1000 & echo ready >&2; wait"]}, context)
    os.close(end)
    assert os.read(alive, 1) == b""


def test_also_of_a_line_of_shell(tmp_path: Any, held: tuple[int, int]) -> None:
    alive, end = held
    context, _ = make_context(settings={"tool_shell": True, "workspace": str(tmp_path)}, pass_fds=(end,))
    tool({"tool": "shell", "command": "setsid sleep 1000 & echo started"}, context)
    os.close(end)
    assert os.read(alive, 1) == b""


def test_what_the_handler_has_started_itself_is_left_alone(held: tuple[int, int]) -> None:
    alive, end = held
    mine = [
        subprocess.Popen(["sleep", "1000"], start_new_session=True),  # before
        subprocess.Popen(["sh", "-c", "exit 7"], start_new_session=True),
    ]
    meanwhile: list[subprocess.Popen[bytes]] = []
    done = threading.Event()

    def another_thread() -> None:
        meanwhile.append(subprocess.Popen(["sleep", "1000"], start_new_session=True))
        meanwhile.append(subprocess.Popen(["sleep", "1000"]))
        os.write(told, b"\n")
        done.wait()

    reading, told = os.pipe()
    thread = threading.Thread(target=another_thread)
    try:
        context, _ = make_context(pass_fds=(end, reading))
        thread.start()
        script = f"setsid sleep 1000 & read line < /dev/fd/{reading}; echo ended"
        assert command({"args": ["sh", "-c", script]}, context)["stdout"] == "ended\n"
        os.close(end)
        assert os.read(alive, 1) == b""
        assert mine[0].poll() is None
        assert mine[1].wait() == 7
        assert [process.poll() for process in meanwhile] == [None, None]
    finally:
        done.set()
        thread.join()
        os.close(reading)
        os.close(told)
        for process in mine + meanwhile:
            process.kill()
            process.wait()


# Zombies that a worker has adopted from other handlers


def ended_children() -> list[int]:
    return [pid for pid in children_of(os.getpid()) if orphans._has_ended(pid)]


def adopt(how_many: int) -> None:
    """Orphans, all of them ended."""
    code = f"import os\nfor _ in range({how_many}): os.fork() or os._exit(0)\nos._exit(0)"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)
    for pid in children_of(os.getpid()):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_orphans_are_reaped_when_they_are_many() -> None:
    adopt(MANY)
    known = subprocess.Popen(["sh", "-c", "exit 7"])
    os.waitid(os.P_PID, known.pid, os.WEXITED | os.WNOWAIT)
    assert len(ended_children()) == MANY + 1
    assert reap_orphans(many=1000) == 0
    assert reap_orphans() == MANY
    assert ended_children() == [known.pid]
    assert known.wait() == 7
    assert reap_orphans() == 0


def test_a_process_of_multiprocessing_is_known() -> None:
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=os._exit, args=(5,))
    process.start()
    os.waitid(os.P_PID, process.pid or 0, os.WEXITED | os.WNOWAIT)
    assert reap_orphans(many=1) == 0
    process.join()
    assert process.exitcode == 5
