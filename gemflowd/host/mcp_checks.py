"""Whether the MCP servers of the settings answer: what `doctor` asks. A process of its own looks, so that nothing of it is loaded here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

from gemflowd.host.checks import Finding

_PROBE: Final = "gemflowd.handlers.mcp.probe"
#: Seconds that the probe needs beside what a server is given.
_BESIDE: Final = 15.0
_DEFAULT_TIMEOUT: Final = 30.0


def check_mcp(servers: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """One finding for each server. Waits for them, all at once.

    Args:
        servers: as the settings have them, checked.
    """
    if not servers:
        return []
    patience = _BESIDE + max(float(said.get("timeout", _DEFAULT_TIMEOUT)) for said in servers.values())
    try:
        ran = subprocess.run(
            [sys.executable, "-m", _PROBE],
            input=json.dumps({"mcp": {"servers": servers}}).encode(),
            capture_output=True,
            timeout=patience,
            check=True,
        )
        found = json.loads(ran.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [Finding("mcp", "wrong", f"the servers could not be asked: {type(error).__name__}")]
    return [_finding(name, answer) for name, answer in sorted(found.items())]


def _finding(name: str, answer: Mapping[str, Any]) -> Finding:
    if "error" in answer:
        return Finding(f"mcp {name}", "wrong", answer["error"], "see [mcp.servers] in gemflowd.toml, docs/tools.md")
    return Finding(f"mcp {name}", "ok", f"answers, with {answer['tools']} tools")
