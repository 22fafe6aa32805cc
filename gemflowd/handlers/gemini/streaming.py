"""An answer that comes in pieces: each is told to the task's log while it comes, and all of them make one response.

The pieces are lines of the stream `text`, about ten a second. So who comes late reads what was said before, and what was said before a
crash stays, under the number of the attempt that said it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Transient
from gemflowd.handlers.gemini.result import usage_of

if TYPE_CHECKING:
    from google.genai import types

#: The stream of a task's log that has the answer's pieces.
STREAM: Final = "text"
_EVERY: Final = 0.1
#: Characters of one line of the log, which cuts longer ones.
_PIECE: Final = 4_000


class Pieces:
    """Puts small pieces together until a tenth of a second is over. Call `flush` at the end."""

    def __init__(self, emit: Callable[[str, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._held = ""
        self._told = -math.inf

    def add(self, text: str) -> None:
        self._held += text
        if self._held and self._clock() - self._told >= _EVERY:
            self.flush()

    def flush(self) -> None:
        held, self._held = self._held, ""
        for start in range(0, len(held), _PIECE):
            self._emit(STREAM, held[start : start + _PIECE])
        self._told = self._clock()


async def collect(
    chunks: AsyncIterator[types.GenerateContentResponse], emit: Callable[[str, str], None], usage: dict[str, Any]
) -> types.GenerateContentResponse:
    """Tell the pieces, and return what the same answer would have been in one.

    Args:
        usage: is told what it has cost so far, for the case that it breaks off.

    Raises:
        Transient: `disconnected`: it ended before Gemini said that it was complete.
    """
    from google.genai import types

    pieces = Pieces(emit)
    parts: list[types.Part] = []
    last: dict[str, Any] = {}
    candidate: types.Candidate | None = None
    try:
        async for chunk in chunks:
            for name in ("usage_metadata", "model_version", "prompt_feedback", "sdk_http_response", "response_id"):
                if (value := getattr(chunk, name)) is not None:
                    last[name] = value
            usage.update(usage_of(chunk))
            if not chunk.candidates:
                continue
            candidate = chunk.candidates[0]
            for part in (candidate.content.parts if candidate.content else None) or []:
                _join(parts, part)
                if part.text and not part.thought:
                    pieces.add(part.text)
    except asyncio.CancelledError:
        pieces.flush()
        emit("log", "[the attempt was asked to stop here]")
        raise
    finally:
        pieces.flush()
    if candidate is None and "prompt_feedback" not in last:
        raise Transient("Gemini's stream ended without an answer", code="disconnected")
    if candidate is not None:
        if candidate.finish_reason is None:
            raise Transient("Gemini's stream ended before the answer was complete", code="disconnected")
        candidate = candidate.model_copy(update={"content": types.Content(role="model", parts=parts)})
    return types.GenerateContentResponse(candidates=[candidate] if candidate else None, **last)


def _join(parts: list[types.Part], part: types.Part) -> None:
    """Neighbouring texts of one kind are one part."""
    before = parts[-1] if parts else None
    if before is not None and before.text and part.text and bool(before.thought) == bool(part.thought):
        before.text += part.text
    else:
        parts.append(part.model_copy())
