"""The settings of a running daemon: changed at run time, stored by the engine, in force from the commit on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from gemflowd.config.settings import SETTINGS, Settings, change, resources_of
from gemflowd.model.budget import ACTIONS, NewBudget
from gemflowd.model.calls import uses_vertex
from gemflowd.model.errors import Invalid, Refused
from gemflowd.model.facts import Configure, Fact, Reply
from gemflowd.model.limit import check_figures, plain_name
from gemflowd.model.prices import NANO, Prices
from gemflowd.model.rules import Rules


def rules_from(settings: Settings, found: Mapping[str, float], prices: Prices) -> Rules:
    """The figures for decisions that follow from the settings.

    Args:
        found: named amounts that the machine has, where the settings do not say.
        prices: of models.
    """
    return Rules(
        retries=settings["retries"],
        backoff=settings["backoff"],
        timeout=settings["task_timeout"],
        crash_limit=settings["crash_limit"],
        lost_limit=settings["lost_limit"],
        fair=settings["fair"],
        coroutines=settings["workers"] * settings["batch_size"],
        enabled=settings["enabled"],
        max_inputs_bytes=settings["max_inputs_mb"] * 1024 * 1024,
        keep_flows=settings["keep_days"] * 86_400.0,
        keep_events=settings["keep_events_hours"] * 3600.0,
        max_queued_bytes=settings["max_queued_bytes"],
        min_free_bytes=settings["min_free_mb"] * 1024 * 1024,
        ageing=settings["ageing"],
        resources={**found, **resources_of(settings["resources"])},
        limits={plain_name(name): check_figures(figures) for name, figures in settings["limits"].items()},
        max_growth_tasks=settings["max_growth_tasks"],
        max_growth_depth=settings["max_growth_depth"],
        open_expires=settings["open_expires"],
        max_value_bytes=settings["memory_max_value_kb"] * 1024,
        max_memory_bytes=settings["memory_max_mb"] * 1024 * 1024,
        prices=prices,
        day_budget=_day_budget(settings),
        budget_output_tokens=settings["budget_output_tokens"],
        max_cache_bytes=settings["cache_max_mb"] * 1024 * 1024,
        batch_items=settings["batch_items"],
        batch_wait=settings["batch_wait"],
        keep_cache=settings["cache_days"] * 86_400.0,
    )


def _day_budget(settings: Settings) -> NewBudget | None:
    money, tokens = round(settings["budget_day"] * NANO), settings["budget_day_tokens"]
    if not money and not tokens:
        return None
    return NewBudget(money or None, tokens or None, ACTIONS[settings["budget_day_action"]])


def cap_problem(memory_mb: int, baseline_mb: int) -> str | None:
    """Why a worker can't have so little memory: the end of a sentence with both figures, None when it can.

    Args:
        baseline_mb: what a worker has before its first task.
    """
    if memory_mb >= baseline_mb:
        return None
    return f"must be more than a worker has before its first task ({baseline_mb} MB), not {memory_mb}"


class Reloaded(NamedTuple):
    """What reading the settings again came to: keys with a new value, and those whose new value needs a restart."""

    changed: list[str]
    pending: list[str]


class LiveSettings:
    """Holds the effective settings; see `server.desk.Configuration`.

    Args:
        post: to the engine.
        changed: called after the commit, when new settings are in force.
        found, prices: see `rules_from`.
        baseline_mb: what a worker has before its first task.
        unusable: keys that the store remembers and this version does not take.
    """

    def __init__(
        self,
        settings: Settings,
        post: Callable[[Fact], None],
        changed: Callable[[], None],
        found: Mapping[str, float],
        prices: Prices,
        baseline_mb: Callable[[], int],
        unusable: Collection[str] = (),
    ) -> None:
        self.settings = settings
        self._baseline_mb = baseline_mb
        self._found = found
        self._prices = prices
        self._unusable = unusable
        self._post = post
        self._changed = changed

    def change(self, values: Mapping[str, Any], reset: Sequence[str] | None, reply: Reply) -> None:
        """Check changes, have them stored, and put them in force.

        Args:
            reset: keys to give back to the layers below; None: all of them.

        Raises:
            Invalid: one of them can't be; nothing is changed.
        """
        everything = dict.fromkeys([*self.settings.run_time, *self._unusable]) if reset is None else {}
        changes = everything | change(self.settings, values, list(reset or ()))
        before = self.settings.run_time
        settings = self.settings.with_changes(changes)
        if settings["memory_mb"] != self.settings["memory_mb"]:
            self.check_cap(settings["memory_mb"], "set.memory_mb")
        self.settings = settings  # requests that follow build on it; the engine carries them out in this order

        def stored(result: dict[str, Any] | Refused) -> None:
            if isinstance(result, Refused):
                self._take_back(changes, before)
            else:
                self._changed()
            reply(result)

        self._post(Configure(stored, changes, rules_from(settings, self._found, self._prices)))

    def _take_back(self, changes: Mapping[str, Any], before: Mapping[str, Any]) -> None:
        """Changes that could not be stored: only what is kept over a restart may be in force."""
        mine = {key for key, value in changes.items() if self.settings.run_time.get(key) == value}
        self.settings = self.settings.with_changes({key: before.get(key) for key in mine})
        self._post(Configure(lambda _: self._changed(), {}, rules_from(self.settings, self._found, self._prices)))

    def replace(self, settings: Settings, prices: Prices) -> Reloaded:
        """Settings and prices that were read again; what was changed at run time stays on top.

        A value that needs a restart does not take effect: the old one stays in force, and is shown.
        """
        new = settings.with_changes(self.settings.run_time)
        pending = [
            s.key
            for s in SETTINGS
            if not (s.live or s.reloads or s.for_handlers) and new[s.key] != self.settings[s.key]
        ]
        old, self.settings = self.settings, new.keeping(self.settings, pending)
        self._prices = prices
        self._post(Configure(lambda _: self._changed(), {}, rules_from(self.settings, self._found, self._prices)))
        changed = [s.key for s in SETTINGS if old[s.key] != self.settings[s.key]]
        return Reloaded(changed, pending)

    def check_cap(self, memory_mb: int, path: str) -> None:
        """Raises: Invalid: a worker has more before its first task."""
        if (problem := cap_problem(memory_mb, self._baseline_mb())) is not None:
            raise Invalid("invalid_value", problem, path)

    def table(self) -> list[dict[str, Any]]:
        return self.settings.table()

    def profile(self) -> dict[str, Any]:
        return {
            "profile": self.settings["profile"],
            "origin": self.settings.origins["profile"],
            "values": dict(self.settings.profile_values),
            "shadowed": self.settings.shadowed(),
        }

    def resources(self) -> Mapping[str, float]:
        return {**self._found, **resources_of(self.settings["resources"])}

    def prices(self) -> Prices:
        return self._prices

    def enabled(self) -> bool:
        return bool(self.settings["enabled"])

    def vertex(self) -> bool:
        return not self.settings["gemini_offline"] and uses_vertex(os.environ)

    def monitoring(self) -> bool:
        return bool(self.settings["monitoring"])

    def size(self) -> dict[str, Any]:
        workers = self.settings["workers"]
        return {
            "count": workers,
            "origin": self.settings.origins["workers"],
            "slots": {"blocking": workers, "coroutine": workers * self.settings["batch_size"]},
        }
