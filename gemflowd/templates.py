"""Templates in a task's data: Jinja2's sandbox over the results of its dependencies, strict about undefined names.

Rendered once, in the worker; what is inserted is never rendered again. The same environment parses them at submission.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

#: Characters of one rendered string: a loop in a template must not fill the memory.
MAX_RENDERED: Final = 16 * 1024 * 1024


class TemplateFailed(Exception):
    """A template can't be rendered; trying again would not change it."""


def has_template(text: str) -> bool:
    return "{{" in text or "{%" in text or "{#" in text


@lru_cache(maxsize=1)
def environment() -> Any:
    import jinja2  # 50 ms: only where a template is
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        def getattr(self, obj: Any, attribute: str) -> Any:
            """`deps.items` is the dependency of that name, not the method of a map."""
            if isinstance(obj, dict) and attribute in obj:
                return obj[attribute]
            return super().getattr(obj, attribute)

        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """No product that could only be meant to fill the memory: a long repetition, a huge power."""
            for one, other in ((left, right), (right, left)):
                if (
                    isinstance(one, str | list | tuple | bytes)
                    and isinstance(other, int)
                    and len(one) * other > MAX_RENDERED
                ):
                    raise TemplateFailed("the template repeats a value too often")
            if operator == "%" and isinstance(left, str | bytes):
                raise TemplateFailed("the template formats with %; use ~ and filters")
            if operator == "**" and not (abs(left) <= 10**6 and abs(right) <= 64):
                raise TemplateFailed("the template has a power that is too large")
            return super().call_binop(context, operator, left, right)

    return Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


def problem(text: str) -> str | None:
    """Why a string is no template, as a sentence, or None.

    It is parsed and not compiled: compiling evaluates what is constant, and `{{ "a" * 10**9 }}` is not for the daemon to do.
    """
    import jinja2
    from jinja2 import nodes

    try:
        tree = environment().parse(text)
        for kind, word, known in (
            (nodes.Filter, "filter", environment().filters),
            (nodes.Test, "test", environment().tests),
        ):
            for node in tree.find_all(kind):
                if node.name not in known:
                    return f"line {node.lineno}: there is no {word} {node.name!r}"
    except jinja2.TemplateSyntaxError as error:
        return f"line {error.lineno}: {error.message}"
    except RecursionError:
        return "nested too deeply"
    return None


def names_for(results: Mapping[str, Any]) -> dict[str, Any]:
    """`deps` as templates see it: each result by its id, and by its id with `_` for `-` and `.` where that is free."""
    deps = dict(results)
    for name, value in results.items():
        deps.setdefault(name.replace("-", "_").replace(".", "_"), value)
    return deps


def render(value: Any, results: Mapping[str, Any]) -> Any:
    """The value with every string in it rendered.

    Raises:
        TemplateFailed: with the reason.
    """
    return _render(value, {"deps": names_for(results)})


def _render(value: Any, names: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return _render_text(value, names) if has_template(value) else value
    if isinstance(value, dict):
        return {key: _render(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_render(item, names) for item in value]
    return value


def _render_text(text: str, names: dict[str, Any]) -> str:
    size = 0
    parts = []
    try:
        for part in environment().from_string(text).generate(**names):
            size += len(part)
            if size > MAX_RENDERED:
                raise TemplateFailed(f"the rendered template has more than {MAX_RENDERED} characters")
            parts.append(part)
    except TemplateFailed:
        raise
    except Exception as error:
        raise TemplateFailed(f"the template {text[:80]!r} can't be rendered: {error}") from error
    return "".join(parts)
