"""The unit files as files: systemd finds no fault in them, and they are closed enough. What they do is in test_service."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
#: Of 100, less is better: `systemd-analyze security`. The unit has 18; what is left open is explained in it.
EXPOSURE = 25

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze (apt-get install systemd)"
)


def analyze(*arguments: str, **environ: str) -> str:
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, env=os.environ | environ, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(("unit", "manager"), [("gemflowd.service", "--system"), ("gemflowd-user.service", "--user")])
def test_verify(unit: str, manager: str, tmp_path: Path):
    # The program need not be installed here: another one stands for it.
    text = (UNITS / unit).read_text().replace("ExecStart=/usr/bin/gemflowd run", "ExecStart=/bin/true")
    assert "/usr/bin/gemflowd" not in text
    (tmp_path / "gemflowd.service").write_text(text)
    said = analyze(manager, "verify", str(tmp_path / "gemflowd.service"), XDG_RUNTIME_DIR=str(tmp_path))
    assert "gemflowd" not in said, said  # it warns of an unknown setting and still ends with 0


def test_the_system_unit_is_closed():
    analyze("security", "--offline=true", f"--threshold={EXPOSURE}", str(UNITS / "gemflowd.service"))


@pytest.mark.parametrize("unit", ["gemflowd.service", "gemflowd-user.service"])
def test_time_to_stop_is_more_than_the_drain_takes(unit: str):
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", (UNITS / unit).read_text(), re.MULTILINE)
    assert seconds is not None
    assert int(seconds[1]) > 30  # the default of `drain_timeout`
