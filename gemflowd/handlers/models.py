"""Models of a handler's data and result: a dataclass, a msgspec Struct or a pydantic model, and what of them is plain.

Covers: the JSON Schema of a model, data to model, model to plain values. pydantic is never imported here: a model of its kind can only
exist where its author has imported it. Does not cover whether data fits the schema at submission: that is the daemon's
(`server.catalogue`), which knows the schema alone.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from gemflowd.handlers.errors import Permanent

#: Characters of a library's sentence about data that does not fit.
_MOST_WORDS: Final = 1_000


def is_model(value: object) -> bool:
    """Whether it is a class that data can be converted to."""
    if not isinstance(value, type):
        return False
    return dataclasses.is_dataclass(value) or issubclass(value, msgspec.Struct) or _is_pydantic(value)


def schema_of(model: type) -> dict[str, Any]:
    """The JSON Schema of the data that fits a model.

    Raises:
        TypeError: none can be made of it.
    """
    try:
        schema: dict[str, Any] = _adapter(model).json_schema() if _is_pydantic(model) else msgspec.json.schema(model)
    except Exception as error:
        raise TypeError(f"no JSON Schema can be made of {model.__qualname__}: {error}") from error
    return schema


def to_model(model: type, data: Any, *, strict: bool) -> Any:
    """Data as an instance of its model.

    Args:
        strict: False for data with rendered templates, which are strings: `"5"` is then taken for 5 where the model has a number.

    Raises:
        Permanent: with code `bad_data`, and the path of what does not fit.
    """
    if _is_pydantic(model):
        return _to_pydantic(model, data)
    try:
        return msgspec.convert(data, model, strict=strict)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        raise _bad_data(words, place.rstrip("`")) from None


def to_plain(value: Any) -> Any:
    """A handler's result with all models in it, dates, UUIDs, enumerations and sets made plain, as they would be in JSON.

    Raises:
        Exception: of any kind: a model may have code of its own.
    """
    _set_defaults(value, set())
    return msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_plain)


def _set_defaults(value: Any, seen: set[int]) -> None:
    """A dataclass that msgspec has made does not have its defaults itself, only its class does; they would be left out."""
    if isinstance(value, dict):
        inner: Iterable[Any] = value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        inner = value
    elif isinstance(value, msgspec.Struct):
        inner = [getattr(value, name) for name in value.__struct_fields__]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
        if hasattr(value, "__dict__"):
            vars(value).update(zip((field.name for field in dataclasses.fields(value)), inner, strict=True))
    else:
        return
    if id(value) not in seen:
        seen.add(id(value))
        for item in inner:
            _set_defaults(item, seen)


def _plain(value: Any) -> Any:
    if _is_pydantic(type(value)):
        return _adapter(type(value)).dump_python(value, mode="json", by_alias=True)  # type: ignore[arg-type]  # a type is hashable
    raise TypeError(f"a value of type {type(value).__name__} can't be stored")


def _is_pydantic(kind: type) -> bool:
    return "pydantic" in sys.modules and hasattr(kind, "__pydantic_validator__")


@lru_cache(maxsize=256)
def _adapter(model: type) -> Any:
    return sys.modules["pydantic"].TypeAdapter(model)


def _to_pydantic(model: type, data: Any) -> Any:
    try:
        return _adapter(model).validate_python(data)
    except sys.modules["pydantic"].ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"])
        raise _bad_data(problem["msg"], "".join(steps)) from None


def _bad_data(words: str, place: str) -> Permanent:
    return Permanent(f"data{place[:200]}: {words[:_MOST_WORDS]}", code="bad_data")
