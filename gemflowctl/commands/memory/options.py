"""What the commands of the shared memory have in common."""

from __future__ import annotations

import click

namespace_option = click.option("--namespace", "-n", metavar="NAME", help="The namespace; `default` if not given.")
version_option = click.option(
    "--if-version", "version", type=click.IntRange(min=0), metavar="N", help="Only if the key has exactly this version."
)
