"""One peer that runs: its process, asked for rounds through pipes, and frozen while others are measured."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.box import ROOT
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.servers import Missing

#: Seconds for a start, or a round.
_PATIENCE = 90.0


def environment(name: str) -> Path:
    """The directory of a peer's virtual environment."""
    return ROOT / "build" / "peers" / name


class Running:
    """A peer with its workers.

    Raises:
        Missing: it is not installed, does not start, or stops; the text says why.
    """

    def __init__(self, peer: Peer, directory: Path, url: str) -> None:
        python = environment(peer.environment) / "bin" / "python"
        if not (environment(peer.environment) / ".installed").exists():
            raise Missing("its environment is missing (make bench-peers makes it)")
        self._log = directory / "peer.log"
        script = ROOT / "benchmarks" / "peers" / f"with_{peer.environment}.py"
        own = {"PEER_URL": url, "PEER_DIR": str(directory), "PEER_VARIANT": peer.variant}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), str(script)],
                cwd=directory,
                env={**os.environ, **own},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            self.about: dict[str, Any] = self._read()
        except BaseException:
            self.close()
            raise

    def rate(self, way: str, tasks: int) -> float:
        """Tasks a second of one round."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps([way, tasks]).encode() + b"\n")
            self._process.stdin.flush()
            return tasks / float(self._read())
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End it with all that it has started."""
        family = self._family()
        self._signal(signal.SIGCONT)
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        for process in family:  # what it left
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass

    def _read(self) -> Any:
        assert self._process.stdout is not None
        end = time.monotonic() + _PATIENCE
        if not select.select([self._process.stdout], [], [], end - time.monotonic())[0]:
            raise Missing(f"no answer within {_PATIENCE:g} s: {self._last_words()}")
        line = self._process.stdout.readline()
        if not line:
            raise Missing(f"it ended: {self._last_words()}")
        return json.loads(line)

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else "it said nothing"

    def _family(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _signal(self, number: int) -> None:
        """Frozen, it takes no processor from others, however often it polls."""
        for process in self._family():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                pass
