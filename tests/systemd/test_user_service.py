"""gemflowd as the service of one user, under that user's own systemd, with the unit file for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Box

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "gemflowd-user.service"
UID = 4711
HOME = "/home/ada"


class Ada:
    """A user of the box who has logged in."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        environ = [f"HOME={HOME}", "USER=ada", f"XDG_RUNTIME_DIR=/run/user/{UID}", "PYTHONDONTWRITEBYTECODE=1"]
        return self.box.run(*become, "env", *environ, *command, check=check)

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", "--user", *arguments).stdout


@pytest.fixture
def ada(box: Box, programs) -> Iterator[Ada]:
    box.run("useradd", "--create-home", "--home-dir", HOME, f"--uid={UID}", "--user-group", "ada")
    for place in programs.places:  # her service sees the machine as she does: let her through to the programs
        box.run("chmod", "o+x", *map(str, [place, *place.parents]))
    box.run("systemctl", "start", f"user@{UID}.service")
    ada = Ada(box)
    units = f"{HOME}/.config/systemd/user"
    ada.run("mkdir", "-p", f"{units}/gemflowd.service.d")
    ada.run("cp", str(UNIT), f"{units}/gemflowd.service")
    ada.run("sh", "-c", f'printf %s "$0" >{units}/gemflowd.service.d/program.conf', programs.drop_in)
    ada.systemctl("daemon-reload")
    yield ada
    box.run("systemctl", "stop", f"user@{UID}.service", check=False)
    box.run("userdel", "--remove", "ada", check=False)


def test_a_users_own_daemon(ada: Ada, programs):
    ada.systemctl("start", "gemflowd")
    assert "MainPID=0" not in ada.systemctl("show", "gemflowd", "--property=MainPID")
    # The default endpoint: a user's own daemon goes before the machine's.
    ada.run("env", *programs.environment, *programs.gemflowctl, "ping")
    ada.run("test", "-d", f"{HOME}/.local/state/gemflow")
    mode = ada.run("stat", "--format=%a", f"/run/user/{UID}/gemflow", f"{HOME}/.local/state/gemflow").stdout.split()
    assert mode == ["700", "700"]
    ada.systemctl("restart", "gemflowd")
    ada.run("env", *programs.environment, *programs.gemflowctl, "ping")
    ada.systemctl("stop", "gemflowd")
    assert "Result=success" in ada.systemctl("show", "gemflowd", "--property=Result")
    assert "gemflowd" not in ada.systemctl("list-units", "--failed", "--no-legend")
