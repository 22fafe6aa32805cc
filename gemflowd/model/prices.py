"""What tokens cost. Money is counted in whole billionths of the currency's unit, so that sums are exact.

Does not cover: where the figures come from (`config.prices`), what is done with a cost (`core.budgets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final, NamedTuple

#: Of these one unit of the currency has.
NANO: Final = 10**9
#: The largest amount: sums of some of them must fit into 64 bits.
MOST_MONEY: Final = 10**9 * NANO
MOST_TOKENS: Final = 10**15
#: The most that one attempt counts for, in tokens of one kind and in money: whatever a handler writes, sums fit into 64 bits.
_MOST_COUNT: Final = 10**9
_MOST_COST: Final = 10**6 * NANO
_MILLION: Final = 10**6
#: The tier that costs what the table says, and other names of it.
STANDARD: Final = "standard"
_STANDARD: Final = frozenset({"", STANDARD, "unspecified", "default"})
_MOST_TIER: Final = 64
#: Where a usage has its counts.
_COUNTS: Final = ("prompt_tokens", "output_tokens", "thought_tokens", "total_tokens")
#: What a limit that is a model's quota begins with, before the model's name.
_BUCKET: Final = "gemini:"


class Tokens(NamedTuple):
    """What one call used. `cached` are among `prompt`."""

    prompt: int
    cached: int
    output: int
    thoughts: int
    total: int

    @property
    def answered(self) -> int:
        """All that is paid for as output."""
        return self.output + self.thoughts


@dataclass(frozen=True, slots=True)
class Rate:
    """What a million tokens cost, in billionths."""

    input: int
    cached: int
    output: int


@dataclass(frozen=True, slots=True)
class Price:
    """One model's. `above`: (tokens, rate) in rising order; the rate counts for prompts with more tokens than that."""

    rate: Rate
    above: tuple[tuple[int, Rate], ...] = ()

    def rate_for(self, prompt: int) -> Rate:
        rate = self.rate
        for tokens, dearer in self.above:
            if prompt > tokens:
                rate = dearer
        return rate


@dataclass(frozen=True, slots=True)
class Prices:
    """A table of prices.

    Attributes:
        models: by name; one that ends with `*` stands for all that begin so, the longest counts.
        tiers: what a service tier multiplies prices by.
        date, source, file: where the figures come from, for people.
    """

    models: Mapping[str, Price] = field(default_factory=dict)
    tiers: Mapping[str, Fraction] = field(default_factory=dict)
    currency: str = "USD"
    date: str | None = None
    source: str | None = None
    file: str | None = None

    def of(self, model: str) -> Price | None:
        """The price of a model, None where there is none."""
        name = model.removeprefix("models/")
        found = self.models.get(name)
        if found is not None:
            return found
        stems = [stem for stem in self.models if stem.endswith("*") and name.startswith(stem[:-1])]
        return self.models[max(stems, key=len)] if stems else None

    def cost(self, model: str, used: Tokens, tier: str = "") -> int | None:
        """In billionths, rounded half up; None: not known, because model or tier has no price."""
        price = self.of(model)
        factor = Fraction(1) if tier in _STANDARD else self.tiers.get(tier)
        if price is None or factor is None:
            return None
        rate = price.rate_for(used.prompt)
        cached = min(used.cached, used.prompt)
        parts = (used.prompt - cached) * rate.input + cached * rate.cached + used.answered * rate.output
        above, below = parts * factor.numerator, factor.denominator * _MILLION
        return min((2 * above + below) // (2 * below), _MOST_COST)


def model_of(bucket: str | None) -> str | None:
    """The model that tasks under a limit call; None: they call none."""
    return bucket[len(_BUCKET) :] if bucket is not None and bucket.startswith(_BUCKET) else None


def tokens_of(usage: Mapping[str, Any]) -> Tokens:
    """What an attempt's usage says, whoever wrote it: what is no count is none."""

    def count(name: str) -> int:
        value = usage.get(name)
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_COUNT
        return int(value) if good and value is not None else 0

    prompt = count("prompt_tokens") + count("tool_prompt_tokens")
    output, thoughts = count("output_tokens"), count("thought_tokens")
    return Tokens(prompt, count("cached_tokens"), output, thoughts, count("total_tokens") or prompt + output + thoughts)


def tells_tokens(usage: Mapping[str, Any]) -> bool:
    """Whether an attempt's usage says how many tokens it used, be it none."""
    return any(usage.get(name) is not None for name in _COUNTS)


def tier_of(usage: Mapping[str, Any]) -> str:
    """The tier that has served an attempt, by its usage, whoever wrote it."""
    tier = usage.get("service_tier")
    if not isinstance(tier, str) or tier in _STANDARD:
        return STANDARD
    return tier[:_MOST_TIER] if tier.isascii() else "?"


def nano_of(amount: object) -> int:
    """An amount of money, as people write it, in billionths.

    Raises:
        ValueError: it is no amount from 0 to a billion, or has more than nine digits behind the point.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | float | str | Decimal):
        raise ValueError("must be an amount of money")  # noqa: TRY004 - one kind of error for whoever checks what was sent
    try:
        exact = Decimal(str(amount).strip()) * NANO
    except InvalidOperation:
        raise ValueError("must be an amount of money") from None
    if not (exact.is_finite() and 0 <= exact <= MOST_MONEY):
        raise ValueError(f"must be from 0 to {MOST_MONEY // NANO}")
    if exact != exact.to_integral_value():
        raise ValueError("has more than nine digits behind the point")
    return int(exact)


def money_of(nano: int | None) -> float | None:
    """Billionths as an amount for people and programs outside."""
    return None if nano is None else nano / NANO
