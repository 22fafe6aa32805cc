"""What earlier attempts of a task have come to: an answer that did not fit, a model that could not be had.

It travels as the note of an attempt that ended as `again`, so it survives a crash, and each question is an attempt with its own usage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gemflowd.handlers.errors import Again, HandlerError, Instead, Permanent
from gemflowd.model.calls import plain_model

#: Characters of an answer that are shown to the model again, and kept.
_MOST_ANSWER: Final = 12_000
#: Codes of errors after which another model is asked, if the task names one.
_OF_THE_MODEL: Final = frozenset({"overloaded", "not_found", "daily_quota"})


@dataclass(frozen=True, slots=True)
class Before:
    """
    Attributes:
        model: asked instead of the task's own; None: that.
        reasks: answers that did not fit, of this model.
        answer: the last of them.
        complaint: what was wrong with it.
    """

    model: str | None = None
    reasks: int = 0
    answer: str | None = None
    complaint: str = ""

    @property
    def question(self) -> str:
        return f"That answer can't be used: {self.complaint}. Answer the question again, with JSON that fits the schema and nothing else."


def before(note: Any, agains: int) -> Before:
    """From an attempt's context. After a retry by a person the model stays, and nothing else counts."""
    if not isinstance(note, Mapping):
        return Before()
    model = note.get("model")
    if not agains:
        return Before(model)
    return Before(model, int(note.get("reasks") or 0), note.get("answer"), str(note.get("complaint") or ""))


def unfit(earlier: Before, answer: str, complaint: str, most: int, code: str, usage: dict[str, Any]) -> HandlerError:
    """The answer does not fit: ask again, or give up when that was done `most` times."""
    count = f"answer {earlier.reasks + 1} of {most + 1}"
    if earlier.reasks >= most:
        return Permanent(f"{complaint} ({count})", code=code, usage=usage)
    note = {
        "model": earlier.model,
        "reasks": earlier.reasks + 1,
        "answer": answer[:_MOST_ANSWER],
        "complaint": complaint,
    }
    return Again(f"{complaint} ({count}, the model is asked again)", Instead(note), code=code, usage=usage)


def name_next_model(failure: HandlerError, model: str, data: Mapping[str, Any]) -> None:
    """Where the model can't be had: the next of the task's list, under its own limit."""
    if failure.code not in _OF_THE_MODEL or isinstance(failure, Again):
        return
    # Each once, else the place of one that is named twice would be its first for ever.
    named = (str(data.get("model")), *(data.get("fallback") or ()))
    models: Sequence[str] = list(dict.fromkeys(map(plain_model, named)))
    model = plain_model(model)
    place = models.index(model) + 1 if model in models else len(models)
    if place < len(models):
        failure.instead = Instead({"model": models[place]}, f"gemini:{models[place]}")
