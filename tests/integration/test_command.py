"""The task type `command`, with real programs: pipes, exit codes, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gemflowd.handlers.command import command
from gemflowd.handlers.errors import AttemptCancelled, Permanent, Transient
from tests.helpers.contexts import make_context


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-c", code, *args]


def run(args: list[str], **data: Any) -> dict[str, Any]:
    context, _ = make_context("command")
    return command({"args": args, **data}, context)


@pytest.fixture(autouse=True)
def no_children() -> Iterator[None]:
    """Every test leaves no child behind, alive or zombie."""
    before = children()
    yield
    assert children() - before == set()


def children() -> set[str]:
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


# --- what goes in and comes out ---


def test_text_output_is_kept_as_it_is() -> None:
    assert run(["printf", "two\nlines\n"]) == {"stdout": "two\nlines\n", "exit_code": 0}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('{"a": [1, 2.5, null]}\n', {"a": [1, 2.5, None]}),
        ("42\n", 42),
        ('"text"', "text"),
        ("", ""),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('"\\ud800"', '"\\ud800"'),
        ("[" * 100_000, "[" * 100_000),
        ("{not json}", "{not json}"),
    ],
)
def test_json_output_is_parsed_when_it_can_be_stored(written: str, value: Any) -> None:
    assert run(["cat"], stdin=written)["stdout"] == value


def test_output_that_is_not_text_is_bytes() -> None:
    assert run(["printf", r"\377\376"])["stdout"] == b"\xff\xfe"


def test_stdin_takes_text_as_it_is_and_values_as_json() -> None:
    assert run(["cat"], stdin="plain ü")["stdout"] == "plain ü"
    assert run(["cat"], stdin={"b": [1, "ü"]})["stdout"] == {"b": [1, "ü"]}
    assert run(["cat"], stdin=[b"\x00"])["stdout"] == [{"$bytes": "AA=="}]


def test_without_stdin_a_program_gets_the_results_of_its_dependencies() -> None:
    context, _ = make_context(results={"research-a": {"text": "found"}})
    assert command({"args": ["cat"]}, context)["stdout"] == {"research-a": {"text": "found"}}
    assert command({"args": ["cat"], "stdin": None}, context)["stdout"] == ""
    assert run(["cat"])["stdout"] == ""


def test_environment_has_who_asks_and_what_the_task_adds_but_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "a-secret")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    environment = run(python(code), env={"GREETING": "hello"})["stdout"]
    assert environment["GREETING"] == "hello"
    assert environment["GEMFLOW_TASK"] == "42"
    assert environment["GEMFLOW_IDEMPOTENCY_KEY"] == "gemflow-7-42"
    assert "GEMINI_API_KEY" not in environment


def test_cwd(tmp_path: Path) -> None:
    assert run(["pwd"], cwd=str(tmp_path))["stdout"] == f"{tmp_path}\n"


def test_stderr_is_the_log_as_it_comes() -> None:
    context, said = make_context()
    command({"args": ["sh", "-c", "echo one >&2; printf 'two\\r\\n\\nthree' >&2; echo out"]}, context)
    assert said.lines == [("stderr", "one"), ("stderr", "two"), ("stderr", ""), ("stderr", "three")]


def test_a_line_without_end_is_logged_in_pieces() -> None:
    context, said = make_context()
    command({"args": python("import sys; sys.stderr.write('x' * 1_000_000)")}, context)
    assert sum(len(text) for text in said.stream("stderr")) == 1_000_000
    assert max(len(text) for text in said.stream("stderr")) <= 64 * 1024


def test_the_group_is_reported_before_anything_else() -> None:
    context, said = make_context()
    result = command({"args": python("import os; print(os.getpid(), os.getpgrp(), os.getsid(0))")}, context)
    (pid,) = said.process_groups
    assert result["stdout"].split() == [str(pid)] * 3


# --- pipes ---


def test_a_program_may_close_its_input_early() -> None:
    assert run(["true"], stdin="x" * 5_000_000) == {"stdout": "", "exit_code": 0}
    assert run(python("import os; os.close(0); print('done')"), stdin="x" * 5_000_000)["stdout"] == "done\n"


def test_much_on_all_pipes_does_not_deadlock() -> None:
    code = """
import sys, threading
reader = threading.Thread(target=lambda: total.append(len(sys.stdin.read())))
total = []
for _ in range(200):
    sys.stderr.write("e" * 9_999 + chr(10))
    sys.stdout.write("o" * 10_000)
reader.start(); reader.join()
print(total[0])
"""
    context, said = make_context()
    result = command({"args": python(code), "stdin": "i" * 3_000_000}, context)
    assert result["stdout"] == "o" * 2_000_000 + "3000000\n"
    assert said.stream("stderr") == ["e" * 9_999] * 200


def test_too_much_output_ends_the_program_and_the_task() -> None:
    context, _ = make_context(settings={"max_result_mb": 1})
    with pytest.raises(Permanent, match="1048576 bytes at most") as caught:
        command({"args": ["yes"]}, context)
    assert caught.value.code == "output_too_large"


# --- how it ends ---


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (1, Transient, "exit_code"),
        (75, Transient, "temporary"),
        (64, Permanent, "usage"),
        (65, Permanent, "data_error"),
    ],
)
def test_exit_codes(status: int, kind: type[Exception], code: str) -> None:
    with pytest.raises(kind, match=rf"exit code {status}.*: (?s:.*)the last words") as caught:
        run(["sh", "-c", f"echo first >&2; echo the last words >&2; exit {status}"])
    assert getattr(caught.value, "code") == code  # noqa: B009 - of either kind


def test_end_by_a_signal() -> None:
    with pytest.raises(Transient, match="signal 9") as caught:
        run(["sh", "-c", "kill -9 $$"])
    assert caught.value.code == "signal"


def test_what_can_not_be_started(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("no interpreter is named")
    plain = str(script)
    for args, data, code in [
        (["no-such-program-anywhere"], {}, "not_found"),
        ([plain], {}, "not_executable"),
        ([str(tmp_path)], {}, "not_executable"),
        (["true"], {"cwd": str(tmp_path / "missing")}, "not_found"),
        (["true"], {"cwd": plain}, "not_found"),
        (["true", "nul\0"], {}, "bad_arguments"),
        (["true"], {"env": {"A=B": "c"}}, "bad_arguments"),
        (["true", "x" * 4_000_000], {}, "bad_arguments"),
    ]:
        with pytest.raises(Permanent) as caught:
            run(args, **data)
        assert caught.value.code == code, (args[0], caught.value)
    script.chmod(0o755)
    with pytest.raises(Permanent) as caught:
        run([plain])
    assert caught.value.code == "not_executable"


def test_what_a_program_leaves_in_its_group_ends_with_it() -> None:
    alive, held = os.pipe()
    context, _ = make_context(pass_fds=(held,))
    try:
        assert command({"args": ["sh", "-c", "sleep 1000 & echo started"]}, context)["stdout"] == "started\n"
    finally:
        os.close(held)
    assert os.read(alive, 1) == b""  # the end of it: nobody holds the other end any more
    os.close(alive)


# --- being cancelled ---


class Cancelled:
    """Raises AttemptCancelled in the main thread as a worker does, once the program has said that it is ready."""

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.alive, self.held = os.pipe()
        self.sender = threading.Thread(target=self._send)

    def __enter__(self) -> Cancelled:
        def interrupt(number: int, frame: object) -> None:
            raise AttemptCancelled

        self.before = signal.signal(signal.SIGUSR1, interrupt)
        self.sender.start()
        return self

    def _send(self) -> None:
        for _ in range(self.times):
            if os.read(self.alive, 1):
                os.kill(os.getpid(), signal.SIGUSR1)

    def __exit__(self, *_: object) -> None:
        os.close(self.held)
        self.sender.join()
        signal.signal(signal.SIGUSR1, self.before)
        while os.read(self.alive, 1):  # until nobody of the group lives
            pass
        os.close(self.alive)

    def run(self, code: str, grace: float) -> list[str]:
        """Run Python code, which has `ready()`; what it logged."""
        ready = f"import os, signal, time\ndef ready(): os.write({self.held}, b'.')\n"
        context, said = make_context(pass_fds=(self.held,), grace=grace)
        with pytest.raises(AttemptCancelled):
            command({"args": python(ready + code)}, context)
        return said.stream("stderr")


def test_cancel_asks_politely_first(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code = f"""
def end(*_):
    open({str(trace)!r}, "w").write("tidied up")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
ready()
time.sleep(1000)
"""
    with Cancelled() as cancelled:
        cancelled.run(code, grace=60)
    assert trace.read_text() == "tidied up"


def test_cancel_kills_the_whole_group_after_the_grace_time() -> None:
    code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.fork()
ready()
while True: time.sleep(1000)
"""
    started = time.monotonic()
    with Cancelled() as cancelled:
        cancelled.run(code, grace=1.2)
    assert 0.15 < time.monotonic() - started < 30


def test_cancel_is_not_held_up_by_a_program_that_writes_on() -> None:
    code = """
def end(*_):
    os.write(1, b"x" * 1_000_000)
    os.write(2, b"x" * 1_000_000)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
ready()
while True: time.sleep(1000)
"""
    started = time.monotonic()
    with Cancelled() as cancelled:
        cancelled.run(code, grace=100)
    assert time.monotonic() - started < 60


def test_a_second_cancel_does_not_interrupt_the_first() -> None:
    code = """
def end(*_):
    ready()
    ready()
signal.signal(signal.SIGTERM, end)
ready()
while True: time.sleep(1000)
"""
    with Cancelled(times=3) as cancelled:
        cancelled.run(code, grace=1.5)


def test_a_cancel_may_come_at_any_moment() -> None:
    """Also between the fork and the knowing of it: the moments are spread over the whole life of a short program."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        inside = set()
        while frame is not None:
            inside.add(frame.f_code.co_name)
            frame = frame.f_back
        # Python swallows what is raised in a finalizer: there is nothing to see then.
        if "run_program" in inside and "__del__" not in inside:
            raise AttemptCancelled

    alive, held = os.pipe()
    context, _ = make_context(pass_fds=(held,), grace=1.0)
    before = signal.signal(signal.SIGALRM, interrupt)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        for step in range(200):
            signal.setitimer(signal.ITIMER_REAL, 0.00002 * (step + 1))
            with contextlib.suppress(AttemptCancelled):
                command({"args": ["sh", "-c", "sleep 1000 & echo done"]}, context)
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
        os.close(held)
    assert os.read(alive, 1) == b""
    # One that comes in the very act of closing a descriptor may cost that one.
    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before + 2
    os.close(alive)


def test_an_error_of_the_log_ends_the_program_too() -> None:
    alive, held = os.pipe()
    context, _ = make_context(pass_fds=(held,))

    def broken(stream: str, text: str) -> None:
        raise BrokenPipeError("the daemon is gone")

    context.emit = broken
    with pytest.raises(BrokenPipeError):
        command({"args": ["sh", "-c", "echo hello >&2; sleep 1000"]}, context)
    os.close(held)
    assert os.read(alive, 1) == b""
    os.close(alive)
