"""The stand-in's log: a JSON line for each request, and for each one of a batch.

A question is named by a hash, `prompt`, of its system instruction, texts and files; its words are not written down. `outcome` is
`answered` where an answer was given that a client can use: two such lines with one `prompt` and `model` are a question that was paid
twice.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import IO, Any, Final

from gemflowd.standin.faults import Fault
from gemflowd.standin.parse import Asked

_LOG: Final = logging.getLogger("gemflowd.standin")


class RequestLog:
    """Args: path: the file, which is added to; None: nothing is written."""

    def __init__(self, path: Path | None) -> None:
        self._file: IO[str] | None = None if path is None else path.open("a", encoding="utf-8", buffering=1)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(
        self,
        method: str,
        path: str,
        model: str | None,
        status: int | None,
        asked: Asked | None = None,
        fault: Fault | None = None,
        body: Any = None,
        *,
        outcome: str | None = None,
        tier: str | None = None,
    ) -> None:
        """One line.

        Args:
            status: None where none was sent.
            body: that was answered, for its tokens.
            outcome: where it does not follow from the rest: `answered`, `refused` (a status from 400 on), `dropped`, `broken`,
                `left` (the client did, in the middle of a stream), or what the answer lacks: `safety`, `max_tokens`, …
        """
        _LOG.debug("stand-in: %s %s -> %s", method, path, status)
        if self._file is None:
            return
        usage = body.get("usageMetadata") if isinstance(body, dict) and status == 200 else None
        line = {
            "stand_in": True,
            "at": time.time(),
            "method": method,
            "path": path,
            "model": model,
            "status": status,
            "prompt": asked.digest if asked else None,
            "fault": fault.kind if fault else None,
            "outcome": outcome or _outcome(status, fault),
            "tier": tier or (asked.tier if asked else None),
            "prompt_tokens": usage.get("promptTokenCount", 0) if usage else 0,
            "output_tokens": usage.get("candidatesTokenCount", 0) if usage else 0,
            "thought_tokens": usage.get("thoughtsTokenCount", 0) if usage else 0,
        }
        self._file.write(json.dumps(line) + "\n")


#: Faults with which a client has a whole answer all the same.
_HARMLESS: Final = ("slow", "pieces", "batch_failed", "batch_expired")


def _outcome(status: int | None, fault: Fault | None) -> str:
    if status is None:
        return "dropped"
    if status >= 400:
        return "refused"
    if fault is None or fault.kind in _HARMLESS:
        return "answered"
    return "broken" if fault.kind in ("malformed", "break") else fault.kind
