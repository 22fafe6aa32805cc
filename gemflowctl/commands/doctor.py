"""`gemflowctl doctor`: whether client, daemon and machine fit together, and what to do where they don't."""

from __future__ import annotations

import stat
import sys
from importlib.util import find_spec
from typing import Any, Final

import click

from gemflowctl.cli import Command
from gemflowctl.errors import ClientError
from gemflowctl.output import plain
from gemflowctl.session import Session
from gemflowctl.steps import Bodies, Body
from gemflowd.protocol.endpoints import socket_path
from gemflowd.protocol.versions import DAEMON_VERSION, PROTOCOL_VERSION

#: The libraries of `gemflow[daemon]` without which gemflowd does not start.
_DAEMON_NEEDS: Final = ("apsw", "msgspec", "jinja2")
_COLOURS: Final = {"ok": "green", "hint": "yellow", "wrong": "red"}


@click.command(
    "doctor",
    cls=Command,
    epilog="gemflowctl doctor\ngemflowctl doctor --json | jq '.checks[] | select(.state != \"ok\")'",
)
@click.pass_context
def command(context: click.Context) -> None:
    """Check whether a daemon can be reached, and whether it has what it needs on its machine.

    `hint` works and could be better, `wrong` does not. Exits with 1 if something is wrong. Keys are never shown.
    """
    session: Session = context.obj
    checks = [_finding("client", "ok", f"gemflowctl {DAEMON_VERSION}, Python {sys.version.split()[0]}")]
    with session.client() as client:
        try:
            checks += _reached(client.hello(), client.endpoint)
            checks += client.doctor()["checks"]
        except ClientError as error:
            checks += _unreached(client.endpoint, error)
    _show(session, checks)
    if any(check["state"] == "wrong" for check in checks):
        context.exit(1)


def _finding(check: str, state: str, message: str, remedy: str | None = None) -> Body:
    return {"check": check, "state": state, "message": message, "remedy": remedy}


def _reached(hello: Body, endpoint: str) -> Bodies:
    found = [
        _finding("daemon", "ok", f"gemflowd {hello['version']} (pid {hello['pid']}) is {hello['state']} at {endpoint}")
    ]
    if hello.get("drain"):
        found.append(_finding("drain", "hint", "it starts nothing", "gemflowctl drain --off"))
    protocol = hello.get("protocol") or {"min": PROTOCOL_VERSION, "max": PROTOCOL_VERSION}
    if not protocol["min"] <= PROTOCOL_VERSION <= protocol["max"]:
        found.append(
            _finding("versions", "wrong", "it speaks another protocol than this client", "update the older one")
        )
    elif hello["version"] != DAEMON_VERSION:
        message = f"the client is {DAEMON_VERSION}, the daemon {hello['version']}"
        found.append(_finding("versions", "hint", message, "update the older one, and restart the daemon"))
    return found


def _unreached(endpoint: str, error: ClientError) -> Bodies:
    """What can be seen from here when nobody answers."""
    found = [_finding("daemon", "wrong", error.message)]
    path = socket_path(endpoint)
    if path.exists():
        found.append(_finding("socket", "hint", f"{path} is there, mode {stat.S_IMODE(path.stat().st_mode):04o}"))
    missing = [name for name in _DAEMON_NEEDS if find_spec(name) is None]
    if missing:
        message = f"gemflowd can't run from this installation: {', '.join(missing)} missing"
        found.append(_finding("packages", "hint", message, "pip install 'gemflow[daemon]', where the daemon is to run"))
        return found
    found.append(_configuration())
    return found


def _configuration() -> Body:
    """What `gemflowd` would say to its settings, if it were started here and now."""
    import subprocess

    ran = subprocess.run(
        [sys.executable, "-m", "gemflowd", "check-config"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if ran.returncode == 0:
        return _finding("settings", "ok", "gemflowd would take the settings that are found here")
    problems = "; ".join(line.removeprefix("gemflowd: ") for line in ran.stderr.strip().splitlines())
    return _finding(
        "settings", "wrong", problems or f"check-config ended with {ran.returncode}", "gemflowd check-config"
    )


def _show(session: Session, checks: list[dict[str, Any]]) -> None:
    console = session.console
    if console.as_json:
        console.json({"ok": all(check["state"] != "wrong" for check in checks), "checks": checks})
        return
    width = max(len(check["check"]) for check in checks)
    for check in checks:
        state = plain.line(check["state"])
        name, message = plain.line(check["check"]), plain.line(check["message"])
        console.line(f"{click.style(f'{state:<5}', fg=_COLOURS.get(state))}  {name:<{width}}  {message}")
        if check.get("remedy"):
            console.line(f"{'':<{width + 7}}  → {plain.line(check['remedy'])}")
