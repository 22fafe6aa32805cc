"""What the stand-in can be told when it is started."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from gemflowd.model.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Options:
    """How it behaves, and how it is tied to who started it. Rates are probabilities from 0 to 1."""

    host: str = "127.0.0.1"  # a loopback address
    port: int = 0  # 0: any free one
    seed: int = 0  # of the faults: the same seed and prompts meet the same faults, in whatever order they arrive
    rate_429: float = 0.0
    rate_500: float = 0.0
    rate_503: float = 0.0
    rate_slow: float = 0.0
    rate_malformed: float = 0.0
    rate_disconnect: float = 0.0
    slow: float = 5.0  # seconds that a slow answer takes longer
    latency: float = 0.0  # seconds that every answer takes
    retry_after: float = 1.0  # seconds that a 429 of `rate_429` asks for
    quota: int | None = None  # requests of one model in any `window`
    window: float = 60.0  # seconds
    pause: float = 0.0  # seconds between the pieces of a stream
    batch_seconds: float = 1.0  # that a batch takes
    quota_details: bool = True  # whether its 429s name it; else they say when to come back, and nothing else
    models: tuple[str, ...] = ("gemini-stand-in",)  # listed; every other name is answered too
    script: Path | None = None  # answers that are given in advance
    log_file: Path | None = None  # a JSON line for each request
    ready_fd: int | None = None  # where the READY line goes; None: standard output
    parent_fd: int | None = None  # a pipe: when its other end is closed, the stand-in ends

    def check(self) -> None:
        """Raises ConfigError with every value that can't work."""
        problems = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith("rate_") and not 0.0 <= value <= 1.0:
                problems.append(f"{field.name} is {value}: it must be between 0 and 1")
            if field.name in ("slow", "latency", "retry_after", "pause", "batch_seconds") and not 0.0 <= value < float(
                "inf"
            ):
                problems.append(f"{field.name} is {value}: it must be a number of seconds, 0 or more")
        if self.quota is not None and self.quota < 1:
            problems.append(f"quota is {self.quota}: it must be 1 or more")
        if not 0.0 < self.window < float("inf"):
            problems.append(f"window is {self.window}: it must be more than 0 seconds")
        if not 0 <= self.port <= 65535:
            problems.append(f"port is {self.port}: it must be between 0 and 65535")
        if problems:
            raise ConfigError(problems)
