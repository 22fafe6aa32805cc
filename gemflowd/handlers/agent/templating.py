"""Templates in what a plan says: names of its steps to ids of the flow, texts that are none made harmless, results as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from gemflowd.templates import has_template as has_one

__all__ = ["foreign_names", "has_one", "literal", "renamed", "result_of"]

_DEPS: Final = re.compile(r"""\bdeps\s*(?:\.\s*([A-Za-z0-9_]+)|\[\s*(['"])([A-Za-z0-9_.-]+)\2\s*\])""")
_OPENS: Final = re.compile(r"\{[{%#]")
#: Characters of one result that go into a prompt.
_MOST_SHOWN: Final = 40_000


def literal(text: str) -> str:
    """A text as a template that renders to it."""
    return _OPENS.sub(lambda found: "{{ '" + found[0] + "' }}", text)


def foreign_names(text: str, dependencies: Sequence[str]) -> Iterator[str]:
    """Names after `deps` in a template that are no dependencies."""
    for found in _DEPS.finditer(text):
        name = found[1] or found[3]
        if _named(name, dependencies) is None:
            yield name


def renamed(value: Any, dependencies: Sequence[str], prefix: str) -> Any:
    """The value with the steps that its templates name under their ids in the flow."""
    if isinstance(value, dict):
        return {key: renamed(item, dependencies, prefix) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, dependencies, prefix) for item in value]
    if not isinstance(value, str) or not has_one(value):
        return value

    def put(found: re.Match[str]) -> str:
        name = _named(found[1] or found[3], dependencies)
        return found[0] if name is None else f"deps[{json.dumps(prefix + name)}]"

    return _DEPS.sub(put, value)


def result_of(name: str) -> str:
    """A template for the result of a task of the flow: what it says, or all of it as JSON."""
    said = " ".join(
        f"elif it is mapping and it.{key} is string %}}{{{{ it.{key} }}}}{{%" for key in ("content", "stdout")
    )
    return (
        f"{{% set it = deps[{json.dumps(name)}] %}}{{% filter truncate({_MOST_SHOWN}, true) %}}"
        f"{{% if it is mapping and it.text is string %}}{{{{ it.text }}}}{{% {said}"
        " elif it is mapping and it.bytes is defined %}(not text){%"
        " elif it is string %}{{ it }}{% else %}{{ it | tojson }}{% endif %}{% endfilter %}"
    )


def _named(name: str, dependencies: Sequence[str]) -> str | None:
    """The dependency of that name, also with `_` for `-`."""
    return next((one for one in dependencies if name in (one, one.replace("-", "_"))), None)
