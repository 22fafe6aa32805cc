"""A worker that is started by exec: where a handler's import starts threads, a fork of the nursery would not be safe."""

from __future__ import annotations

import json
import os
import socket
import sys

from gemflowd.handlers.registry import discover
from gemflowd.host.process import become_subreaper, die_with_parent
from gemflowd.model.attempt import Kind
from gemflowd.worker import streams
from gemflowd.worker.main import run_worker


def main() -> None:
    options = json.loads(sys.argv[1])
    given = json.loads(options["argv"])
    streams.set_up_logging(given.get("log", "auto"))
    die_with_parent(options["parent"])
    become_subreaper()
    sys.path[:0] = [path for path in given["handler_path"] if path not in sys.path]
    handlers = discover(given["handlers"])
    try:
        channel = socket.socket(fileno=options["channel"])
        kind, output = Kind(options["kind"]), options.get("output", ())
        run_worker(handlers, options["name"], kind, channel, options["tickets"], given["lease"], output)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
