"""`gemflowd run | check-config | stand-in`: options in, exit status out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import click

from gemflowd.config.prices import load_prices
from gemflowd.config.reading import load
from gemflowd.config.settings import BY_KEY, Settings
from gemflowd.host import logs
from gemflowd.model.debugging import ROOMS, strangers
from gemflowd.model.errors import ConfigError, GemflowError
from gemflowd.places import config_files, places, prices_file
from gemflowd.protocol.endpoints import endpoint_problem
from gemflowd.protocol.versions import DAEMON_VERSION

#: sysexits.h EX_CONFIG: systemd is told not to restart after it.
EXIT_CONFIG: Final = 78


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(DAEMON_VERSION, "-V", "--version", prog_name="gemflowd")
def cli() -> None:
    """Durable queue and workers for model calls, commands and analyses.

    Start the daemon with `gemflowd run`, talk to it with `gemflowctl`.
    """


def _settings_options(command: Any) -> Any:
    for option in (
        click.option(
            "--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings file, over the usual ones."
        ),
        click.option("--state-dir", type=click.Path(path_type=Path), help="Directory of the database."),
        click.option(
            "--endpoint", metavar="URL", help="Where clients connect, such as ipc:///run/gemflow/gemflowd.sock."
        ),
        click.option("--profile", metavar="NAME", help="conservative, balanced, performance or maximum."),
        click.option("--workers", type=int, metavar="N", help="Blocking tasks at a time."),
    ):
        command = option(command)
    return command


def _load(config: Path | None, **values: Any) -> Settings:
    given = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
    return load(config_files(os.environ), os.environ, given, named=config)


@cli.command()
@_settings_options
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="auto",
    show_default=True,
    help="How the log is written to stderr.",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Start a stand-in for Gemini on this machine and use it; nothing leaves the machine.",
)
@click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --offline: what the stand-in answers to which question (`gemflowd stand-in --help`).",
)
def run(config: Path | None, log_format: str, offline: bool, script: Path | None, **values: Any) -> None:
    """Run the daemon in the foreground.

    It logs to stderr. SIGTERM or Ctrl-C stops it: running attempts may finish for `drain_timeout` seconds, the rest goes back
    to the queue; a second one skips the wait. SIGHUP reads the settings again and replaces the workers.

    \b
    Exit status: 0 stopped as asked, 1 failed, 2 usage, 78 configuration.
    """
    if script is not None and not offline:
        raise click.UsageError("--script goes with --offline")
    log = logs.set_up(log_format)
    for word in strangers(os.environ.get("DEBUG", "")):
        log.warning(
            "DEBUG: %s names nothing here; there is parallel:* and parallel:%s", word, ", parallel:".join(ROOMS)
        )
    stand_in: subprocess.Popen[bytes] | None = None
    url = ""
    try:
        settings = _load(config, **values)
        from gemflowd import app  # here: check-config and --help need nothing of it

        if offline:
            from gemflowd.standin.launch import launch

            stand_in, url = launch(*(() if script is None else ("--script", str(script))))
            log.warning("OFFLINE: answers come from a stand-in at %s, not from Gemini", url)

        def reload() -> Settings:
            again = _load(config, **values)
            return again.offline(url) if stand_in is not None else again

        status = app.run(reload(), places(settings, os.environ), reload)
    except ConfigError as error:
        for problem in error.problems:
            log.critical("%s", problem)
        status = EXIT_CONFIG
    except GemflowError as error:
        log.critical("%s", error)
        status = 1
    except OSError as error:
        log.critical("%s", error)
        status = 1
    finally:
        if stand_in is not None:
            stand_in.terminate()
            stand_in.wait()
    sys.exit(status)


@cli.command("check-config")
@_settings_options
@click.option("--json", "as_json", is_flag=True, help="One object with a list of all settings.")
def check_config(config: Path | None, as_json: bool, **values: Any) -> None:
    """Print the effective settings with where each came from, or every problem at once."""
    try:
        settings = _load(config, **values)
        problem = endpoint_problem(places(settings, os.environ).endpoint)
        problems = [] if problem is None else [problem]
        try:
            load_prices(prices_file(settings, os.environ))
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError(problems)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"gemflowd: {problem}", err=True)
        sys.exit(EXIT_CONFIG)
    rows = settings.table()
    if as_json:
        click.echo(json.dumps({"settings": rows}))
        return
    width = max(len(key) for key in BY_KEY)
    for row in rows:
        value = "-" if row["value"] is None else json.dumps(row["value"]) if row["value"] != [] else "none"
        unit = f" {row['unit']}" if row["unit"] and row["value"] is not None else ""
        click.echo(f"{row['key']:<{width}}  {value}{unit}  ({row['origin']})")
        click.echo(f"{'':<{width}}    {row['doc']}")


@cli.command("stand-in")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", type=int, default=0, help="0: any free one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the faults.")
@click.option("--rate-429", type=float, default=0.0, help="Share of calls that are answered 429 with RetryInfo.")
@click.option("--rate-500", type=float, default=0.0, help="Share of calls that are answered 500.")
@click.option("--rate-503", type=float, default=0.0, help="Share of calls that are answered 503.")
@click.option("--rate-slow", type=float, default=0.0, help="Share of calls that take --slow seconds longer.")
@click.option("--rate-malformed", type=float, default=0.0, help="Share of answers that are broken JSON.")
@click.option("--rate-disconnect", type=float, default=0.0, help="Share of calls whose connection is dropped.")
@click.option("--slow", type=float, default=5.0, show_default=True, metavar="SECONDS")
@click.option("--latency", type=float, default=0.0, metavar="SECONDS", help="Of every answer.")
@click.option("--retry-after", type=float, default=1.0, metavar="SECONDS", help="What a 429 of --rate-429 asks for.")
@click.option("--quota", type=int, help="Calls of one model in any --window.")
@click.option("--window", type=float, default=60.0, show_default=True, metavar="SECONDS")
@click.option("--pause", type=float, default=0.0, metavar="SECONDS", help="Between the pieces of a streamed answer.")
@click.option("--batch-seconds", type=float, default=1.0, show_default=True, metavar="SECONDS", help="Of a batch.")
@click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Answers given in advance: a YAML list (or JSON lines) of {prompt?, system?, model?: regular expressions, times?, answer}.",
)
@click.option(
    "--log-file", "--log", type=click.Path(dir_okay=False, path_type=Path), help="A JSON line for each request."
)
@click.option("--quota-details/--no-quota-details", default=True, help="Whether its 429s name the quota.")
@click.option("--ready-fd", type=int, hidden=True)
@click.option("--parent-fd", type=int, hidden=True)
def stand_in(**values: Any) -> None:
    """Serve the Gemini REST shape on this machine, for trying things out without key, network or cost.

    Its answers are made from the prompt's own text and say that they come from a stand-in, unless --script has an entry that fits
    the question: the first one's answer is given as it stands, a value that is no text as JSON. Prints `READY <url>` when it serves.
    """
    from gemflowd.standin.options import Options
    from gemflowd.standin.process import run as serve

    logs.set_up()
    try:
        serve(Options(**values))
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"gemflowd: {problem}", err=True)
        sys.exit(EXIT_CONFIG)
    except OSError as error:
        click.echo(f"gemflowd: {error}", err=True)
        sys.exit(1)
