"""A stand-in as a process: it says when it serves, and ends on a signal or with who started it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Final

from gemflowd.standin.options import Options
from gemflowd.standin.server import serve

_LOG: Final = logging.getLogger("gemflowd.standin")


def run(options: Options) -> None:
    """Serve until SIGTERM, SIGINT, or the end of `options.parent_fd`. Prints `READY <url>` once it accepts requests.

    Raises:
        ConfigError, OSError: as for `serve`.
    """
    asyncio.run(_run(options))


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with await serve(options.host, options.port, options) as stand_in:
        if options.parent_fd is not None:
            _stop_at_end_of(options.parent_fd, stop)
        _announce(f"READY {stand_in.url}\n", options.ready_fd)
        _LOG.info("stand-in: answering at %s with the prompts' own sentences; no model is asked", stand_in.url)
        await stop.wait()


def _stop_at_end_of(descriptor: int, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        try:
            ended = not os.read(descriptor, 4096)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            loop.remove_reader(descriptor)
            stop.set()

    loop.add_reader(descriptor, readable)


def _announce(line: str, descriptor: int | None) -> None:
    if descriptor is None:
        sys.stdout.write(line)
        sys.stdout.flush()
    else:
        os.write(descriptor, line.encode("ascii"))
