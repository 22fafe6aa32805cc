"""What tokens cost, and the file that says so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from gemflowd.config.prices import load_prices
from gemflowd.model.errors import ConfigError
from gemflowd.model.prices import NANO, Price, Prices, Rate, Tokens, model_of, nano_of, tokens_of

EXAMPLE = Path(__file__).parents[2] / "docs" / "prices.example.toml"
GOOD = """
currency = "EUR"
date = 2026-03-01
source = "a page"
[tiers]
flex = 0.5
priority = 1.8
[models."gemini-x"]
input = 0.30
cached = 0.075
output = 2.50
above = [{ prompt_tokens = 200_000, input = 0.60, output = 5 }]
[models."gemini-x-*"]
input = 1
output = 2
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def used(prompt: int = 0, cached: int = 0, output: int = 0, thoughts: int = 0) -> Tokens:
    return Tokens(prompt, cached, output, thoughts, prompt + output + thoughts)


def test_a_table_is_read(tmp_path: Path):
    prices = load_prices(written(tmp_path / "p.toml", GOOD))
    assert (prices.currency, prices.date, prices.source) == ("EUR", "2026-03-01", "a page")
    assert prices.cost("gemini-x", used(1000, 400, 100, 20)) == 600 * 300 + 400 * 75 + 120 * 2500
    assert prices.cost("models/gemini-x", used(200_000)) == 200_000 * 300
    assert prices.cost("gemini-x", used(200_001, output=1)) == 200_001 * 600 + 5000
    assert prices.cost("gemini-x-001", used(1)) == 1000
    assert prices.cost("gemini-y", used(1)) is None


def test_tiers(tmp_path: Path):
    prices = load_prices(written(tmp_path / "p.toml", GOOD))
    full = prices.cost("gemini-x", used(1000), "standard")
    assert full == prices.cost("gemini-x", used(1000)) == 300_000
    assert prices.cost("gemini-x", used(1000), "flex") == 150_000
    assert prices.cost("gemini-x", used(1000), "priority") == 540_000
    assert prices.cost("gemini-x", used(1000), "express") is None, "a tier that nobody has named has no price"


def test_a_cost_is_rounded_once():
    price = Price(Rate(500_000, 500_000, 500_000))  # half a billionth for a token
    prices = Prices({"m": price}, {"flex": Fraction(1, 2)})
    assert prices.cost("m", used(1, output=1)) == 1
    assert prices.cost("m", used(1)) == 1
    assert prices.cost("m", used(1), "flex") == 0
    assert prices.cost("m", used(2), "flex") == 1


def test_the_longest_stem_counts():
    some, more = Price(Rate(NANO, NANO, NANO)), Price(Rate(2 * NANO, NANO, NANO))
    prices = Prices({"*": some, "gemini-*": more})
    assert prices.of("gemini-x") is more
    assert prices.of("other") is some


def test_all_problems_at_once(tmp_path: Path):
    bad = """
currency = "dollars"
colour = 1
[tiers]
flex = -1
[models."a b"]
input = 1
output = 1
[models.x]
input = "cheap"
speed = 1
above = [{ prompt_tokens = 5, input = 1, output = 1 }, { prompt_tokens = 5, input = nan, output = 1 }]
[models.y]
input = 0.0000000001
output = 1
"""
    path = written(tmp_path / "p.toml", bad)
    with pytest.raises(ConfigError) as caught:
        load_prices(path)
    problems = caught.value.problems
    assert all(problem.startswith(f"{path}: ") for problem in problems)
    for word in (
        "'colour'", "currency must", "source must", "date must", "tiers.flex", "'a b'", "'x': input must",
        "'x': output is missing", "'speed'", "above[1]: prompt_tokens", "'y': input has more than nine",
    ):  # fmt: skip
        assert any(word in problem for problem in problems), word


@pytest.mark.parametrize(
    "text", ["x = [", "models = 1\nsource='s'\ndate=2026-01-01", "source='s'\ndate=2026-01-01\n[models]\nm=1"]
)
def test_what_is_no_table(tmp_path: Path, text: str):
    with pytest.raises(ConfigError):
        load_prices(written(tmp_path / "p.toml", text))


def test_the_example_that_is_shipped_is_a_table_without_prices():
    prices = load_prices(EXAMPLE)
    assert prices.models == {}


def test_the_example_works_once_its_lines_are_uncommented(tmp_path: Path):
    lines = EXAMPLE.read_text().splitlines()
    text = "\n".join(line.removeprefix("#: ") for line in lines)
    prices = load_prices(written(tmp_path / "p.toml", text))
    assert prices.of("gemini-2.5-pro") is not None


@pytest.mark.parametrize(
    ("amount", "nano"), [(2.5, 2_500_000_000), ("0.1", 10**8), (0.000000001, 1), (3, 3 * NANO), (1e9, 10**18)]
)
def test_amounts(amount: object, nano: int):
    assert nano_of(amount) == nano


@pytest.mark.parametrize("amount", [-1, "x", float("nan"), float("inf"), 1e10, True, None, "0.0000000001", ""])
def test_what_is_no_amount(amount: object):
    with pytest.raises(ValueError, match="m"):
        nano_of(amount)


def test_tokens_of_whatever_a_handler_writes():
    assert tokens_of({"prompt_tokens": 3, "tool_prompt_tokens": 2, "output_tokens": 4, "thought_tokens": 1}) == (
        5,
        0,
        4,
        1,
        10,
    )
    assert tokens_of({"prompt_tokens": -1, "output_tokens": True, "total_tokens": "7", "cached_tokens": 2.5}) == (
        0,
        0,
        0,
        0,
        0,
    )


def test_the_model_of_a_limit():
    assert model_of("gemini:gemini-x") == "gemini-x"
    assert model_of("site:example.org") is None
    assert model_of(None) is None
