"""What the documents say is what the program does: codes of refusal, settings, transitions, operations."""

from __future__ import annotations

import json
import re
from pathlib import Path

from gemflowd.config.profiles import profiles
from gemflowd.config.reading import PARALLEL
from gemflowd.config.settings import PROFILE_KEYS, SETTINGS, Setting
from gemflowd.model.errors import CODES
from gemflowd.model.states import On, State, satisfies
from gemflowd.server.commands.table import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


def test_protocol_lists_every_code_with_its_meaning() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*) \|$", (DOCS / "protocol.md").read_text("utf-8"), re.MULTILINE))
    assert {code: rows.get(code) for code in CODES} == CODES


def test_protocol_describes_every_operation() -> None:
    text = (DOCS / "protocol.md").read_text("utf-8")
    section = text[text.index("## 4. Operations") : text.index("## 5.")]
    missing = [op for op in COMMANDS if not re.search(rf"`{op}[ `{{]|\n{op} \{{|### .*\b{op}\b", section)]
    assert missing == []


def test_settings_lists_every_setting() -> None:
    """The table is the program's, cell by cell; where it is not, paste what this prints."""
    text = (DOCS / "settings.md").read_text("utf-8")
    start = text.index("| key | default |")
    written = text[start : text.index("\n\n", start)].splitlines()
    assert written == [
        "| key | default | allowed | unit | live | meaning |",
        "|---|---|---|---|---|---|",
        *map(row, SETTINGS),
    ]


def row(setting: Setting) -> str:
    live = "yes" if setting.live else "reload" if setting.reloads or setting.for_handlers else ""
    cells = (f"`{setting.key}`", default_of(setting), setting.allowed, setting.unit, live, setting.doc)
    return f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|"


def default_of(setting: Setting) -> str:
    if setting.key in PROFILE_KEYS:
        return "by profile"
    match setting.default:
        case None:
            return "-"
        case str(text):
            return text
        case list(items) | dict(items):
            return ", ".join(items) or "none"
    return json.dumps(setting.default)


def test_settings_shows_the_profiles() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| (\w+)(?: \(default\))? \| (.+) \| (\d+) s \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    workers = {"2": 2, "half the CPUs, at least 1": 4, "CPUs": 8, "twice the CPUs": 16}
    assert {
        name: {"workers": workers[many], "task_timeout": float(seconds), "memory_mb": int(mb), "batch_size": int(batch)}
        for name, many, seconds, mb, batch in rows
    } == profiles(8)


def test_settings_names_the_variables_of_the_guide_with_their_units() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    rows = re.findall(r"^\| `(PARALLEL_[A-Z_]+)` \| `(\w+)` \|(?: (\w+))? \|$", text, re.MULTILINE)
    assert {name: (key, unit) for name, key, unit in rows} == {
        name: (guide.key, guide.unit) for name, guide in PARALLEL.items()
    }


def test_truth_table_is_the_program_s() -> None:
    for name in ("protocol.md", "semantics.md"):
        text = (DOCS / name).read_text("utf-8")
        rows = re.findall(r"^\| ([a-z, ]+) \| (satisfied|impossible) \| (\w+) \| (\w+) \|$", text, re.MULTILINE)
        assert len(rows) == 3, name
        for states, *said in rows:
            for word in states.split(", "):
                state = State[word.upper()]
                assert [satisfies(state, on) for on in On] == [word == "satisfied" for word in said], (name, state)
