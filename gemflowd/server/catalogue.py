"""The task types of this installation, with their schemas ready to be checked against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from gemflowd.model.attempt import HandlerInfo
from gemflowd.model.errors import ConfigError, Invalid, echo
from gemflowd.templates import has_template

#: Problems of one task's data that are looked at: more than one only where some may be about templates.
_MOST_PROBLEMS: Final = 1_000
_MOST_WORDS: Final = 500
#: Keywords that say of a map or list as a whole what a template in it may still make true.
_OF_THE_WHOLE: Final = frozenset(
    {"anyOf", "oneOf", "not", "enum", "const", "contains", "uniqueItems", "minContains", "maxContains"}
)


class Catalogue:
    """See `server.desk.Validator`.

    jsonschema-rs checks a small map in about a microsecond; the pure Python jsonschema takes a hundred.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, HandlerInfo] = {}
        self._validators: dict[str, Any] = {}

    def load(self, handlers: Iterable[HandlerInfo]) -> None:
        """Take a nursery's catalogue.

        Raises:
            ConfigError: a handler's schema is none.
        """
        infos = {info.type: info for info in handlers}
        validators = {}
        problems = []
        for info in infos.values():
            try:
                validators[info.type] = jsonschema_rs.validator_for(info.schema, retriever=_refuse)
            except ValueError as error:
                problems.append(f"the schema of task type {info.type!r} ({info.module}) is wrong: {error}")
        if problems:
            raise ConfigError(problems)
        self._handlers, self._validators = infos, validators

    def check(self, task_type: str, data: Mapping[str, Any], path: str, *, templates: bool = False) -> HandlerInfo:
        info = self._handlers.get(task_type)
        if info is None:
            known = ", ".join(sorted(self._handlers)) or "none"
            raise Invalid(
                "unknown_type", f"no handler for task type {echo(task_type)}; there are: {known}", f"{path}.type"
            )
        validator = self._validators[task_type]
        try:
            if not validator.is_valid(data):
                self._refuse(info, validator, data, path, templates=templates)
        except ValueError as error:  # a value that no JSON Schema is about
            hint = "; send bytes as base64 text" if "bytes" in str(error) else ""
            raise Invalid("invalid_data", f"{task_type}: {error}{hint}", f"{path}.data") from None
        return info

    def _refuse(
        self, info: HandlerInfo, validator: Any, data: Mapping[str, Any], path: str, *, templates: bool
    ) -> None:
        """Raise what does not fit. Where the worker checks again, what a template may make fit is left to it."""
        for error in islice(validator.iter_errors(data), _MOST_PROBLEMS):
            if templates and info.converts and _may_fit(error, data):
                continue
            place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
            hint = info.schema.get("x-hint") if not place and "oneOf" in error.message else None
            raise Invalid("invalid_data", f"{info.type}: {hint or error.message[:_MOST_WORDS]}", f"{path}.data{place}")

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "type": info.type,
                "kind": info.kind.word,
                "schema": info.schema,
                "doc": info.doc,
                "bucket": info.bucket,
                "module": info.module,
                "package": info.package or None,
            }
            for info in sorted(self._handlers.values(), key=lambda info: info.type)
        ]


def _refuse(address: str) -> Any:
    """A schema is complete in itself: the daemon reads no file and asks no server for a part of it."""
    raise ValueError(f"{address} is not part of the schema")


def _may_fit(error: Any, data: Mapping[str, Any]) -> bool:
    """Whether what a schema finds wrong may be right when the templates are rendered."""
    value: Any = data
    for step in error.instance_path:
        value = value[step]
    if isinstance(value, str):
        return has_template(value)
    keyword = error.schema_path[-1] if error.schema_path else None
    return keyword in _OF_THE_WHOLE and _has_one(value)


def _has_one(value: Any) -> bool:
    if isinstance(value, str):
        return has_template(value)
    if isinstance(value, Mapping):
        return any(map(_has_one, value.values()))
    return isinstance(value, list) and any(map(_has_one, value))
