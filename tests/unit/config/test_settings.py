"""Settings in layers: profiles, the guide's variables in their units, which wins, and how what is wrong is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemflowd.config.profiles import profiles
from gemflowd.config.reading import PARALLEL, load
from gemflowd.config.settings import BY_KEY, PROFILE_KEYS, SETTINGS, Settings, change, convert
from gemflowd.model.errors import ConfigError, Invalid


def settings(environ: dict[str, str] | None = None, **command_line: Any) -> Settings:
    return load([], environ or {}, command_line)


def problems(environ: dict[str, str], **command_line: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        settings(environ, **command_line)
    return error.value.problems


@pytest.mark.parametrize(
    ("name", "cpus", "workers", "seconds", "memory", "batch"),
    [
        ("conservative", 8, 2, 600.0, 256, 5),
        ("conservative", 1, 2, 600.0, 256, 5),
        ("balanced", 8, 4, 300.0, 512, 10),
        ("balanced", 1, 1, 300.0, 512, 10),
        ("performance", 8, 8, 180.0, 1024, 20),
        ("maximum", 8, 16, 120.0, 2048, 50),
    ],
)
def test_the_profiles_are_the_guide_s(
    name: str, cpus: int, workers: int, seconds: float, memory: int, batch: int
) -> None:
    assert profiles(cpus)[name] == {
        "workers": workers,
        "task_timeout": seconds,
        "memory_mb": memory,
        "batch_size": batch,
    }


def test_balanced_is_the_default() -> None:
    found = settings()
    assert (found["profile"], found.origins["profile"]) == ("balanced", "default")
    assert {found.origins[key] for key in PROFILE_KEYS} == {"profile"}


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("PARALLEL_EXECUTION_ENABLED", "false", "enabled", False),
        ("PARALLEL_EXECUTION_ENABLED", "TRUE", "enabled", True),
        ("PARALLEL_MAX_WORKERS", "8", "workers", 8),
        ("PARALLEL_TASK_TIMEOUT", "300000", "task_timeout", 300.0),
        ("PARALLEL_TASK_TIMEOUT", "1.5", "task_timeout", 0.0015),
        ("PARALLEL_RETRY_ATTEMPTS", "0", "retries", 0),
        ("PARALLEL_MONITORING", "off", "monitoring", False),
        ("PARALLEL_BATCH_SIZE", " 20 ", "batch_size", 20),
        ("PARALLEL_MEMORY_LIMIT", "1024", "memory_mb", 1024),
    ],
)
def test_the_guide_s_variables_in_their_units(variable: str, text: str, key: str, value: object) -> None:
    found = settings({variable: text})
    assert (found[key], found.origins[key]) == (value, variable)
    assert type(found[key]) is type(value)


def test_every_variable_of_the_guide_is_tried_above() -> None:
    mark = next(m for m in test_the_guide_s_variables_in_their_units.pytestmark if m.name == "parametrize")
    assert {case[0] for case in mark.args[1]} == set(PARALLEL)


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("PARALLEL_EXECUTION_ENABLED", "maybe", "must be true or false, not 'maybe'"),
        ("PARALLEL_MAX_WORKERS", "0", "must be a whole number from 1 to 1024, not '0'"),
        ("PARALLEL_MAX_WORKERS", "1025", "must be a whole number from 1 to 1024, not '1025'"),
        ("PARALLEL_MAX_WORKERS", "many", "must be a whole number from 1 to 1024, not 'many'"),
        ("PARALLEL_TASK_TIMEOUT", "0", "must be a number from 1 to 2592000000 ms, not '0'"),
        ("PARALLEL_TASK_TIMEOUT", "5m", "must be a number from 1 to 2592000000 ms, not '5m'"),
        ("PARALLEL_TASK_TIMEOUT", "nan", "must be a number from 1 to 2592000000 ms, not 'nan'"),
        ("PARALLEL_TASK_TIMEOUT", "1e99", "must be a number from 1 to 2592000000 ms, not '1e99'"),
        ("PARALLEL_RETRY_ATTEMPTS", "-1", "must be a whole number from 0 to 1000, not '-1'"),
        ("PARALLEL_MONITORING", "2", "must be true or false, not '2'"),
        ("PARALLEL_BATCH_SIZE", "0", "must be a whole number from 1 to 10000, not '0'"),
        ("PARALLEL_MEMORY_LIMIT", "0", "must be a whole number from 1 to 1073741824 MB, not '0'"),
    ],
)
def test_a_bad_variable_is_told_with_its_name_its_range_and_what_to_do(variable: str, text: str, said: str) -> None:
    assert problems({variable: text}) == [f"{variable} {said}; set it so, or unset it"]


def test_an_empty_variable_says_nothing() -> None:
    assert settings({"PARALLEL_MAX_WORKERS": "", "GEMFLOW_RETRIES": ""}).origins["workers"] == "profile"


def test_each_layer_over_the_weaker_ones(tmp_path: Path) -> None:
    site, named = tmp_path / "site.toml", tmp_path / "named.toml"
    site.write_text('profile = "maximum"\nworkers = 11\nbatch_size = 12\nretries = 13\nbackoff = 14\nfair = false\n')
    named.write_text("batch_size = 22\nretries = 23\nbackoff = 24\nfair = false\n")
    environ = {
        "PARALLEL_RETRY_ATTEMPTS": "33",
        "GEMFLOW_BACKOFF": "34",
        "GEMFLOW_FAIR": "no",
        "PARALLEL_MAX_WORKERS": "35",
    }
    found = load([site], environ, {"workers": 44, "profile": None}, named=named).with_changes({"fair": True})
    assert {key: (found[key], found.origins[key]) for key in ("task_timeout", *PROFILE_KEYS[3:], *CHECKED)} == {
        "task_timeout": (120.0, "profile"),
        "profile": ("maximum", str(site)),
        "batch_size": (22, str(named)),
        "retries": (33, "PARALLEL_RETRY_ATTEMPTS"),
        "backoff": (34.0, "GEMFLOW_BACKOFF"),
        "workers": (44, "command line"),
        "fair": (True, "run time"),
    }


CHECKED = ("profile", "retries", "backoff", "workers", "fair")


def test_gemflow_over_parallel() -> None:
    found = settings({"PARALLEL_TASK_TIMEOUT": "5000", "GEMFLOW_TASK_TIMEOUT": "7"})
    assert (found["task_timeout"], found.origins["task_timeout"]) == (7.0, "GEMFLOW_TASK_TIMEOUT")


def test_what_a_profile_does_not_reach() -> None:
    found = settings({"PARALLEL_MEMORY_LIMIT": "100"}, workers=3).with_changes({"profile": "maximum", "batch_size": 7})
    assert found.shadowed() == [
        {"key": "workers", "value": 3, "origin": "command line"},
        {"key": "memory_mb", "value": 100, "origin": "PARALLEL_MEMORY_LIMIT"},
        {"key": "batch_size", "value": 7, "origin": "run time"},
    ]
    assert found["task_timeout"] == 120.0


def test_a_reset_gives_back_what_the_layers_say() -> None:
    before = settings(workers=3)
    after = before.with_changes({"workers": 9, "profile": "maximum"}).with_changes({"workers": None, "profile": None})
    assert (after.values, after.origins) == (before.values, before.origins)


def test_all_problems_at_once(tmp_path: Path) -> None:
    file = tmp_path / "gemflowd.toml"
    file.write_text('colour = "blue"\nretries = "many"\n')
    with pytest.raises(ConfigError) as error:
        load([file], {"GEMFLOW_GRACE": "0", "PARALLEL_BATCH_SIZE": "x"}, {"profile": "reckless"})
    assert [problem.partition(" must")[0] for problem in error.value.problems] == [
        f"{file}: there is no setting 'colour'; `gemflowd check-config` lists them",
        f"{file}: retries",
        "PARALLEL_BATCH_SIZE",
        "GEMFLOW_GRACE: grace",
        "command line: profile",
    ]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_default_is_allowed(setting: Any) -> None:
    if setting.default is not None:
        assert convert(setting, setting.default) == setting.default


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("auto", ["auto"]),
        ("none", ["none"]),
        ("0, 1", ["0", "1"]),
        (["GPU-8f3a", "MIG-1/2"], ["GPU-8f3a", "MIG-1/2"]),
        ([], None),
        (["0", "0"], None),
        (["auto", "0"], None),
        (["0;rm"], None),
    ],
)
def test_devices(value: object, taken: list[str] | None) -> None:
    if taken is not None:
        assert convert(BY_KEY["gpus"], value) == taken
    else:
        with pytest.raises(ValueError, match="a list of devices"):
            convert(BY_KEY["gpus"], value)


def test_a_key_in_the_place_of_its_file_is_not_repeated() -> None:
    key = "AIzaSy-not-a-real-key"
    assert key not in "".join(problems({"GEMFLOW_GEMINI_API_KEY_FILE": key}))
    assert key not in "".join(problems({}, gemini_api_key_file=[key]))


def test_a_long_value_is_cut_in_the_message() -> None:
    (problem,) = problems({"GEMFLOW_WORKERS": "9" * 5000})
    assert len(problem) < 200


def test_what_was_stored_by_another_version_does_not_keep_it_from_starting() -> None:
    found, told = settings().with_stored({"workers": 3, "profile": "reckless", "colour": 1, "grace": 5, "retries": "x"})
    assert found.run_time == {"workers": 3}
    assert [problem.split(" ")[0] for problem in told] == ["profile", "colour", "grace", "retries"]


@pytest.mark.parametrize(
    ("values", "reset", "code", "path"),
    [
        ({"colour": 1}, [], "not_found", "set.colour"),
        ({}, ["colour"], "not_found", "reset"),
        ({"grace": 3}, [], "conflict", "set.grace"),
        ({"workers": 0}, [], "invalid_value", "set.workers"),
        ({"workers": True}, [], "invalid_value", "set.workers"),
        ({"enabled": 1}, [], "invalid_value", "set.enabled"),
        ({"retries": 1, "workers": 0}, [], "invalid_value", "set.workers"),
    ],
)
def test_changes_that_are_refused(values: dict[str, Any], reset: list[str], code: str, path: str) -> None:
    with pytest.raises(Invalid) as error:
        change(settings(), values, reset)
    assert (error.value.code, error.value.path) == (code, path)
