"""`gemflowctl doctor` against a daemon that is well, one that is not, and none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.ctl import Ctl
from helpers.daemon import running, write_settings

KEY = "AIzaSy-not-a-real-key"


def states(answer: dict[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for check in answer["checks"]:
        found.setdefault(check["state"], set()).add(check["check"])
    return found


def test_doctor(tmp_path: Path) -> None:
    with running(env={"GEMINI_API_KEY": KEY}, workers=1) as daemon:
        ctl = Ctl(daemon.endpoint, tmp_path)
        answer = ctl.json("doctor")
        assert answer["ok"]
        well = states(answer)["ok"]
        assert well >= {"client", "daemon", "python", "sqlite", "socket", "key", "settings", "service", "queue"}
        assert daemon.client()("doctor")["ok"]

        Path(daemon.directory, "d.sock").chmod(0o666)
        write_settings(daemon.config, {"workers": 0})
        ran = ctl("doctor", status=1)
        assert "chmod 600" in ran.stdout
        assert "workers must be from 1 to 1024" in ran.stdout
        assert KEY not in ran.stdout + ran.stderr
        assert states(ctl.json("doctor", status=1))["wrong"] == {"socket", "settings"}

        ctl("drain")
        assert "drain" in states(ctl.json("doctor", status=1))["hint"]


def test_doctor_without_a_daemon(tmp_path: Path) -> None:
    nobody = f"ipc://{tmp_path}/s.sock"
    assert states(Ctl(nobody, tmp_path).json("doctor", status=1)) == {"ok": {"client", "settings"}, "wrong": {"daemon"}}
    answer = Ctl(nobody, tmp_path, PARALLEL_MAX_WORKERS="0").json("doctor", status=1)
    (settings,) = [check for check in answer["checks"] if check["check"] == "settings"]
    assert settings["state"] == "wrong"
    assert "PARALLEL_MAX_WORKERS must be" in settings["message"]
