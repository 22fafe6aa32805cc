"""Settings that change while the daemon runs: what is handed to the engine, and what becomes of a change that can't be stored."""

from __future__ import annotations

from typing import Any

import pytest

from gemflowd.config.live import LiveSettings
from gemflowd.config.reading import load
from gemflowd.model.errors import ConfigError, Invalid, Refused
from gemflowd.model.facts import Configure, Fact
from gemflowd.model.prices import Prices

#: MB that a worker has before its first task.
BASELINE = 50
Answers = list[dict[str, Any] | Refused]


class Engine:
    """Takes facts and answers them when it is told to."""

    def __init__(self, **command_line: Any) -> None:
        self.facts: list[Configure] = []
        self.applied = 0
        self.live = LiveSettings(
            load([], {}, command_line), self.post, self.changed, {}, Prices(), lambda: BASELINE, ["colour"]
        )

    def post(self, fact: Fact) -> None:
        assert isinstance(fact, Configure)
        self.facts.append(fact)

    def changed(self) -> None:
        self.applied += 1

    def answer(self, result: dict[str, Any] | Refused) -> Configure:
        fact = self.facts.pop(0)
        fact.reply(result)
        return fact


def test_a_change_is_stored_then_in_force_then_answered() -> None:
    engine, answers = Engine(), Answers()
    engine.live.change({"retries": 7, "workers": 9}, [], answers.append)
    assert (engine.applied, answers) == (0, [])
    fact = engine.answer({})
    assert (fact.changes, fact.rules.retries) == ({"retries": 7, "workers": 9}, 7)
    assert (engine.applied, answers) == (1, [{}])
    assert engine.live.size()["count"] == 9


def test_a_change_that_could_not_be_stored_is_taken_back() -> None:
    engine, answers = Engine(), Answers()
    engine.live.change({"retries": 5}, [], answers.append)
    engine.answer({})
    engine.live.change({"retries": 7, "workers": 9}, [], answers.append)
    engine.live.change({"workers": 8, "crash_limit": 2}, [], answers.append)  # on top, before the answer
    engine.answer(Refused("internal", "no"))
    engine.answer({})
    assert isinstance(answers[1], Refused)
    assert engine.live.settings.run_time == {"retries": 5, "workers": 8, "crash_limit": 2}
    assert engine.facts[-1].rules.retries == 5, "the engine decides by what is in force"
    assert engine.facts[-1].rules.crash_limit == 2


def test_a_refused_change_changes_nothing() -> None:
    engine = Engine()
    with pytest.raises(Invalid):
        engine.live.change({"retries": 1, "workers": 0}, [], Answers().append)
    assert (engine.facts, engine.live.settings.run_time) == ([], {})


def test_reset_of_everything_also_removes_what_this_version_does_not_take() -> None:
    engine = Engine(workers=4)
    engine.live.change({"workers": 9, "profile": "maximum"}, [], Answers().append)
    engine.answer({})
    engine.live.change({"retries": 1}, None, Answers().append)
    assert engine.answer({}).changes == {"workers": None, "profile": None, "colour": None, "retries": 1}
    assert engine.live.settings.run_time == {"retries": 1}
    assert engine.live.size() == {
        "count": 4,
        "origin": "command line",
        "slots": {"blocking": 4, "coroutine": 4 * engine.live.settings["batch_size"]},
    }


def test_settings_read_again() -> None:
    engine = Engine(workers=4)
    engine.live.change({"retries": 9}, [], Answers().append)
    engine.answer({})
    came = engine.live.replace(
        load([], {"GEMFLOW_RETRIES": "1", "GEMFLOW_GRACE": "3", "GEMFLOW_AGEING": "60"}, {"workers": 5}), Prices()
    )
    assert (came.changed, came.pending) == (["workers", "grace"], ["ageing"])
    assert (engine.live.settings["ageing"], engine.live.settings.origins["ageing"]) == (0.0, "default")
    assert engine.live.settings["retries"] == 9, "what was changed at run time stays on top"
    assert engine.answer({}).changes == {}
    assert engine.applied == 2


def test_a_cap_below_what_a_worker_has_is_refused_with_both_figures() -> None:
    engine, answers = Engine(), Answers()
    with pytest.raises(Invalid, match=f"{BASELINE} MB.*, not {BASELINE - 1}") as caught:
        engine.live.change({"memory_mb": BASELINE - 1}, [], answers.append)
    assert (caught.value.code, caught.value.path) == ("invalid_value", "set.memory_mb")
    assert engine.facts == []
    engine.live.change({"memory_mb": BASELINE}, [], answers.append)
    assert len(engine.facts) == 1


def test_a_limit_is_that_of_its_model_however_it_is_written() -> None:
    engine, answers = Engine(limits={"gemini:models/a": {"rpm": 5}}), Answers()
    engine.live.change({"retries": 1}, [], answers.append)
    assert engine.facts[0].rules.limits == {"gemini:a": {"rpm": 5}}
    with pytest.raises(ConfigError, match="which are one: leave 'gemini:models/a' out"):
        Engine(limits={"gemini:models/a": {"rpm": 5}, "gemini:a": {"rpm": 6}})
