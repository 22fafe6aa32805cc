"""The log: lines on stderr, for a person, for journald or for a program. Where they go after that is not ours.

Formats: `human` (coloured on a terminal), `logfmt` (`key=value`, always one line) and `json` (one object a line).
`auto` is `human` on a terminal and `logfmt` elsewhere. Under journald a line begins with its priority (sd-daemon(3))
and carries no time, since journald knows it.

Loggers are named `gemflow.<room>`, see `model.debugging`. `DEBUG=parallel:*` shows the debug lines of all of them,
`DEBUG=parallel:queue,parallel:pool` those of `gemflow.queue` and `gemflow.pool`, `DEBUG=parallel:*,-parallel:server` all but
those of `gemflow.server`: as in npm's `debug`, where `*` stands for any letters and `-` wins. Debug lines have numbers,
names and sizes, never what a task or a request holds. Fields are given by `extra`: `log.info("started", extra={"task": 42})`.

Known secrets are blanked in all that is written, tracebacks included. That is a net: no code may log one on purpose.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, TextIO

from gemflowd.model.debugging import ROOMS, rooms_of

ROOT: Final = "gemflow"
FORMATS: Final = ("auto", "json", "logfmt", "human")
SECRET_VARIABLES: Final = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
#: Shorter values would blank ordinary words.
SHORTEST_SECRET: Final = 8
BLANK: Final = "[secret]"

_COLOURS: Final = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN: Final = re.compile(r"[^\s\"=\\\x00-\x1f\x7f-\x9f]+")
# Without these a message could move the cursor or forge lines. Line breaks stay, for tracebacks.
_CONTROL: Final = {code: "�" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}

_secrets: set[str] = set()
_style = "auto"


def add_secret(value: str) -> None:
    """Blank `value` in every line from now on. Too short a value is ignored, see `SHORTEST_SECRET`."""
    if len(value) >= SHORTEST_SECRET:
        _secrets.add(value)


def redact(text: str) -> str:
    """`text` with the known secrets blanked."""
    for secret in sorted(_secrets, key=len, reverse=True):  # the longest first: one may be part of another
        text = text.replace(secret, BLANK)
    return text


def set_up(
    style: str = "auto",
    *,
    environ: Mapping[str, str] = os.environ,
    stream: TextIO | None = None,
) -> logging.Logger:
    """Send all logging of this process to stderr. May be called again; the last call holds.

    Args:
        style: one of `FORMATS`.
        environ: where `DEBUG`, `NO_COLOR`, `JOURNAL_STREAM` and the keys to blank are looked up.
        stream: instead of stderr.

    Returns:
        the logger `gemflow`, whose children the rooms use.
    """
    global _style
    assert style in FORMATS, style
    _style = style
    for name in SECRET_VARIABLES:
        add_secret(environ.get(name, ""))
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(style, stream, environ))
    # Libraries come through from warnings up; their chatter is theirs.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    _set_levels(environ.get("DEBUG", ""))
    return logging.getLogger(ROOT)


def style() -> str:
    """The format that this process was set up with, for the processes that it starts."""
    return _style


def _set_levels(debug: str) -> None:
    root = logging.getLogger(ROOT)
    shown = rooms_of(debug)
    root.setLevel(logging.DEBUG if len(shown) == len(ROOMS) else logging.INFO)
    for room in ROOMS:
        root.getChild(room).setLevel(logging.DEBUG if room in shown else logging.NOTSET)


def _formatter(style: str, stream: TextIO, environ: Mapping[str, str]) -> logging.Formatter:
    terminal = stream.isatty()
    if style == "auto":
        style = "human" if terminal else "logfmt"
    journal = _is_journal(stream, environ.get("JOURNAL_STREAM", ""))
    if style == "json":
        return _Json(journal)
    if style == "logfmt":
        return _Logfmt(journal)
    return _Human(colour=terminal and not environ.get("NO_COLOR"))


def _is_journal(stream: TextIO, journal_stream: str) -> bool:
    """Whether the stream leads to journald, by device and inode: it may be redirected (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def _exception(record: logging.LogRecord) -> str:
    """The traceback as text, once made also kept in the record, as `logging` does."""
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return redact(record.exc_text or "")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What `extra` added, with strings blanked; what JSON does not know becomes its text."""
    return {key: _clean(value) for key, value in vars(record).items() if key not in _STANDARD}


def _clean(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))


class _Human(logging.Formatter):
    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        room = record.name.removeprefix(f"{ROOT}.")
        line = f"{clock}.{int(record.msecs):03d} {record.levelname.lower():<8} {room}: {redact(record.getMessage())}"
        line += "".join(f" {key}={_quote(value)}" for key, value in _fields(record).items())
        if text := _exception(record):
            line += f"\n{text}"
        line = line.translate(_CONTROL)
        code = _COLOURS.get(record.levelno)
        return f"\x1b[{code}m{line}\x1b[0m" if self._colour and code else line


class _Logfmt(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        pairs: dict[str, Any] = {} if self._journal else {"ts": _utc(record)}
        pairs |= {"level": record.levelname.lower(), "logger": record.name, "msg": redact(record.getMessage())}
        pairs |= _fields(record)
        if text := _exception(record):
            pairs["exc"] = text
        return _priority(record, self._journal) + " ".join(f"{key}={_quote(value)}" for key, value in pairs.items())


class _Json(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        line = _fields(record)
        line |= {
            "ts": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if text := _exception(record):
            line["exception"] = text
        return _priority(record, self._journal) + json.dumps(line, ensure_ascii=False)


def _priority(record: logging.LogRecord, journal: bool) -> str:
    """The prefix by which journald knows a line's priority (syslog(3)); it takes it off again."""
    if not journal:
        return ""
    above = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
    return f"<{next((number for level, number in above if record.levelno >= level), 7)}>"


def _utc(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _quote(value: Any) -> str:
    """A logfmt value: as it is where it is one plain word, else as a JSON string, which has no line breaks."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
