"""A thread that notices when the loop of a coroutine worker stands still, because one of its coroutines does not give it away.

It looks only while attempts run. While C code keeps the interpreter's lock it stands still itself, and can tell only afterwards.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

#: Seconds that a loop may take for one turn.
MOST: Final = 1.0
#: Seconds between two looks.
EVERY: Final = 0.5
#: Calls of a stack, and characters.
_CALLS: Final = 20
_CHARACTERS: Final = 4_000


class LoopWatch:
    """Made on the loop's thread.

    Args:
        stands: called on the watcher's thread when it stands still: for how many seconds, what it was doing (the asyncio task, if
            it is one), and the stack.
        turns: called on the watcher's thread when it turns again: seconds in all.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stands: Callable[[float, asyncio.Task[Any] | None, str], None],
        turns: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._stands = stands
        self._turns = turns
        self._wanted = threading.Event()
        threading.Thread(target=self._run, name="loop watch", daemon=True).start()

    def look(self, wanted: bool) -> None:
        """Whether something runs on the loop."""
        if wanted is not self._wanted.is_set():
            (self._wanted.set if wanted else self._wanted.clear)()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if not self._look():
                return
            time.sleep(EVERY)

    def _look(self) -> bool:
        turned = threading.Event()
        begin = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(turned.set)
        except RuntimeError:
            return False  # it is closed
        if not turned.wait(MOST):
            self._stands(time.monotonic() - begin, *self._what())
            turned.wait()
            self._turns(time.monotonic() - begin)
        elif (seconds := time.monotonic() - begin) > MOST + EVERY:
            self._stands(seconds, None, "(C code that kept the interpreter's lock)")
            self._turns(seconds)
        return True

    def _what(self) -> tuple[asyncio.Task[Any] | None, str]:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread)
        stack = traceback.extract_stack(frame) if frame is not None else []
        # What calls the coroutine is the same for all of them.
        turn = max((index for index, call in enumerate(stack) if call.filename == asyncio.events.__file__), default=-1)
        return task, "".join(traceback.format_list(stack[turn + 1 :][-_CALLS:]))[-_CHARACTERS:].rstrip()
