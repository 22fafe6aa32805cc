"""The personas of this installation, as a submission needs them: name in, instructions and model out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gemflowd.config.personas import Persona, apply_persona
from gemflowd.model.errors import Invalid


class PersonaBook:
    """Resolves `agent` of a `gemini` task when it is submitted, so that the task keeps the persona it was given."""

    def __init__(self, personas: Mapping[str, Persona], default_model: Callable[[], str]) -> None:
        self._personas = personas
        self._default_model = default_model

    def expand(self, data: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The data with persona and model written into it.

        Raises:
            Invalid: `unknown_agent`.
        """
        expanded = dict(data)
        name = data.get("agent")
        if isinstance(name, str):
            persona = self._personas.get(name)
            if persona is None:
                known = ", ".join(sorted(self._personas))
                raise Invalid("unknown_agent", f"there is no persona {name!r}; there are: {known}", path)
            if isinstance(data.get("config"), dict | None) and isinstance(data.get("system"), str | None):
                expanded = apply_persona(expanded, persona)  # else the schema refuses it in its own words
        if not expanded.get("model"):
            expanded["model"] = self._default_model()
        return expanded

    def table(self) -> list[dict[str, Any]]:
        return [
            {"name": p.name, "description": p.description}
            for p in sorted(self._personas.values(), key=lambda p: p.name)
        ]
