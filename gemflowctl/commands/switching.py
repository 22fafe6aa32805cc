"""What `enable` and `disable`, and `pause` and `resume`, have in common. No commands."""

from __future__ import annotations

from gemflowctl.output import plain
from gemflowctl.session import Session


def switch_execution(session: Session, *, enabled: bool) -> None:
    """Set `enabled`, and say so."""
    with session.client() as client:
        settings = client.config({"enabled": enabled})
    (setting,) = [setting for setting in settings if setting["key"] == "enabled"]
    if session.console.as_json:
        session.console.json(setting)
    else:
        session.console.line(f"parallel execution is {'enabled' if setting['value'] else 'disabled'}")


def switch_queue(session: Session, queue: str | None, *, paused: bool) -> None:
    """Pause a queue or let it go on, and say so."""
    with session.client() as client:
        reply = client.pause(queue) if paused else client.resume(queue)
    if session.console.as_json:
        session.console.json(reply)
    else:
        session.console.line(f"queue {plain.line(reply['queue'])} is {'paused' if reply['paused'] else 'not paused'}")
