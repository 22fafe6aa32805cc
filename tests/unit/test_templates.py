"""Templates: what they see of the dependencies, what they refuse, and that parsing one is cheap whatever it says."""

from __future__ import annotations

from typing import Any

import pytest

from gemflowd.templates import TemplateFailed, problem, render

RESULTS: dict[str, Any] = {
    "a": {"text": "one"},
    "b-2": {"text": "two {{ 1 + 1 }}"},
    "items": {"keys": "mine"},
    "7": [1, 2],
}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ deps.a.text }}!", "one!"),
        ('{{ deps["b-2"].text }}', "two {{ 1 + 1 }}"),  # what is inserted is not rendered again
        ("{{ deps.b_2.text }}", "two {{ 1 + 1 }}"),
        ("{{ deps.items.keys }}", "mine"),
        ('{{ deps["7"] | tojson }}', "[1, 2]"),
        ("{% for n in deps['7'] %}<{{ n }}>{% endfor %}", "<1><2>"),
        ("no template", "no template"),
        ("line\n", "line\n"),
    ],
)
def test_rendered(text: str, rendered: str) -> None:
    assert render({"x": [text, 3]}, RESULTS) == {"x": [rendered, 3]}


@pytest.mark.parametrize(
    "text",
    [
        "{{ deps.nobody }}",
        "{{ undefined }}",
        "{{ deps.a.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ deps.a.text.nothing }}",
        "{{ 'a' * 10 ** 9 }}",
        "{{ ([1] * 10 ** 9) | length }}",
        "{{ 10 ** 10 ** 10 }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{% for i in range(5000) %}{{ 'x' * 5000 }}{% endfor %}",
        "{{ 1 / 0 }}",
    ],
)
def test_refused_when_rendered(text: str) -> None:
    with pytest.raises(TemplateFailed):
        render(text, RESULTS)


@pytest.mark.parametrize("text", ["{{", "{% for %}", "{{ a | nope }}", "{{ a is nope }}", "{{ " + "(" * 5000 + " }}"])
def test_refused_when_submitted(text: str) -> None:
    assert problem(text)


def test_parsing_evaluates_nothing() -> None:
    assert problem("{{ 'a' * 10 ** 12 }}") is None
