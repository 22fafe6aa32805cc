"""A machine with a real systemd, and the service installed on it from this checkout.

The machine is a box (`sdbox`): all that happens in it is gone afterwards. The service runs with its own unit file; a drop-in says
where the program is, since neither the checkout nor its environment need be where the service's user may go.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SDBOX = Path(__file__).with_name("sdbox")
NO_ROOM = 77  # how sdbox says that it can't work here
ENDPOINT = "ipc:///run/gemflow/gemflowd.sock"


class Programs:
    """How the programs of this checkout are run, with the interpreter that runs the tests."""

    def __init__(self) -> None:
        self.gemflowd = self._command("gemflowd", "gemflowd.__main__")
        self.gemflowctl = self._command("gemflowctl", "gemflowctl.main")
        self.environment = [f"PYTHONPATH={ROOT}", "PYTHONDONTWRITEBYTECODE=1"]
        # What they consist of: the checkout, the environment, and the interpreter that it was made from.
        found = {ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parents[1]}
        self.places = sorted(path for path in found if path != Path("/usr"))

    @staticmethod
    def _command(name: str, module: str) -> list[str]:
        installed = Path(sys.executable).with_name(name)
        return [str(installed)] if installed.exists() else [sys.executable, "-c", f"from {module} import main; main()"]

    @property
    def drop_in(self) -> str:
        """The setting of a unit that starts this gemflowd instead of an installed one."""
        command = " ".join(f'"{word}"' for word in [*self.gemflowd, "run"])
        return f"[Service]\nExecStart=\nExecStart={command}\nEnvironment={' '.join(self.environment)}\n"


def not_on_the_overlay(path: Path) -> bool:
    """Whether the box doesn't show it by itself: it is on another file system, or where the box has new directories."""
    fresh = any(path.is_relative_to(place) for place in ("/tmp", "/run", "/dev"))
    return fresh or path.stat().st_dev != Path("/").stat().st_dev


class Box:
    """A machine of our own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(
        self, *command: str, stdin: str | None = None, check: bool = True, seconds: float = 90
    ) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [SDBOX, "run", self.name, *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check:
            assert done.returncode == 0, (
                f"{shlex.join(command)} → {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}"
            )
        return done

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && cat >"$0"', path, stdin=text)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
        """Wait for something that nobody announces. Fails with the journal when it does not come."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.journal()}"
            time.sleep(0.05)

    def journal(self) -> str:
        done = subprocess.run(
            [SDBOX, "run", self.name, "journalctl", "--no-pager", "--lines=60", "--output=short-precise"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return f"--- journal ---\n{done.stdout}{done.stderr}"


class ThisMachine(Box):
    """The machine that the tests run on, where it is theirs alone and has gemflow installed (`vm`)."""

    def __init__(self) -> None:
        super().__init__("this")

    def run(
        self, *command: str, stdin: str | None = None, check: bool = True, seconds: float = 90
    ) -> subprocess.CompletedProcess:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
        if check:
            said = f"{shlex.join(command)} → {done.returncode}\n{done.stdout}{done.stderr}"
            assert done.returncode == 0, f"{said}\n{self.journal()}"
        return done

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 30) -> None:
        super().until(condition, what, seconds * 5)  # it may be an emulated one

    def journal(self) -> str:
        lines = ["journalctl", "--no-pager", "--lines=60", "--output=short-precise"]
        return "--- journal ---\n" + subprocess.run(lines, capture_output=True, text=True, check=False).stdout


class Service:
    """gemflowd.service in a box."""

    unit = "gemflowd.service"
    drop_ins = "/etc/systemd/system/gemflowd.service.d"

    def __init__(self, box: Box, programs: Programs) -> None:
        self.box = box
        self.programs = programs

    def install(self) -> None:
        box = self.box
        box.run("systemd-sysusers", str(ROOT / "systemd/gemflow.sysusers.conf"))
        box.run("systemd-tmpfiles", "--create", str(ROOT / "systemd/gemflow.tmpfiles.conf"))
        box.run("cp", str(ROOT / "systemd" / self.unit), "/etc/systemd/system/")
        # Wanted by what is running, it stays loaded after its end, with how it ended.
        box.run("systemctl", "add-wants", "basic.target", self.unit)
        if isinstance(box, ThisMachine):
            self.configure("program", "")
            return
        self.configure("program", self.programs.drop_in)
        # ProtectHome=yes and PrivateTmp=yes would hide a checkout in somebody's home or in /tmp.
        shown = " ".join(str(path) for path in self.programs.places)
        self.configure("places", f"[Service]\nProtectHome=tmpfs\nBindReadOnlyPaths={shown}\n")

    def configure(self, name: str, settings: str) -> None:
        """Add a drop-in. Empty settings take it away."""
        path = f"{self.drop_ins}/{name}.conf"
        if settings:
            self.box.write(path, settings)
        else:
            self.box.run("rm", "-f", path)
        self.box.run("systemctl", "daemon-reload")

    def reset(self) -> None:
        """As after the installation: stopped, without state, settings or history."""
        self.box.run("systemctl", "stop", self.unit, check=False)
        self.box.run("systemctl", "reset-failed", self.unit, check=False)
        self.box.run("sh", "-c", "rm -rf /var/lib/gemflow /run/gemflow /etc/gemflow/* /etc/credstore")
        self.configure("test", "")

    def systemctl(self, verb: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.box.run("systemctl", verb, self.unit, check=check)

    def shows(self, *properties: str) -> dict[str, str]:
        lines = self.box.run("systemctl", "show", self.unit, *(f"--property={name}" for name in properties)).stdout
        return dict(line.split("=", 1) for line in lines.splitlines())

    @property
    def pid(self) -> int:
        return int(self.shows("MainPID")["MainPID"])

    def ctl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess:
        """gemflowctl in the box, as root."""
        command = [*self.programs.gemflowctl, "--endpoint", ENDPOINT, *arguments]
        return self.box.run("env", *self.programs.environment, *command, stdin=stdin, check=check)

    def json(self, *arguments: str, stdin: str | None = None) -> list[Any]:
        return [json.loads(line) for line in self.ctl("--json", *arguments, stdin=stdin).stdout.splitlines()]

    def answers(self) -> bool:
        return self.ctl("ping", check=False).returncode == 0


@pytest.fixture(scope="session")
def programs() -> Programs:
    return Programs()


@pytest.fixture(scope="session")
def box(programs: Programs) -> Iterator[Box]:
    if os.environ.get("SYSTEMD_TEST_MACHINE") == "this":
        yield ThisMachine()
        return
    machine = Box(f"gemflow-{os.getpid()}")
    elsewhere = [str(path) for path in programs.places if not_on_the_overlay(path)]
    started = subprocess.run(
        [SDBOX, "start", machine.name],
        capture_output=True,
        text=True,
        env=os.environ | {"SDBOX_ALSO": ":".join(elsewhere)},
        check=False,
    )
    try:
        if started.returncode == NO_ROOM:
            reason = next((line for line in started.stderr.splitlines() if line.startswith("SKIP ")), "SKIP sdbox")
            pytest.skip(reason)
        assert started.returncode == 0, started.stdout + started.stderr
        # A checkout of one who keeps it to himself: open it to the service's user, in the box only.
        closed = [*map(str, programs.places), "!", "-type", "l", "!", "-perm", "-o=r"]
        machine.run("find", *closed, "-exec", "chmod", "o+rX", "{}", "+")
        yield machine
    finally:
        subprocess.run([SDBOX, "stop", machine.name], capture_output=True, check=False)


@pytest.fixture(scope="session")
def installed(box: Box, programs: Programs) -> Service:
    service = Service(box, programs)
    service.install()
    return service


@pytest.fixture
def service(installed: Service) -> Iterator[Service]:
    """The service, not started yet."""
    installed.reset()
    yield installed
    installed.reset()
