"""How budgets are named on the command line, and shown."""

from __future__ import annotations

from typing import Any

import click
import pytest

from gemflowctl.commands.budget.showing import money, sentence, target_and_amount
from gemflowctl.commands.budget_options import budget_of


@pytest.mark.parametrize(
    ("words", "of", "amount"),
    [
        ("f7 5.00", "f7", 5.0),
        ("flow f7 5", "f7", 5.0),
        ("f7/research-a +0.5", "f7/research-a", 0.5),
        ("task 42 0.10", "42", 0.1),
        ("42", "42", None),
        ("queue night 3", "queue:night", 3.0),
        ("queue day", "queue:day", None),
        ("day 20", "day", 20.0),
        ("total", "total", None),
    ],
)
def test_words(words: str, of: str, amount: float | None) -> None:
    assert target_and_amount(words.split()) == (of, amount)


@pytest.mark.parametrize("words", ["", "flow", "queue", "f7 much", "f7 1 2", "day nan", "day 1e10"])
def test_what_is_no_budget(words: str) -> None:
    with pytest.raises(click.UsageError):
        target_and_amount(words.split())


@pytest.mark.parametrize(
    ("amount", "shown"), [(2.5, "2.50"), (0.0000702, "0.0000702"), (0, "0.00"), (1e-9, "0.000000001"), (None, None)]
)
def test_money(amount: float | None, shown: str | None) -> None:
    assert money(amount) == shown


def test_a_sentence() -> None:
    nothing = {"money": 0.0, "tokens": 0}
    budget: dict[str, Any] = {
        "of": "f7", "state": "held", "reason": None, "money": 2.5, "tokens": 100, "action": "hold",
        "spent": {"money": 2.0, "tokens": 80}, "assumed": {"money": 0.5, "tokens": 10}, "reserved": nothing,
    }  # fmt: skip
    assert sentence(budget, "USD") == "the budget of f7 is held, 2.50 of 2.50 USD, 90 of 100 tokens, action hold"
    waiting = {**budget, "state": "waiting", "tokens": None, "reserved": {"money": 0.25, "tokens": 9}}
    assert "2.50 (+0.25 in flight) of 2.50 USD" in sentence(waiting, "USD")


def test_the_options_of_submit() -> None:
    none = {"budget": None, "budget_tokens": None, "budget_action": None}
    assert budget_of(none) is None
    assert budget_of({**none, "budget": "2.50", "budget_action": "warn"}) == {"money": 2.5, "action": "warn"}
    assert budget_of({**none, "budget_tokens": 0}) == {"tokens": 0}
    with pytest.raises(click.UsageError):
        budget_of({**none, "budget_action": "warn"})
