"""Function calls of the stand-in: a prompt asks for them by markers, one for each call.

    [[stand-in:call name=read_file path=a.txt]]   calls that function with `{"path": "a.txt"}`
    [[stand-in:call name=add a=:2 b=:3 turn=2]]   values behind a colon are JSON; in its second answer, after others were answered
    [[stand-in:call name=list_files turn=any]]    in every answer

A turn with calls has a thought signature, as a thinking model's has, and a request that does not bring it back as it was is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any, Final

from gemflowd.standin.parse import Asked, BadRequest

_CALL: Final = re.compile(r"\[\[stand-in:call((?:\s+\w+=[^\s\]]*)+)\s*\]\]")


def parts(asked: Asked) -> list[dict[str, Any]]:
    """The calls of this answer, as parts of its turn; none where none were asked for."""
    found: list[dict[str, Any]] = []
    for text in asked.turns:
        for match in _CALL.finditer(text):
            values = dict(item.split("=", 1) for item in match[1].split())
            turn, name = values.pop("turn", "1"), values.pop("name", "")
            if name and turn in ("any", str(asked.answered + 1)):
                found.append(
                    {"functionCall": {"name": name, "args": {key: _value(said) for key, said in values.items()}}}
                )
    if found:
        found[0]["thoughtSignature"] = _signature(found, asked.answered)
    return found


def check_signatures(turns: Any) -> None:
    """Raises BadRequest: a turn with calls came back without its signature, or with another one."""
    answered = 0
    for turn in turns if isinstance(turns, list) else []:
        its = turn.get("parts") if isinstance(turn, dict) else None
        made = [part for part in its or [] if isinstance(part, dict) and "functionCall" in part]
        if made and turn.get("role") == "model":
            bare = [
                {"functionCall": {key: part["functionCall"].get(key) or {} for key in ("name", "args")}}
                for part in made
            ]
            signed = made[0].get("thoughtSignature") or ""
            if signed.translate(_URL) != _signature(bare, answered).translate(_URL):
                raise BadRequest("Function call is missing a thought_signature in functionCall parts")
        answered += any(isinstance(part, dict) and "functionResponse" in part for part in its or [])


_URL: Final = str.maketrans("-_", "+/")


def _signature(calls: list[dict[str, Any]], answered: int) -> str:
    """Bytes that are no text, so that who treats them as one breaks them."""
    digest = hashlib.sha512(json.dumps([calls, answered], sort_keys=True).encode()).digest()
    return base64.b64encode(b"\xff\xfe\x00" + digest).decode("ascii")


def _value(said: str) -> Any:
    if not said.startswith(":"):
        return said
    try:
        return json.loads(said[1:])
    except ValueError:
        return said


def without_calls(text: str) -> str:
    return _CALL.sub("", text)
