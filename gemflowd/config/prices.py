"""`prices.toml`: what models cost. A file that people edit, with date and source; all its problems are told at once.

    currency = "USD"
    date = 2026-03-01
    source = "https://…"
    [tiers]
    flex = 0.5
    [models."gemini-2.5-flash"]   # per million tokens
    input = 0.30
    cached = 0.03
    output = 2.50
    above = [{ prompt_tokens = 200_000, input = 0.60, output = 5.00 }]

Does not cover: what is made of the figures (`model.prices`).
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from gemflowd.model.errors import ConfigError
from gemflowd.model.prices import NANO, Price, Prices, Rate

_KEYS: Final = ("currency", "date", "source", "tiers", "models")
_RATES: Final = ("input", "cached", "output")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_MODEL: Final = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._@/-]{0,254}\*?")
_TIER: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
#: Of a million tokens, and of a tier's factor.
_MOST_PRICE: Final = 1_000_000
_MOST_FACTOR: Final = 100


def load_prices(path: Path | None) -> Prices:
    """Read the table; None: there is none, and no cost is known.

    Raises:
        ConfigError: with every problem, each beginning with the file's path.
    """
    if path is None:
        return Prices()
    try:
        table = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([f"{path}: {error}"]) from None
    problems: list[str] = []
    prices = _prices(table, path, problems)
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return prices


def _prices(table: Mapping[str, Any], path: Path, problems: list[str]) -> Prices:
    _unknown(table, _KEYS, "", problems)
    currency, source, date = table.get("currency", "USD"), table.get("source"), table.get("date")
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        problems.append("currency must be three capital letters, such as USD")
    if not isinstance(source, str) or not source.strip():
        problems.append("source must say where the figures come from")
    if not isinstance(date, datetime.date):
        problems.append("date must be the day on which the figures were right, such as 2026-03-01")
    return Prices(
        models=_models(table.get("models", {}), problems),
        tiers=_tiers(table.get("tiers", {}), problems),
        currency=str(currency),
        date=date.isoformat()[:10] if isinstance(date, datetime.date) else None,
        source=str(source),
        file=str(path),
    )


def _tiers(table: object, problems: list[str]) -> dict[str, Fraction]:
    found: dict[str, Fraction] = {}
    if not isinstance(table, dict):
        problems.append("tiers must be a table of factors")
        return found
    for name, value in table.items():
        if not _TIER.fullmatch(name):
            problems.append(f"tiers: {name[:80]!r} is no name of a service tier")
        elif not _number(value) or not 0 <= value <= _MOST_FACTOR:
            problems.append(f"tiers.{name} must be a factor from 0 to {_MOST_FACTOR}")
        else:
            found[name] = Fraction(value)
    return found


def _models(table: object, problems: list[str]) -> dict[str, Price]:
    found: dict[str, Price] = {}
    if not isinstance(table, dict):
        problems.append("models must be a table of models")
        return found
    for name, its in table.items():
        where = f"models.{name[:80]!r}"
        if not _MODEL.fullmatch(name):
            problems.append(f"{where} is no name of a model, nor the beginning of one with `*` behind it")
        elif not isinstance(its, dict):
            problems.append(f"{where} must be a table with input and output")
        else:
            _unknown(its, (*_RATES, "above"), where, problems)
            found[name.removeprefix("models/")] = Price(_rate(its, where, problems), _above(its, where, problems))
    return found


def _above(its: Mapping[str, Any], where: str, problems: list[str]) -> tuple[tuple[int, Rate], ...]:
    steps = its.get("above", [])
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        problems.append(f"{where}: above must be a list of tables with prompt_tokens, input and output")
        return ()
    found: list[tuple[int, Rate]] = []
    for index, step in enumerate(steps):
        place = f"{where}: above[{index}]"
        _unknown(step, (*_RATES, "prompt_tokens"), place, problems)
        tokens = step.get("prompt_tokens")
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens <= (found[-1][0] if found else 0):
            problems.append(f"{place}: prompt_tokens must be a whole number of tokens, more than in the step before")
            continue
        found.append((tokens, _rate(step, place, problems)))
    return tuple(found)


def _rate(its: Mapping[str, Any], where: str, problems: list[str]) -> Rate:
    """Cached tokens cost as much as others where nothing is said."""
    nano: dict[str, int] = {}
    for name in _RATES:
        value = its.get(name)
        if value is None and name == "cached":
            continue
        if value is None:
            problems.append(f"{where}: {name} is missing: what a million tokens cost")
        elif not _number(value) or not 0 <= value <= _MOST_PRICE:
            problems.append(f"{where}: {name} must be a price from 0 to {_MOST_PRICE}")
        elif Decimal(value) * NANO % 1:
            problems.append(f"{where}: {name} has more than nine digits behind the point")
        else:
            nano[name] = int(Decimal(value) * NANO)
    input_ = nano.get("input", 0)
    return Rate(input_, nano.get("cached", input_), nano.get("output", 0))


def _number(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    return isinstance(value, int) and not isinstance(value, bool)


def _unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str, problems: list[str]) -> None:
    problems.extend(
        f"{where + ': ' if where else ''}there is no key {key[:80]!r}; there are: {', '.join(known)}"
        for key in table
        if key not in known
    )
