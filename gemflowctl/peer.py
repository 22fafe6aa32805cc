"""Whether a daemon listens at an endpoint. libzmq connects in the background and never says that nobody is there."""

from __future__ import annotations

import os
import socket
from typing import Final

from gemflowctl.errors import InvalidInput, NoDaemon
from gemflowd.protocol.endpoints import endpoint_problem, is_system, socket_path

#: Seconds between two looks while waiting for a daemon that went away.
LOOK_SECONDS: Final = 0.1


def check_endpoint(endpoint: str) -> str:
    """The endpoint.

    Raises:
        InvalidInput: it can't be one.
    """
    problem = endpoint_problem(endpoint)
    if problem is not None:
        raise InvalidInput(problem)
    return endpoint


def absence(endpoint: str) -> NoDaemon | None:
    """Why nobody can be reached there, or None when something listens."""
    path = socket_path(endpoint)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except FileNotFoundError:
            return NoDaemon(f"no daemon: there is no socket {path}; {_how_to_start()}")
        except ConnectionRefusedError:
            return NoDaemon(f"no daemon: nobody listens on the socket {path}; {_how_to_start()}")
        except PermissionError:
            return NoDaemon(
                f"no permission to open the socket {path}; who may is set by `socket_group` in the daemon's settings"
            )
        except BlockingIOError:
            return None  # its queue of connections is full, so somebody owns it
        except OSError as error:
            return NoDaemon(f"no daemon: the socket {path} can't be opened: {error.strerror}")
    return None


def _how_to_start() -> str:
    if is_system():
        return "start one with `systemctl start gemflowd` or `gemflowd run`, or name another with --endpoint"
    return "start one with `gemflowd run`, or name another with --endpoint or GEMFLOW_ENDPOINT"
