"""Personas: those that come with gemflow, and how one's own are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemflowd.config.personas import BUILT_IN, Persona, apply_persona, load_personas
from gemflowd.model.errors import ConfigError

GOOD = 'name = "{name}"\ndescription = "Does a thing."\nsystem = """\nYou are {name}.\n"""\n'


def test_the_built_in_ones_are_complete() -> None:
    found = load_personas([])
    assert {"researcher", "analyzer", "writer"} <= found.keys()
    assert len(found) == len(list(BUILT_IN.glob("*.toml"))) >= 10
    for name, persona in found.items():
        assert persona.name == name
        assert persona.system.startswith("You are ")
        assert len(persona.description) < 100
        assert persona.model is None
        assert 0.0 <= persona.config["temperature"] <= 1.0
        assert "{{" not in persona.system  # it would be taken for a template


def test_a_later_directory_overrides_by_name(tmp_path: Path) -> None:
    for directory in ("site", "user"):
        (tmp_path / directory).mkdir()
    (tmp_path / "site" / "a.toml").write_text(GOOD.format(name="writer") + 'model = "site-model"\n')
    (tmp_path / "site" / "b.toml").write_text(GOOD.format(name="own"))
    (tmp_path / "user" / "any-name.toml").write_text(GOOD.format(name="writer") + "[config]\ntemperature = 1.5\n")
    found = load_personas([tmp_path / "site", tmp_path / "user", tmp_path / "missing"])
    assert found["writer"] == Persona("writer", "Does a thing.", "You are writer.", None, {"temperature": 1.5})
    assert found["own"].system == "You are own."
    assert "researcher" in found


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("name = \n")
    (tmp_path / "b.toml").write_text('name = "two words"\ndescription = ""\nsytem = "x"\nmodel = 3\nconfig = 1\n')
    (tmp_path / "c.toml").write_bytes(b'name = "\xff"')
    (tmp_path / "d.toml").write_text(GOOD.format(name="twice"))
    (tmp_path / "e.toml").write_text(GOOD.format(name="twice"))
    with pytest.raises(ConfigError) as caught:
        load_personas([tmp_path])
    text = "\n".join(caught.value.problems)
    for part in (
        "a.toml: Invalid value",
        "b.toml: unknown key 'sytem'",
        "'two words' may have letters",
        "'description' must be",
        "'system' is missing",
        "'model' must be",
        "'config' must be",
        "c.toml: not UTF-8",
        "e.toml: the persona 'twice' is also in",
    ):
        assert part in text


def test_a_tasks_own_words_win() -> None:
    persona = Persona("p", "d", "You are p.", "slow-model", {"temperature": 0.1, "top_k": 3})
    data = {"prompt": "x", "agent": "p", "system": "Be brief.", "config": {"temperature": 0.9}}
    assert apply_persona(data, persona) == {
        "prompt": "x",
        "agent": "p",
        "system": "You are p.\n\nBe brief.",
        "config": {"temperature": 0.9, "top_k": 3},
        "model": "slow-model",
    }
    assert apply_persona({"prompt": "x", "model": "m"}, persona)["model"] == "m"
    assert data["system"] == "Be brief."
    assert "config" not in apply_persona({"prompt": "x"}, Persona("p", "d", "s"))
