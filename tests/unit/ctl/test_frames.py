"""Frames as lines for `DEBUG`: sizes and times, and nothing of what somebody else may not see."""

from __future__ import annotations

import re

import pytest

from gemflowctl import frames
from gemflowctl.steps import Call
from gemflowctl.wire import Mailbox
from gemflowd.protocol import codec

SECRET = "hunter2-is-not-to-be-seen"


@pytest.mark.parametrize(
    ("debug", "traced"),
    [
        ("", False),
        ("parallel:queue", False),
        ("parallel:*", True),
        ("parallel:client", True),
        ("*", True),
        ("parallel:*,-parallel:client", False),
    ],
)
def test_who_asks_for_it(debug: str, traced: bool) -> None:
    assert (frames.trace({"DEBUG": debug}) is not None) == traced


def test_a_request_and_its_reply(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DEBUG", "parallel:*")
    mailbox = Mailbox(1.0)
    mailbox.new(Call("cancel", {"refs": ["f7", "42-48"]}), 0.0)
    pending = mailbox.new(Call("status"), 0.0)
    mailbox.deliver(codec.reply(1, {"cancelled": 3}))
    mailbox.again(pending, 0.0, counts=True)
    mailbox.deliver(codec.refusal(2, {"code": "overloaded", "message": SECRET}))
    out, err = capsys.readouterr()
    assert out == ""
    assert [re.sub(r"\d+ bytes", "n bytes", re.sub(r"[\d.]+ ms", "t ms", line)) for line in err.splitlines()] == [
        "parallel:client → cancel #1, n bytes {refs: [f7, 42-48]}",
        "parallel:client → status #2, n bytes {}",
        "parallel:client ← cancel #1 ok, n bytes, t ms {cancelled: 3}",
        "parallel:client → status #2 again, n bytes {}",
        "parallel:client ← status #2 refused, n bytes, t ms {code: overloaded, message: <25 chars>}",
    ]


def test_silent_unless_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DEBUG", raising=False)
    mailbox = Mailbox(1.0)
    mailbox.new(Call("ping"), 0.0)
    mailbox.deliver(codec.reply(1, {"now": 1.0}))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "body",
    [
        {"tasks": [{"type": "command", "data": {"env": {"API_KEY": SECRET}}}]},
        {"key": SECRET, "value": SECRET},
        {"key": "k", "value": {SECRET: 1}},
        {"key": "k", "value": [SECRET]},
        {"key": "k", "value": SECRET.encode()},
        {"set": {"default_model": SECRET}},
        {"results": [{"result": SECRET}]},
        {"result": {"text": SECRET}},
        {"data": {"prompt": SECRET}},
        {"metadata": {SECRET: SECRET}},
        {"lines": [{"text": SECRET}]},
        {"error": {"message": SECRET}},
        {"grow": {"task": 1, "token": SECRET}},
        {"topics": [SECRET] * 7},
    ],
    ids=str,
)
def test_what_people_put_in_is_not_shown(body: dict[str, object]) -> None:
    assert SECRET not in frames.shape(body)


def test_a_token_and_a_number_that_is_a_value_are_not_shown() -> None:
    assert frames.shape({"grow": {"task": 1, "token": 4711}, "value": 4711}) == "{grow: {task: 1, token: …}, value: …}"


def test_nothing_can_steer_the_terminal() -> None:
    assert frames.shape({"state": "\x1b[2J\u202e", "\x1b": 1}) == r"{state: \x1b[2J\u202e, \x1b: 1}"
