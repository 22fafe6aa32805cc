"""References to tasks and flows: `42`, `42-48`, `f7`, `f7/research-a`. Pure.

Only the form is checked here; whether the thing exists is the daemon's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol, TypeAlias

from gemflowctl.errors import InvalidInput
from gemflowd.model.ids import ID_PATTERN, MAX_NUMBER

_REF: Final = re.compile(rf"(?P<first>\d+)(?:-(?P<last>\d+))?|f(?P<flow>\d+)(?:/(?P<id>{ID_PATTERN}))?")


class Referable(Protocol):
    """A handle: something that knows its own reference."""

    @property
    def ref(self) -> str: ...


RefLike: TypeAlias = "int | str | Referable"
Refs: TypeAlias = "RefLike | Iterable[RefLike]"


def check(ref: RefLike) -> str:
    """The reference as it goes over the wire.

    Raises:
        InvalidInput: it has none of the forms.
    """
    text = ref if isinstance(ref, str) else str(ref) if isinstance(ref, int) else ref.ref
    text = text.strip()
    match = _REF.fullmatch(text)
    if match is None or not text.isascii():
        raise InvalidInput(
            f"{text!r} is not a reference; write a task's number (42), a range (42-48), a flow (f7)"
            " or a task of a flow (f7/research-a)"
        )
    if any(int(match[name]) > MAX_NUMBER for name in ("first", "last", "flow") if match[name]):
        raise InvalidInput(f"{text!r}: that number is too large")
    if match["last"] and int(match["last"]) < int(match["first"]):
        raise InvalidInput(f"{text!r} is an empty range: it ends before it begins")
    return text


def check_all(refs: Refs) -> list[str]:
    """Every reference of one, or of several.

    Raises:
        InvalidInput: there is none, or one is malformed.
    """
    many: Iterable[RefLike] = refs if isinstance(refs, Iterable) and not isinstance(refs, str) else [refs]
    checked = [check(ref) for ref in many]
    if not checked:
        raise InvalidInput("no reference was given")
    return checked


def names_many(ref: str) -> bool:
    """Whether a checked reference may name many tasks: a whole flow, or a range."""
    return "/" not in ref if ref.startswith("f") else "-" in ref


def dependencies(text: str) -> list[dict[str, object]]:
    """The dependencies that `REF[:on]` means, as the daemon takes them; a range becomes one for each number.

    Raises:
        InvalidInput: malformed, a whole flow, or more than 10,000 tasks.
    """
    ref, colon, on = text.partition(":")
    if colon and on not in ("success", "failure", "done"):
        raise InvalidInput(f"{text!r}: after the colon comes success, failure or done")
    ref = check(ref)
    match = _REF.fullmatch(ref)
    assert match is not None
    extra: dict[str, object] = {"on": on} if on else {}
    if match["flow"]:
        if not match["id"]:
            raise InvalidInput(f"{text!r} is a whole flow; a task can wait for tasks: {ref}/ID or a number")
        return [{"flow": int(match["flow"]), "id": match["id"], **extra}]
    first = int(match["first"])
    last = int(match["last"] or first)
    if last - first >= 10_000:
        raise InvalidInput(f"{text!r} names more than 10,000 tasks")
    return [{"number": number, **extra} for number in range(first, last + 1)]
