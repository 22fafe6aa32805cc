"""How people name tasks and flows."""

import pytest

from gemflowd.model.errors import Invalid
from gemflowd.model.ids import MAX_NUMBER, is_task_id
from gemflowd.model.refs import FlowRef, NamedTask, Ref, TaskRange, parse, parse_all


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        (42, TaskRange(42, 42)),
        ("42", TaskRange(42, 42)),
        ("42-48", TaskRange(42, 48)),
        ("7-7", TaskRange(7, 7)),
        (MAX_NUMBER, TaskRange(MAX_NUMBER, MAX_NUMBER)),
        ("f7", FlowRef(7)),
        ("f7/research-a", NamedTask(7, "research-a")),
        ("f7/42", NamedTask(7, "42")),
        ("f7/a.b_C-9", NamedTask(7, "a.b_C-9")),
        ("f1/" + "x" * 128, NamedTask(1, "x" * 128)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_references(text: object, ref: Ref):
    assert parse(text, "refs[0]") == ref


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "0", 0, -1, "-1", "48-42", "0-3", "1-", "1-2-3", " 1", "1 ", "1.5", 1.5, True, None, [1], b"1", "f", "f0", "f0/a",
        "f7/", "f7/a b", "f7/a/b", "F7", "f-7", "f7/" + "x" * 129, MAX_NUMBER + 1, str(MAX_NUMBER + 1), f"1-{MAX_NUMBER + 1}",
        f"f{MAX_NUMBER + 1}", "1\n", "f7\n",
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_what_is_no_reference_is_refused_at_its_place(text: object):
    with pytest.raises(Invalid) as caught:
        parse_all(["1", text])
    assert caught.value.code == "invalid_value"
    assert caught.value.path == "refs[1]"


def test_task_ids():
    assert is_task_id("A-z_0.9")
    assert is_task_id("x" * 128)
    for text in ("", "x" * 129, "a/b", "ä", "a\n", " a"):
        assert not is_task_id(text)


def test_a_refusal_does_not_say_all_of_a_long_input_again():
    with pytest.raises(Invalid) as refused:
        parse("x" * 100_000, "ref")
    assert "xxx…" in refused.value.message
    assert len(refused.value.message) < 200
    with pytest.raises(Invalid) as refused:
        parse(["x"] * 100_000, "ref")
    assert len(refused.value.message) < 200
