"""Whether an answer fits its JSON Schema. Gemini promises that it does, and answers otherwise at times."""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from gemflowd.handlers.contents import parsed
from gemflowd.handlers.errors import Permanent

_MOST_PROBLEMS: Final = 5
_MOST_WORDS: Final = 300
_NOT_JSON: Final = object()


class Unfit(Exception):
    """It does not; the message says why, to a person and to the model."""

    def __init__(self, code: str, complaint: str) -> None:
        super().__init__(complaint)
        self.code = code


def check_schema(schema: Any) -> None:
    """Raises Permanent, `bad_schema`: it is no JSON Schema, or refers to something outside of itself."""
    _validator(json.dumps(schema, sort_keys=True))


def value_of(text: str, schema: Any) -> Any:
    """The answer as a value that fits.

    Args:
        schema: JSON Schema; None where it is JSON of whatever shape.

    Raises:
        Unfit: `bad_json` or `schema_mismatch`.
    """
    value = _read(text)
    if value is _NOT_JSON:
        raise Unfit("bad_json", "a schema was given, but the answer is not JSON")
    if schema is not None:
        problems = islice(_validator(json.dumps(schema, sort_keys=True)).iter_errors(value), _MOST_PROBLEMS)
        complaints = [_said(problem) for problem in problems]
        if complaints:
            raise Unfit("schema_mismatch", f"the answer does not fit the schema: {'; '.join(complaints)}")
    return value


def _read(text: str) -> Any:
    """JSON as `contents.parsed` reads it (no NaN, no huge integers), with that for a text told apart from a JSON string."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON
    value = parsed(text.encode("utf-8", "surrogatepass"))
    return _NOT_JSON if value == text and not text.lstrip().startswith('"') else value


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(json.loads(schema), retriever=_refuse)
    except ValueError as error:
        raise Permanent(f"`schema` is no JSON Schema: {str(error)[:_MOST_WORDS]}", code="bad_schema") from None


def _refuse(address: str) -> Any:
    raise ValueError(f"{address} is not part of the schema")


def _said(problem: Any) -> str:
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem.instance_path)
    return f"{place.lstrip('.') or 'the whole'}: {problem.message[:_MOST_WORDS]}"
