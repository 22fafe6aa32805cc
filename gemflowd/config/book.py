"""The personas of this installation, as a submission needs them: name in, instructions and model out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from gemflowd.config.personas import Persona, apply_persona
from gemflowd.model import tools
from gemflowd.model.errors import Invalid


class PersonaBook:
    """Resolves `agent` of a `gemini` task when it is submitted, so that the task keeps the persona it was given.

    Args:
        servers: names of the MCP servers of the settings.
    """

    def __init__(
        self, personas: Mapping[str, Persona], default_model: Callable[[], str], servers: Callable[[], Collection[str]]
    ) -> None:
        self._personas = personas
        self._default_model = default_model
        self._servers = servers

    def expand(self, data: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The data with persona and model written into it, and in `tools` those that it may use.

        Raises:
            Invalid: `unknown_agent`; `unknown_tool` or `not_permitted`, for `tools`.
        """
        expanded = dict(data)
        name = data.get("agent")
        persona = None
        if isinstance(name, str):
            persona = self._personas.get(name)
            if persona is None:
                known = ", ".join(sorted(self._personas))
                raise Invalid("unknown_agent", f"there is no persona {name!r}; there are: {known}", path)
            if isinstance(data.get("config"), dict | None) and isinstance(data.get("system"), str | None):
                expanded = apply_persona(expanded, persona)  # else the schema refuses it in its own words
        if not expanded.get("model"):
            expanded["model"] = self._default_model()
        if "tools" in data or (persona is not None and persona.tools is not None):
            self._give_tools(expanded, persona, path)
        return expanded

    def _give_tools(self, data: dict[str, Any], persona: Persona | None, path: str) -> None:
        """Those that the task asks for and its persona permits; all of the persona's, where the task says nothing."""
        path = f"{path.removesuffix('.agent')}.tools"
        allowed = None if persona is None else persona.tools
        wanted = data.get("tools", allowed)
        if not isinstance(wanted, list | tuple) or not all(isinstance(name, str) for name in wanted):
            raise Invalid("wrong_type", "must be a list of names of tools", path)
        for name in wanted:
            if (problem := tools.problem(name, self._servers())) is not None:
                raise Invalid("unknown_tool", problem, path)
        found = list(dict.fromkeys(wanted)) if allowed is None else tools.permitted(wanted, allowed)
        if wanted and not found:
            raise Invalid("not_permitted", f"the persona {data['agent']!r} may use none of these tools", path)
        if found:
            data["tools"] = found
        else:
            data.pop("tools", None)

    def servers(self) -> list[str]:
        return sorted(self._servers())

    def table(self) -> list[dict[str, Any]]:
        return [
            {
                "name": p.name,
                "description": p.description,
                **({} if p.tools is None else {"tools": list(p.tools)}),
            }
            for p in sorted(self._personas.values(), key=lambda p: p.name)
        ]
