"""The stand-in's answers: sentences of the prompt and nothing else."""

from __future__ import annotations

import re

import pytest

from gemflowd.standin.extract import MARKER, answer, key_sentences, key_terms, numbers, sentences, take_apart

REPORT = """Summarize the report below.

The river Elbe rose to 4.2 m in Dresden on 2024-09-17, after 180 mm of rain in three days. Dr. Meyer of the flood
office said that the dikes held. Schools were closed. About 1,200 people left their homes. The city spent 3.5 million
euros on sandbags. Flood water reached the old town at noon. Nobody was hurt."""


def test_sentences_know_abbreviations_lists_and_paragraphs() -> None:
    assert sentences(
        "Dr. Meyer came. Why? He saw 4.2 m!\n\nA heading\n\n- one thing\n- another, e.g. this\n2) last"
    ) == [
        "Dr. Meyer came.",
        "Why?",
        "He saw 4.2 m!",
        "A heading",
        "one thing",
        "another, e.g. this",
        "last",
    ]
    assert sentences("  \n ") == []


def test_numbers_are_as_written_and_not_those_of_dates() -> None:
    assert numbers(REPORT) == ["4.2", "180", "1,200", "3.5"]
    assert numbers("-3 x9 v1.2.3 7% 10:30 5") == ["-3", "7", "5"]


def test_key_sentences_keep_their_order_and_follow_the_question() -> None:
    text = take_apart(REPORT).material
    found = key_sentences(text, "How many people left their homes?", count=2)
    assert "About 1,200 people left their homes." in found
    everything = sentences(text)
    assert [everything.index(sentence) for sentence in found] == sorted(map(everything.index, found))
    assert key_terms(text, 1) == ["flood"]


@pytest.mark.parametrize(
    ("text", "instruction", "material"),
    [
        ("Research topic A", "Research topic A", ""),
        ("Translate: One is here. Two is there.", "Translate", "One is here. Two is there."),
        ("One.\n\nTwo.\n\nWhat is it?", "What is it?", "One.\n\nTwo."),
        ("Do this.\n\nOne.\n\nTwo.", "Do this.", "One.\n\nTwo."),
        ("What is it? It is a cat. It sleeps.", "What is it?", "It is a cat. It sleeps."),
        ("", "", ""),
    ],
)
def test_what_is_asked_and_what_is_given(text: str, instruction: str, material: str) -> None:
    question = take_apart(text)
    assert (question.instruction, question.material) == (instruction, material)


def test_an_answer_is_made_of_the_prompts_sentences_and_always_the_same() -> None:
    given = answer(take_apart(REPORT))
    assert given.startswith(MARKER)
    assert given == answer(take_apart(REPORT))
    for sentence in sentences(given.removeprefix(MARKER)):
        assert sentence in " ".join(REPORT.split())


def test_the_role_shapes_the_answer() -> None:
    bullets = answer(take_apart(REPORT, "You are a researcher."))
    assert len(re.findall(r"^- ", bullets, re.MULTILINE)) == 3
    assert "Numbers in the text: 4.2, 180, 1,200, 3.5" in bullets
    assert "\n2. " in answer(take_apart(REPORT, "You are a planner."))
    plain = answer(take_apart(REPORT, "You are a writer."))
    assert "\n- " not in plain
    assert "Numbers" not in plain


def test_a_question_gets_the_numbers_too() -> None:
    assert "1,200" in answer(take_apart(REPORT.split("\n\n")[1] + "\n\nHow many people left?")).rsplit("Numbers", 1)[1]


def test_an_instruction_alone_is_said_to_be_alone() -> None:
    assert answer(take_apart("Research topic A")).endswith("which is: Research topic A")
    assert answer(take_apart("")).startswith(MARKER)
