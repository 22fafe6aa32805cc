"""JSON by a schema, filled from the prompt's text.

Takes both of Gemini's dialects: `responseSchema` (an OpenAPI subset, types in capitals, `nullable`) and
`responseJsonSchema` (JSON Schema). What is made fits the schema; what can't be made is refused, as the service
refuses schemas that are too complex.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from gemflowd.standin.extract import MARKER, Question, key_sentences, key_terms, numbers, sentences, words

_MAX_DEPTH: Final = 12
_OPTIONAL_DEPTH: Final = 5  # below it only what is required is filled, so that recursive schemas come to an end
_ITEMS: Final = 3
_NAME_PARTS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_PUNCTUATION: Final = ".,;:!?()[]\"'"
#: What a string of this format looks like in a text, and what it is when the text has none. Others are remarks only.
_FORMATS: Final = {
    "date": (re.compile(r"\b\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])\b"), "1970-01-01"),
    "date-time": (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "1970-01-01T00:00:00Z"),
    "time": (re.compile(r"\b[01]\d:[0-5]\d:[0-5]\dZ"), "00:00:00Z"),
    "email": (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "stand-in@example.org"),
    "uri": (re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)]"), "https://example.org/"),
    "uuid": (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "00000000-0000-4000-8000-000000000000"),
}


class UnfillableSchema(Exception):
    """No value can be made for the schema; the message says for which part and why."""


def fill(schema: Mapping[str, Any], question: Question) -> Any:
    """A value that fits `schema`, its texts and numbers taken from the question.

    Raises:
        UnfillableSchema: the schema asks for something that can't be made from a text.
    """
    return _Filler(schema, question).value(schema, "", 0, 0)


class _Filler:
    def __init__(self, root: Mapping[str, Any], question: Question) -> None:
        self.root = root
        self.instruction = question.instruction
        self.text = question.material or question.instruction
        self.numbers = _values(self.text)
        self.next_number = 0

    def value(self, schema: Any, name: str, index: int, depth: int) -> Any:
        """A value for a part of the schema.

        Args:
            schema: the part.
            name: the property it is for: its words say which sentence is wanted.
            index: which item of a list it is.
            depth: how deep it is.
        """
        if depth > _MAX_DEPTH:
            raise UnfillableSchema(f"{name or 'the schema'} is nested more than {_MAX_DEPTH} deep")
        if schema is True or schema == {}:
            return self._sentence(name, index)
        if not isinstance(schema, Mapping):
            raise UnfillableSchema(f"{name or 'the schema'} allows no value")
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(schema["enum"], name)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self._alternative(schema, key, name, index, depth)
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, index, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return self._number(schema, name, whole=kind == "integer")
        if kind == "boolean":
            return bool(set(words(_spaced(name))) & set(words(self.text)))
        if kind == "null":
            return None
        return self._string(schema, name, index)

    def _resolve(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Follow `$ref`, and lay the parts of `allOf` over each other."""
        resolved = dict(schema)
        for _ in range(_MAX_DEPTH):
            if "$ref" in resolved:
                target = self._lookup(str(resolved.pop("$ref")))
                resolved = {**target, **resolved}
            elif resolved.get("allOf"):
                parts = resolved.pop("allOf")
                for part in parts:
                    resolved = _merge(resolved, self._resolve(part))
            else:
                return resolved
        raise UnfillableSchema("references go round in a circle")

    def _lookup(self, reference: str) -> Mapping[str, Any]:
        if not reference.startswith("#"):
            raise UnfillableSchema(f"{reference!r} is not in the schema itself")
        found: Any = self.root
        for part in filter(None, reference[1:].split("/")):
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            raise UnfillableSchema(f"{reference!r} leads nowhere")
        return found

    def _alternative(self, schema: dict[str, Any], key: str, name: str, index: int, depth: int) -> Any:
        rest = {other: value for other, value in schema.items() if other != key}
        reason: UnfillableSchema | None = None
        # Null only when nothing else can be filled: an answer should say something.
        for part in sorted(schema[key], key=lambda part: isinstance(part, Mapping) and _kind(part) == "null"):
            try:
                return self.value(_merge(rest, self._resolve(part)), name, index, depth + 1)
            except UnfillableSchema as error:
                reason = error
        assert reason is not None
        raise reason

    def _object(self, schema: Mapping[str, Any], index: int, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = list(schema.get("required") or [])
        order = [*(schema.get("propertyOrdering") or schema.get("property_ordering") or []), *properties, *required]
        filled: dict[str, Any] = {}
        for name in dict.fromkeys(order):
            if name not in properties and name not in required:
                continue
            if name not in required and depth >= _OPTIONAL_DEPTH:
                continue
            try:
                filled[name] = self.value(properties.get(name, True), name, index, depth + 1)
            except UnfillableSchema:
                if name in required:
                    raise
        self._more_properties(schema, filled, depth)
        return filled

    def _more_properties(self, schema: Mapping[str, Any], filled: dict[str, Any], depth: int) -> None:
        wanted = int(schema.get("minProperties") or schema.get("min_properties") or 0)
        more = schema.get("additionalProperties", True)
        if not schema.get("properties") and isinstance(more, Mapping) and more:
            wanted = max(wanted, 1)  # a map of values: show one
        if len(filled) < wanted and more is False:
            raise UnfillableSchema(f"{wanted} properties are wanted and only {len(filled)} are allowed")
        terms = iter([*key_terms(self.text, wanted), *(f"key{number}" for number in range(1, wanted + 1))])
        while len(filled) < wanted:
            name = next(terms)
            if name not in filled:
                filled[name] = self.value(more, name, len(filled), depth + 1)

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        prefix = list(schema.get("prefixItems") or [])
        least = int(schema.get("minItems") or schema.get("min_items") or 0)
        most = schema.get("maxItems", schema.get("max_items"))
        count = max(least, len(prefix) or min(_ITEMS, max(1, len(sentences(self.text)))))
        if most is not None:
            count = min(count, int(most))
        if depth >= _OPTIONAL_DEPTH:
            count = least
        if count < least:
            raise UnfillableSchema(f"{name}: at least {least} and at most {most} items")
        items = schema.get("items", True)
        filled: list[Any] = []
        for index in range(count):
            part = prefix[index] if index < len(prefix) else items
            item = self.value(part, name, index, depth + 1)
            if schema.get("uniqueItems") and item in filled:
                if len(filled) < least:
                    raise UnfillableSchema(f"{name}: the text has not enough different values")
                break
            filled.append(item)
        return filled

    def _number(self, schema: Mapping[str, Any], name: str, *, whole: bool) -> float | int:
        low, high = _bounds(schema)
        step = float(schema.get("multipleOf") or (1 if whole else 0))

        def fits(value: float) -> bool:
            return low <= value <= high and (not step or math.isclose(value / step, round(value / step)))

        wanted = set(words(_spaced(name)))
        for sentence in sentences(self.text):
            if (
                wanted.intersection(words(sentence))
                and (near := next(filter(fits, _values(sentence)), None)) is not None
            ):
                return int(near) if whole else near
        for turn in range(len(self.numbers)):
            place = (self.next_number + turn) % len(self.numbers)
            if fits(value := self.numbers[place]):
                self.next_number = place + 1
                return int(value) if whole else value
        value = min(max(0.0, low), high)
        if step:
            value = math.ceil(value / step) * step
            if value > high:
                value = math.floor(high / step) * step
        if not low <= value <= high:
            raise UnfillableSchema(f"{name}: no number is between {low} and {high}")
        return int(value) if whole else value

    def _choice(self, options: list[Any], name: str) -> Any:
        """The option that the text speaks of most; the first, where it speaks of none."""
        text = words(self.text) + words(_spaced(name))

        def said(option: Any) -> int:
            own = set(words(_spaced(str(option))))
            return sum(word in own for word in text)

        usable = [option for option in options if option is not None] or options
        return max(usable, key=said)  # the first of equals

    def _string(self, schema: Mapping[str, Any], name: str, index: int) -> str:
        least = int(schema.get("minLength") or schema.get("min_length") or 0)
        most = schema.get("maxLength", schema.get("max_length"))
        most = None if most is None else int(most)
        if most is not None and most < least:
            raise UnfillableSchema(f"{name}: at least {least} and at most {most} characters")
        if pattern := schema.get("pattern"):
            return self._matching(str(pattern), name, least, most)
        if (form := str(schema.get("format"))) in _FORMATS:
            expression, default = _FORMATS[form]
            found = expression.findall(self.text)
            return str(found[index % len(found)]) if found else default
        text = self._sentence(name, index)
        if most is not None:
            text = text[:most]
        while len(text) < least:
            text = f"{text} {self._sentence(name, index + 1)}"[: max(least, most or least)]
        return text

    def _matching(self, pattern: str, name: str, least: int, most: int | None) -> str:
        """A piece of the text that the pattern takes. JSON Schema's patterns may match anywhere in a value."""
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise UnfillableSchema(f"{name}: the pattern {pattern!r} can't be read: {error}") from None
        pieces = [*self.text.split(), *sentences(self.text), "0", "1", "a", "A", "0000", "aaaa"]
        for value in itertools.chain.from_iterable((piece, piece.strip(_PUNCTUATION)) for piece in pieces):
            if len(value) >= least and (most is None or len(value) <= most) and expression.search(value):
                return value
        raise UnfillableSchema(f"{name}: nothing in the text fits the pattern {pattern!r}")

    def _sentence(self, name: str, index: int) -> str:
        """The sentence that the property's name asks for; for items of a list a different one each."""
        asked = _spaced(name).lower()
        if re.search(r"\b(title|name|topic|subject|heading|keywords?|tags?|terms?|labels?)\b", asked):
            terms = key_terms(self.text, index + 4)
            if re.search(r"\b(keywords?|tags?|terms?|labels?)\b", asked):
                return terms[index % len(terms)] if terms else MARKER.strip()
            return MARKER + " ".join(terms[index : index + 4] or terms)
        if re.search(r"\b(summary|abstract|text|answer|conclusion)\b", asked):
            return MARKER + " ".join(key_sentences(self.text, self.instruction))
        found = key_sentences(self.text, f"{asked} {self.instruction}", count=max(_ITEMS, index + 1))
        return MARKER + found[index % len(found)] if found else MARKER.strip()


def _kind(schema: Mapping[str, Any]) -> str:
    """The type in lower case; of several the first that is not null; without one, what the keywords are about."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if str(item).lower() != "null"), "null")
    if kind:
        return str(kind).lower()
    if "properties" in schema or "required" in schema or "additionalProperties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema:
        return "number"
    return "string"


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float]:
    low = float(schema.get("minimum", -math.inf))
    high = float(schema.get("maximum", math.inf))
    # The smallest step that is a fraction people use; a whole number moves on to the next one.
    step = 1.0 if _kind(schema) == "integer" else 1e-6
    if "exclusiveMinimum" in schema:
        low = max(low, float(schema["exclusiveMinimum"]) + step)
    if "exclusiveMaximum" in schema:
        high = min(high, float(schema["exclusiveMaximum"]) - step)
    return low, high


def _merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**one, **other}
    if one.get("properties") and other.get("properties"):
        merged["properties"] = {**one["properties"], **other["properties"]}
    if one.get("required") and other.get("required"):
        merged["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return merged


def _values(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in numbers(text)]


def _spaced(name: str) -> str:
    return " ".join(_NAME_PARTS.findall(name)) or name
