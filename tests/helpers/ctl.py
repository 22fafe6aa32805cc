"""A real `gemflowctl`, as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers.daemon import environment

Ran = subprocess.CompletedProcess[str]


class Ctl:
    """Runs `gemflowctl` in a directory of its own."""

    def __init__(self, endpoint: str, directory: Path, **env: str) -> None:
        self._environment = environment(GEMFLOW_ENDPOINT=endpoint, **env)
        self.directory = directory

    def __call__(self, *arguments: str, stdin: str = "", status: int = 0) -> Ran:
        ran = subprocess.run(
            [sys.executable, "-m", "gemflowctl", *arguments],
            cwd=self.directory,
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == status, f"{arguments}: {ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr
        return ran

    def json(self, *arguments: str, stdin: str = "", status: int = 0) -> Any:
        return json.loads(self("--json", *arguments, stdin=stdin, status=status).stdout)

    def lines(self, *arguments: str, status: int = 0) -> list[Any]:
        return [json.loads(line) for line in self("--json", *arguments, status=status).stdout.splitlines()]
