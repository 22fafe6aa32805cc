"""The task types of this installation, with their schemas ready to be checked against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs

from gemflowd.model.attempt import HandlerInfo
from gemflowd.model.errors import ConfigError, Invalid, echo


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
                validators[info.type] = jsonschema_rs.validator_for(info.schema)
            except ValueError as error:
                problems.append(f"the schema of task type {info.type!r} ({info.module}) is wrong: {error}")
        if problems:
            raise ConfigError(problems)
        self._handlers, self._validators = infos, validators

    def check(self, task_type: str, data: Mapping[str, Any], path: str) -> HandlerInfo:
        info = self._handlers.get(task_type)
        if info is None:
            known = ", ".join(sorted(self._handlers)) or "none"
            raise Invalid(
                "unknown_type", f"no handler for task type {echo(task_type)}; there are: {known}", f"{path}.type"
            )
        validator = self._validators[task_type]
        if not validator.is_valid(data):
            error = next(iter(validator.iter_errors(data)))
            place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
            hint = info.schema.get("x-hint") if not place and "oneOf" in error.message else None
            raise Invalid("invalid_data", f"{task_type}: {hint or error.message}", f"{path}.data{place}")
        return info

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "type": info.type,
                "kind": info.kind.word,
                "schema": info.schema,
                "doc": info.doc,
                "bucket": info.bucket,
                "module": info.module,
            }
            for info in sorted(self._handlers.values(), key=lambda info: info.type)
        ]
