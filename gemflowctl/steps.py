"""The words in which longer operations are written, so that each is written once for `Client` and `AsyncClient`.

An operation is a generator that yields steps and is sent what they bring. It does no input or output by itself: `driver.py`
carries the steps out with blocking sockets, `aio_driver.py` with asyncio.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

Body: TypeAlias = dict[str, Any]
Bodies: TypeAlias = list[dict[str, Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """Send a request and wait for its reply; brings the reply's body.

    Attributes:
        repeatable: whether the same request may be sent again when the reply did not come: the daemon does it once, or
            doing it twice is the same.
        patience: seconds that the daemon itself may take on purpose (a long poll), on top of the reply timeout.
    """

    op: str
    body: Body = field(default_factory=dict)
    repeatable: bool = True
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Post:
    """Send a request without waiting; brings a pending request for `Collect`."""

    call: Call


@dataclass(frozen=True, slots=True)
class Collect:
    """Wait for the reply to a posted request; brings its body."""

    pending: Any


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand something to the caller; brings nothing."""

    value: Any


@dataclass(frozen=True, slots=True)
class Listen:
    """Connect to an events endpoint and subscribe to topics (prefixes); brings nothing."""

    endpoint: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait at most `timeout` seconds for a message of the subscription; brings `(topic, message)` or None."""

    timeout: float


Step: TypeAlias = "Call | Post | Collect | Emit | Listen | Receive"
Steps: TypeAlias = Generator[Step, Any, T]
