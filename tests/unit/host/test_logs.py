"""The formats, the choice between them, DEBUG, and that secrets are blanked. Lines are read back from the stream."""

import io
import json
import logging
import os
import re

import pytest

from gemflowd.host import logs

KEY = "AIzaSy-not-a-real-key"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch):
    """Logging is the process's: give it back as it was."""
    root, ours = logging.getLogger(), logging.getLogger(logs.ROOT)
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(logs, "_secrets", set())
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def lines(style: str, *, environ: dict[str, str] | None = None, stream: io.StringIO | None = None):
    """A logger, and what it wrote."""
    stream = stream or io.StringIO()
    log = logs.set_up(style, environ=environ or {}, stream=stream)
    return log.getChild("pool"), lambda: stream.getvalue().splitlines()


def test_human_on_a_terminal_is_coloured():
    log, written = lines("auto", stream=Terminal())
    log.warning("worker %d died", 3, extra={"pid": 42})
    [line] = written()
    assert re.fullmatch(r"\x1b\[33m\d\d:\d\d:\d\d\.\d{3} warning  pool: worker 3 died pid=42\x1b\[0m", line)


def test_no_color_is_respected():
    log, written = lines("auto", environ={"NO_COLOR": "1"}, stream=Terminal())
    log.warning("x")
    assert "\x1b" not in written()[0]


def test_a_message_cannot_steer_the_terminal():
    log, written = lines("human")
    log.info("\x1b[2Jgone\r")
    assert written()[0].endswith("pool: �[2Jgone�")


def test_elsewhere_it_is_logfmt():
    log, written = lines("auto")
    log.info('said "hello"', extra={"task": 42, "why": "two words", "none": None})
    [line] = written()
    assert re.fullmatch(
        r'ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info logger=gemflow.pool msg="said \\"hello\\"" task=42'
        r' why="two words" none=None',
        line,
    )


def test_logfmt_keeps_a_traceback_in_one_line():
    log, written = lines("logfmt")
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        log.exception("failed")
    [line] = written()
    assert "level=error" in line
    assert r"ValueError: bad\nvalue" in line


def test_json():
    log, written = lines("json")
    log.error("straße", extra={"task": 42, "refs": [1, 2]})
    line = json.loads(written()[0])
    assert line.pop("ts") > 1e9
    assert line == {"level": "error", "logger": "gemflow.pool", "message": "straße", "task": 42, "refs": "[1, 2]"}


@pytest.mark.parametrize("style", ["auto", "json"])
def test_journald_gets_priorities(style: str):
    read, write = os.pipe()
    with os.fdopen(read) as reader, os.fdopen(write, "w", buffering=1) as writer:
        status = os.fstat(write)
        log = logs.set_up(
            style,
            environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}", "DEBUG": "parallel:*"},
            stream=writer,
        )
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            log.log(level, "x")
            assert reader.readline().startswith(f"<{ {10: 7, 20: 6, 30: 4, 40: 3, 50: 2}[level] }>")


def test_a_redirected_stderr_is_not_the_journal():
    log, written = lines("auto", environ={"JOURNAL_STREAM": "8:12345"})
    log.info("x")
    assert written()[0].startswith("ts=")


@pytest.mark.parametrize(
    ("debug", "shown"),
    [
        ("", set()),
        ("1", set()),
        ("express:*", set()),
        ("parallel:*", {"pool", "queue"}),
        ("parallel:queue", {"queue"}),
        ("express:*, parallel:pool parallel:queue", {"pool", "queue"}),
    ],
)
def test_debug(debug: str, shown: set[str]):
    log, written = lines("json", environ={"DEBUG": debug})
    for room in ("pool", "queue"):
        log.parent.getChild(room).debug(room)
    assert {json.loads(line)["message"] for line in written()} == shown


def test_libraries_come_through_from_warnings_up():
    _, written = lines("json", environ={"DEBUG": "parallel:*"})
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").warning("trouble")
    assert [json.loads(line)["message"] for line in written()] == ["trouble"]


@pytest.mark.parametrize("style", ["human", "logfmt", "json"])
def test_secrets_are_blanked_everywhere(style: str):
    quoted = 'a"quoted\\secret'
    log, written = lines(style, environ={"GEMINI_API_KEY": KEY})
    logs.add_secret(quoted)
    try:
        raise RuntimeError(f"refused {KEY} and {quoted}")
    except RuntimeError:
        log.exception("with %s", {"key": KEY}, extra={"url": f"https://x/?key={KEY}", "more": [quoted]})
    text = "\n".join(written())
    assert KEY not in text
    assert quoted not in text
    assert quoted not in text.replace('\\"', '"').replace("\\\\", "\\")
    assert text.count(logs.BLANK) >= 4


def test_a_short_secret_does_not_blank_words():
    logs.add_secret("")
    logs.add_secret("task")
    assert logs.redact("a task") == "a task"


def test_a_secret_that_is_part_of_another():
    logs.add_secret("12345678")
    logs.add_secret("12345678-and-more")
    assert logs.redact("12345678-and-more") == logs.BLANK
