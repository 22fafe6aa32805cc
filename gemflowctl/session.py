"""What the global options of one run of `gemflowctl` say, and the client that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from gemflowctl.defaults import REPLY_TIMEOUT
from gemflowctl.output.console import Color, Console

if TYPE_CHECKING:
    from gemflowctl.client import Client


@dataclass(slots=True)
class Session:
    """The object that click hands to every command (`click.pass_obj`)."""

    endpoint: str | None = None
    reply_timeout: float = REPLY_TIMEOUT
    console: Console = field(default_factory=Console)

    def client(self) -> Client:
        """A client for the endpoint; close it, or use it in a `with`.

        Raises:
            InvalidInput: the endpoint can't be one.
        """
        from gemflowctl.client import Client

        return Client(self.endpoint, reply_timeout=self.reply_timeout)

    def configure(self, *, quiet: bool, color: Color) -> None:
        """Take over the options of the group; --json may have been given on either side of the command."""
        self.console = Console(as_json=self.console.as_json, quiet=quiet, color=color)


def session_of(context: click.Context) -> Session:
    """The session of a run, made on first use."""
    return context.ensure_object(Session)
