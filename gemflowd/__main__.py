"""`gemflowd` and `python -m gemflowd`."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from gemflowd.cli import cli
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] not in ("gemflowd",):
            sys.exit(
                f"gemflowd: the package {error.name!r} is missing; install the daemon with: pip install 'gemflow[daemon]'"
            )
        raise
    cli(prog_name="gemflowd")


if __name__ == "__main__":
    main()
