"""Options that the commands which submit have in common: what goes together is seen before any daemon is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gemflowctl.main import run


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def refused(*words: str) -> str:
        assert run(["--endpoint", "ipc:///nonexistent/socket", *words]) == 2
        return capsys.readouterr().err

    return refused


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "-f", "x.jsonl", "--retries", "0"),
        ("submit", "-f", "x.jsonl", "--delay", "0"),
        ("submit", "-f", "x.jsonl", "--after", "7"),
        ("prompt", "--each-line", "x", "--delay", "0"),
        ("prompt", "--each-line", "x", "--id", "a"),
    ],
    ids=" ".join,
)
def test_what_describes_one_task_is_refused_for_many_also_where_it_is_nothing(
    words: tuple[str, ...], refusal: Callable[..., str]
) -> None:
    assert f"{words[3]} describes one task" in refusal(*words)


@pytest.mark.parametrize(
    "command", [("submit", "gemini"), ("prompt", "x"), ("run", "x"), ("schedule", "add", "n", "@daily", "gemini")]
)
def test_all_that_submit_have_the_same_options_for_a_budget(
    command: tuple[str, ...], refusal: Callable[..., str]
) -> None:
    assert "--budget-action goes with --budget" in refusal(*command, "--budget-action", "warn")


def test_a_tier_is_for_what_calls_a_model(refusal: Callable[..., str]) -> None:
    for command in (("submit", "echo"), ("schedule", "add", "n", "@daily", "echo")):
        assert "--tier goes with the type gemini" in refusal(*command, "--tier", "flex")
