"""What the documents say is what the program does: codes of refusal, settings, transitions, operations."""

from __future__ import annotations

import re
from pathlib import Path

from gemflowd.config.settings import SETTINGS
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
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (.*?) \| (.*?) ?\| (yes)? ?\| (.*) \|$",
        (DOCS / "settings.md").read_text("utf-8"),
        re.MULTILINE,
    )
    documented = {key: (unit.strip(), live == "yes", doc) for key, _, unit, live, doc in rows}
    assert documented == {s.key: (s.unit, s.live, s.doc) for s in SETTINGS}


def test_truth_table_is_the_program_s() -> None:
    for name in ("protocol.md", "semantics.md"):
        text = (DOCS / name).read_text("utf-8")
        rows = re.findall(r"^\| ([a-z, ]+) \| (satisfied|impossible) \| (\w+) \| (\w+) \|$", text, re.MULTILINE)
        assert len(rows) == 3, name
        for states, *said in rows:
            for word in states.split(", "):
                state = State[word.upper()]
                assert [satisfies(state, on) for on in On] == [word == "satisfied" for word in said], (name, state)
