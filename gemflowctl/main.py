"""`gemflowctl`: the group of commands, its global options, and what its exit codes mean.

Each command is a module of `gemflowctl.commands` and is imported when it is called, so that the start stays quick.

Exit codes: 0 done, 1 the asked-for thing failed, 2 usage, 3 no daemon, 4 refused by the daemon, 5 waited too long,
130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from gemflowctl.cli import LazyGroup
from gemflowctl.defaults import REPLY_TIMEOUT
from gemflowctl.errors import ClientError
from gemflowctl.output import json, plain
from gemflowctl.output.console import Color
from gemflowctl.session import session_of
from gemflowd.protocol.versions import DAEMON_VERSION, PROTOCOL_VERSION

#: Every command and the module that has it, as `command`.
COMMANDS: Final[dict[str, str]] = {
    "submit": "gemflowctl.commands.submit",
    "prompt": "gemflowctl.commands.prompt",
    "run": "gemflowctl.commands.run",
    "status": "gemflowctl.commands.status",
    "list": "gemflowctl.commands.list",
    "show": "gemflowctl.commands.show",
    "results": "gemflowctl.commands.results",
    "logs": "gemflowctl.commands.logs",
    "wait": "gemflowctl.commands.wait",
    "explain": "gemflowctl.commands.explain",
    "cancel": "gemflowctl.commands.cancel",
    "retry": "gemflowctl.commands.retry",
    "hold": "gemflowctl.commands.hold",
    "release": "gemflowctl.commands.release",
    "edit": "gemflowctl.commands.edit",
    "delete": "gemflowctl.commands.delete",
    "queues": "gemflowctl.commands.queues",
    "limits": "gemflowctl.commands.limits",
    "pause": "gemflowctl.commands.pause",
    "resume": "gemflowctl.commands.resume",
    "enable": "gemflowctl.commands.enable",
    "disable": "gemflowctl.commands.disable",
    "schedule": "gemflowctl.commands.schedule",
    "memory": "gemflowctl.commands.memory",
    "budget": "gemflowctl.commands.budget",
    "usage": "gemflowctl.commands.usage",
    "cache": "gemflowctl.commands.cache",
    "workers": "gemflowctl.commands.workers",
    "profile": "gemflowctl.commands.profile",
    "config": "gemflowctl.commands.config",
    "handlers": "gemflowctl.commands.handlers",
    "monitor": "gemflowctl.commands.monitor",
    "stats": "gemflowctl.commands.stats",
    "events": "gemflowctl.commands.events",
    "benchmark": "gemflowctl.commands.benchmark",
    "db": "gemflowctl.commands.db",
    "doctor": "gemflowctl.commands.doctor",
    "reload": "gemflowctl.commands.reload",
    "drain": "gemflowctl.commands.drain",
    "shutdown": "gemflowctl.commands.shutdown",
    "ping": "gemflowctl.commands.ping",
    "completion": "gemflowctl.commands.completion",
    "version": "gemflowctl.commands.version",
}
#: The same under the names of the guide: `gemflowctl parallel status`.
PARALLEL: Final = {
    name: COMMANDS[name] for name in ("status", "enable", "disable", "workers", "profile", "benchmark", "monitor")
}

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


class ReaderGone(Exception):
    """The reader of the output went away (`| head`)."""


class Root(LazyGroup):
    """The outermost group."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            outcome = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Under its own name: click would end the process with 1, as if the command had failed.
            raise ReaderGone from None
        return outcome


def _version_text(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"gemflowctl {DAEMON_VERSION} (protocol {PROTOCOL_VERSION})")
        context.exit()


@click.group(
    cls=Root, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--endpoint",
    metavar="URL",
    help="The daemon's socket, ipc:///path. Default: $GEMFLOW_ENDPOINT, else yours, else the system's.",
)
@click.option(
    "--reply-timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    default=REPLY_TIMEOUT,
    show_default=True,
    help="Seconds to wait for each reply; what is safe to repeat is asked three times.",
)
@click.option("--quiet", "-q", is_flag=True, help="Write results and errors, nothing else.")
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colours: auto means on a terminal."
)
@click.option(
    "-V", "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version_text, help="Show the version."
)
@click.pass_context
def gemflowctl(context: click.Context, endpoint: str | None, reply_timeout: float, quiet: bool, color: Color) -> None:
    """Give tasks to gemflowd, and see what becomes of them.

    A REF names tasks: 42, a range 42-48, a flow f7, or a task of a flow f7/research-a. `gemflowctl COMMAND --help` has
    examples.
    """
    session = session_of(context)
    session.endpoint = endpoint
    session.reply_timeout = reply_timeout
    session.configure(quiet=quiet, color=color)


@gemflowctl.group(cls=LazyGroup, table=PARALLEL, hidden=True, epilog="gemflowctl parallel status")
def parallel() -> None:
    """The same commands under another name."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: run the command line and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """Run the command line; the exit code. Errors are told on standard error, with --json as an object."""
    as_json = "--json" in arguments
    try:
        outcome = gemflowctl.main(arguments, prog_name="gemflowctl", standalone_mode=False)
        # A command's return value is nothing, or its exit code; so is that of a `context.exit()`.
        return outcome if isinstance(outcome, int) else 0
    except ClientError as error:
        _tell(as_json, error.code, error.message, error.path, error.details)
        return error.exit_code
    except click.UsageError as error:
        _tell_usage(as_json, error)
        return 2
    except click.ClickException as error:
        _tell(as_json, "failed", error.format_message(), None)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _tell(as_json, "interrupted", "interrupted", None)
        return INTERRUPTED
    except ReaderGone:
        # The interpreter flushes at its end, and would complain about the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _tell(as_json: bool, code: str, message: str, path: str | None, details: Mapping[str, Any] | None = None) -> None:
    if as_json:
        error = {"code": code, "message": message} | ({} if path is None else {"path": path}) | dict(details or {})
        click.echo(json.dumps({"error": error}), err=True)
    elif code == "interrupted":
        click.echo("", err=True)
    else:
        where = f" (at {path})" if path else ""
        click.echo(plain.text(f"gemflowctl: {message}{where}"), err=True)


def _tell_usage(as_json: bool, error: click.UsageError) -> None:
    if as_json:
        _tell(True, "usage", error.format_message(), None)
        return
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    if error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    click.echo(plain.text(f"gemflowctl: {error.format_message()}"), err=True)
