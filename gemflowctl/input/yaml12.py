"""YAML as one expects it: `on`, `off`, `yes` and `no` are words and no booleans, as in YAML 1.2; lines of list items are kept.

PyYAML follows YAML 1.1, where `on: done` of a dependency would have the key `true`.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

from gemflowctl.errors import InvalidInput
from gemflowctl.input.entry import Place

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """The safe loader with the booleans of YAML 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load(text: str, file: str) -> tuple[Any, dict[int, int]]:
    """The value, and the line of each task by its index.

    Raises:
        InvalidInput: with the line.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            value = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise InvalidInput(f"{Place(file, line=line)}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{Place(file)}: not YAML: {error}") from None
    return value, _lines(node)


def _lines(node: Any) -> dict[int, int]:
    if isinstance(node, yaml.MappingNode):
        node = next((child for key, child in node.value if getattr(key, "value", None) == "tasks"), None)
    if not isinstance(node, yaml.SequenceNode):
        return {}
    return {index: child.start_mark.line + 1 for index, child in enumerate(node.value)}
