"""The directories of flows, over the life of a real daemon: they go with their flow, and nobody finds another database's."""

from __future__ import annotations

from typing import Any

from helpers.daemon import Daemon, running
from helpers.raw import Raw
from helpers.waiting import until


def tool(name: str, **data: Any) -> dict[str, Any]:
    return {"type": "tool", "id": "a", "data": {"tool": name, **data}, "retries": 0}


def with_directory(client: Raw) -> str:
    (line,) = client.run(tool("write_file", path="a/b", content="x"))
    assert line["ok"], line
    return str(line["flow"])


def wait_without(daemon: Daemon, flow: str) -> None:
    directory = daemon.state / "workspace" / "flows" / flow
    until(lambda: not directory.exists(), directory.parent)


def kept(daemon: Daemon) -> set[str]:
    """The flows that have a directory; nothing is left of the others."""
    trash = daemon.state / "workspace" / "trash"
    until(lambda: not list(trash.iterdir()), trash)
    return {path.name for path in (daemon.state / "workspace" / "flows").iterdir()}


def test_a_directory_goes_with_its_flow() -> None:
    with running(workers=1, keep_days=0) as daemon:
        client = daemon.client()
        client.run(tool("write_file", path="f", content="y", workspace="team"))
        first, second, third = (with_directory(client) for _ in range(3))
        client("delete", refs=[f"f{second}"])
        wait_without(daemon, second)
        assert kept(daemon) == {first, third}
        client("config", set={"keep_days": 1e-9})
        for flow in (first, third):
            wait_without(daemon, flow)
        assert (daemon.state / "workspace" / "shared" / "team" / "f").read_text() == "y"


def test_what_a_kill_left_is_swept_at_the_start() -> None:
    with running(workers=1, keep_days=0) as daemon:
        client = daemon.client()
        flow, gone = with_directory(client), with_directory(client)
        client("delete", refs=[f"f{gone}"])
        wait_without(daemon, gone)
        daemon.kill()
        # As if the kill had come between the commit and the removal, and in the middle of one.
        for left in (f"flows/{gone}/a", "trash/0123/b"):
            (daemon.state / "workspace" / left).mkdir(parents=True)
        daemon.restart()
        assert kept(daemon) == {flow}
        assert not (daemon.state / "workspace" / "aside").exists()
        (line,) = daemon.client().run(tool("list_files"))
        assert line["result"]["files"] == []


def test_a_database_begun_anew_does_not_see_what_the_old_one_had() -> None:
    with running(workers=1, keep_days=0) as daemon:
        flow = with_directory(daemon.client())
        daemon.stop()
        for path in daemon.state.glob("gemflow.db*"):
            path.unlink()
        daemon.restart()
        (line,) = daemon.client().run(tool("read_file", path="a/b"))
        assert str(line["flow"]) == flow
        assert line["error"]["code"] == "not_found"
        (old,) = (daemon.state / "workspace" / "aside").glob(f"*/{flow}")
        assert (old / "a" / "b").read_text() == "x"
        assert "1 directory of a flow that this database has not made: moved to" in daemon.log_text()


def test_a_workspace_has_one_daemon(daemon: Daemon) -> None:
    second = Daemon(workspace=str(daemon.state / "workspace"))
    try:
        second.launch()
        assert second.wait_end() != 0
        assert f"{daemon.state}/workspace/.gemflow.lock is locked by process {daemon.pid}" in second.log_text()
    finally:
        second.process = None
        second.close()
