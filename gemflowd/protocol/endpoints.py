"""Where things lie and how a client finds its daemon. The same rules in daemon and client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import platformdirs

APP: Final = "gemflow"
SOCKET: Final = "gemflowd.sock"
EVENTS_SOCKET: Final = "events.sock"
SYSTEM_CONFIG: Final = Path("/etc") / APP
#: sizeof(sockaddr_un.sun_path) on Linux, with the closing zero (unix(7)).
MAX_SOCKET_PATH: Final = 108


def is_system() -> bool:
    """Whether this process uses the system's directories: root does."""
    return os.geteuid() == 0


def config_dir() -> Path:
    return SYSTEM_CONFIG if is_system() else Path(platformdirs.user_config_dir(APP))


def state_dir() -> Path:
    return Path("/var/lib") / APP if is_system() else Path(platformdirs.user_state_dir(APP))


def runtime_dir() -> Path:
    """Where the sockets are. Without XDG_RUNTIME_DIR a directory of the user's own in /tmp (the daemon makes it 0700)."""
    if is_system():
        return Path("/run") / APP
    given = os.environ.get("XDG_RUNTIME_DIR")
    return Path(given) / APP if given else Path(f"/tmp/{APP}-{os.getuid()}")  # noqa: S108 - made 0700 and checked


def default_endpoint() -> str:
    """The user's own daemon if its socket is there, else the system's (`product.md`: GEMFLOW_ENDPOINT goes before)."""
    given = os.environ.get("GEMFLOW_ENDPOINT")
    if given:
        return given
    own = runtime_dir() / SOCKET
    system = Path("/run") / APP / SOCKET
    return f"ipc://{own if own.exists() or not system.exists() else system}"


def endpoint_problem(endpoint: str) -> str | None:
    """Why an endpoint can't be used, as a sentence, or None."""
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in ("ipc", "tcp") or not rest:
        return f"{endpoint!r} is not an endpoint; write ipc:///path/of/socket"
    if scheme == "tcp":
        return f"{endpoint!r}: TCP needs encryption (CURVE), which this version does not have yet; use ipc://"
    if not rest.startswith("/"):
        return f"{endpoint!r}: the path of an ipc endpoint must be absolute"
    if len(os.fsencode(rest)) >= MAX_SOCKET_PATH:
        return (
            f"the socket path {rest!r} has {len(os.fsencode(rest))} bytes; the system holds at most"
            f" {MAX_SOCKET_PATH - 1}; choose a shorter directory"
        )
    return None


def socket_path(endpoint: str) -> Path:
    """The file of an ipc endpoint."""
    return Path(endpoint.removeprefix("ipc://"))


def events_endpoint(endpoint: str) -> str:
    """The events socket that belongs to a client endpoint: its neighbour."""
    return f"ipc://{socket_path(endpoint).with_name(EVENTS_SOCKET)}"
