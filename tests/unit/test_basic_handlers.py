"""The task types for trying out, and that the catalogue is cheap."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

from gemflowd.handlers.basic import echo, sleep, spin
from gemflowd.handlers.registry import discover
from gemflowd.model.attempt import Kind
from tests.helpers.contexts import make_context


def test_echo_returns_its_data() -> None:
    context, _ = make_context()
    assert echo({"a": [1, None]}, context) == {"a": [1, None]}


def test_sleep_gives_the_loop_away() -> None:
    context, _ = make_context()

    async def many() -> list[dict[str, float]]:
        return await asyncio.gather(*(sleep({"seconds": 0.05}, context) for _ in range(1000)))

    started = time.monotonic()
    assert asyncio.run(many()) == [{"seconds": 0.05}] * 1000
    assert time.monotonic() - started < 20


def test_spin_uses_the_processor() -> None:
    context, _ = make_context()
    before = time.thread_time()
    assert spin({"seconds": 0.05}, context) == {"seconds": 0.05}
    assert time.thread_time() - before >= 0.05


def test_the_catalogue() -> None:
    found = {name: handler.info for name, handler in discover([]).items()}
    assert {"echo", "sleep", "spin", "command", "gemini"} <= found.keys()
    assert [name for name, info in found.items() if info.kind is Kind.COROUTINE] == [
        "agent.plan",
        "agent",
        "sleep",
        "gemini",
        "gemini.batch",
        "gemini.embed",
        "gemini.count",
        "gemini.tools",
        "mcp",
        "memory",
    ]
    assert found["gemini"].bucket == "gemini:{model}"
    assert all(info.doc for info in found.values())


def test_without_a_key_the_sdk_is_not_loaded_ahead() -> None:
    code = (
        "import sys; from gemflowd.handlers.gemini.handler import preload; preload({}); print('google.genai' in sys.modules);"
        "preload({'gemini_offline': True}); print('google.genai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"HOME": "/"})
    assert done.stdout == "False\nTrue\n"


def test_the_catalogue_does_not_load_the_sdk() -> None:
    code = (
        "import sys; from gemflowd.handlers.registry import discover; discover([]);"
        "print([name for name in ('google.genai', 'aiohttp', 'pydantic', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
