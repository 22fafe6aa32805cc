"""An answer made from the prompt's own words: the sentences that say most, in their own order.

It is no model and does not pretend to be one: nothing is in the answer that is not in the prompt. But it is real work
on real input, so what goes wrong on the way (encodings, lost text, mixed-up results) shows. The same prompt always
gets the same answer.

Covers: sentences and words, which sentences are central, and the form that the system instruction asks for. Does not
cover answers by schema (`structured`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Final

#: Every text of the stand-in begins with it, so that no one takes it for a model's.
MARKER: Final = "[stand-in] "

_SENTENCE_END: Final = re.compile(r"(?<=[.!?…。])[\"'”’)\]]*\s+(?=\S)|\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)])\s)")
_WORD: Final = re.compile(r"[^\W\d_][\w'’-]*", re.UNICODE)
# Not those of dates and times.
_NUMBER: Final = re.compile(r"(?<![\w.-])(?<!\d:)[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w|[-:]\d)")
_BULLET: Final = re.compile(r"^\s*(?:[-*•]|\d+[.)]|#+)\s+")
_ABBREVIATION: Final = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|Dr|Mr|Mrs|Ms|Prof|St|No|Fig|approx)|\b[A-Z])\.$")
_FILLERS: Final = """
    a about above after again all also an and any are as at be because been before being below between both but by can
    could did do does doing down during each few for from further had has have having he her here him his how i if in into
    is it its itself just may me might more most must my no nor not now of off on once only or other our out over own same
    shall she should so some such than that the their them then there these they this those through to too under until up
    us very was we were what when where which while who whom why will with would you your
"""
_STOP_WORDS: Final = frozenset(_FILLERS.split())
_MAX_SENTENCES: Final = 6
_MAX_NUMBERS: Final = 12


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, taken apart."""

    instruction: str  # what is asked
    material: str  # what there is to work on; empty when the prompt is only an instruction
    role: str = ""  # the system instruction


def take_apart(text: str, role: str = "") -> Question:
    """Tell what is asked from what is given: the first or last paragraph, when it reads like an instruction."""
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
    if not paragraphs:
        return Question("", "", role)
    if len(paragraphs) == 1:
        return _one_paragraph(paragraphs[0], role)
    first, last = paragraphs[0], paragraphs[-1]
    if last.endswith("?") and not first.endswith(("?", ":")):
        return Question(last, "\n\n".join(paragraphs[:-1]), role)
    return Question(first, "\n\n".join(paragraphs[1:]), role)


def _one_paragraph(text: str, role: str) -> Question:
    head, colon, rest = text.partition(":")
    if colon and len(sentences(rest)) > 1 and len(head) < 200 and "." not in head:
        return Question(head.strip(), rest.strip(), role)
    found = sentences(text)
    if len(found) == 1:
        return Question(text, "", role)
    if found[0].endswith("?"):
        return Question(found[0], " ".join(found[1:]), role)
    if found[-1].endswith("?"):
        return Question(found[-1], " ".join(found[:-1]), role)
    return Question(found[0], text, role)


def answer(question: Question) -> str:
    """The answer, with the marker before it."""
    if not question.material:
        asked = _clean(question.instruction) or "(nothing)"
        return f"{MARKER}The prompt gives no material beyond its instruction, which is: {asked}"
    keys = key_sentences(question.material, question.instruction)
    lines = [MARKER + _heading(question), ""] if question.role else [MARKER.rstrip()]
    lines += _shaped(keys, question.role)
    found = numbers(question.material)
    if found and (question.instruction.rstrip().endswith("?") or wants_bullets(question.role)):
        lines += ["", "Numbers in the text: " + ", ".join(found[:_MAX_NUMBERS])]
    return "\n".join(lines) if len(lines) > 2 or question.role else " ".join(lines)


def _heading(question: Question) -> str:
    terms = key_terms(question.material, 5)
    return f"What the text says most about: {', '.join(terms)}" if terms else "What the text says:"


def _shaped(keys: list[str], role: str) -> list[str]:
    if wants_steps(role):
        return [f"{number}. {sentence}" for number, sentence in enumerate(keys, 1)]
    if wants_bullets(role):
        return [f"- {sentence}" for sentence in keys]
    return [" ".join(keys)]


def wants_bullets(role: str) -> bool:
    """Whether the system instruction is of a role that reports in points."""
    return (
        re.search(r"\b(research|analy[sz]|review|critic|fact-check|audit|bullets?\b)", role, re.IGNORECASE) is not None
    )


def wants_steps(role: str) -> bool:
    """Whether the system instruction is of a role that answers in numbered steps."""
    return re.search(r"\byou are an? (?:\w+ )?(?:planner|coordinator)", role, re.IGNORECASE) is not None


def sentences(text: str) -> list[str]:
    """The sentences of a text, list items and headings too, without their bullets."""
    found: list[str] = []
    joined = False
    for part in _SENTENCE_END.split(text.strip()):
        cleaned = _clean(_BULLET.sub("", part))
        if not cleaned:
            continue
        if joined:
            found[-1] = f"{found[-1]} {cleaned}"
        else:
            found.append(cleaned)
        joined = _ABBREVIATION.search(cleaned) is not None
    return found


def words(text: str) -> list[str]:
    """Words that carry meaning, in lower case, stemmed just enough for a plural to match its singular."""
    found = (match.group().lower() for match in _WORD.finditer(text))
    return [_stem(word) for word in found if word not in _STOP_WORDS and len(word) > 1]


def numbers(text: str) -> list[str]:
    """The numbers of a text as they stand there, each once, in order."""
    return list(dict.fromkeys(match.group() for match in _NUMBER.finditer(text)))


def key_terms(text: str, count: int) -> list[str]:
    """The `count` most frequent words that carry meaning, as first written; ties by place."""
    counts: Counter[str] = Counter()
    written: dict[str, str] = {}
    for match in _WORD.finditer(text):
        word = match.group()
        if word.lower() in _STOP_WORDS or len(word) < 3:
            continue
        stem = _stem(word.lower())
        counts[stem] += 1
        written.setdefault(stem, word)
    return [written[stem] for stem, _ in counts.most_common(count)]


def key_sentences(text: str, query: str = "", count: int | None = None) -> list[str]:
    """The sentences that say most, in the order of the text.

    A sentence scores by how frequent its words are in the text, by the words it shares with `query`, and a little by
    its place: texts say what matters first. `count` defaults to a third of the sentences, 6 at most.
    """
    found = sentences(text)
    if not found:
        return []
    wanted = count if count is not None else min(_MAX_SENTENCES, max(1, -(-len(found) // 3)))
    frequency = Counter(words(text))
    asked = set(words(query))
    top = max(frequency.values(), default=1)

    def score(index: int) -> float:
        own = words(found[index])
        if not own:
            return 0.0
        central = sum(frequency[word] for word in own) / (top * math.sqrt(len(own)))
        shared = len(asked.intersection(own)) / len(asked) if asked else 0.0
        place = 0.3 if index == 0 else 0.1 if index == len(found) - 1 else 0.0
        return central + 2.0 * shared + place

    best = sorted(range(len(found)), key=lambda index: (-score(index), index))[:wanted]
    return list(dict.fromkeys(found[index] for index in sorted(best)))


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _clean(text: str) -> str:
    return " ".join(text.split())
