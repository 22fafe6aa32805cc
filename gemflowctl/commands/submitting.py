"""What `submit` and `prompt` do once they have their tasks: send, say so, wait if asked, and say how to go on after a break."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from gemflowctl.commands.status import counts
from gemflowctl.commands.wait import wait_with_bar
from gemflowctl.errors import ClientError, Interrupted, NoDaemon, RefusedByDaemon
from gemflowctl.output import json, plain
from gemflowctl.output.console import Console
from gemflowctl.output.progress import Bar
from gemflowctl.results import Result, success
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.submission import new_uuid

if TYPE_CHECKING:
    from gemflowctl.client import Client, Flow
    from gemflowctl.input.entry import Place

#: Refusals that have nothing to do with what was sent: going on later may work.
_PASSING: Final = frozenset({"draining", "disk_full", "overloaded", "internal", "submission_offset"})
#: Results that `--wait` prints for a person; of more it shows those that failed.
_MOST_SHOWN: Final = 20
_TASK_PATH: Final = re.compile(r"tasks\[(\d+)\]\.?")


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that make one flow.

    Attributes:
        places: where each stands in its file, if it came from one.
        again: the command that goes on after a break, without the UUID; None where there is none.
    """

    tasks: Sequence[Body]
    name: str | None = None
    metadata: dict[str, Any] | None = None
    places: Sequence[Place] = ()
    again: str | None = None


def submit(session: Session, batch: Batch, *, resume: str | None = None, wait: bool = False) -> int:
    """Submit, tell about it, and with `wait` wait for the end; the exit code."""
    uuid = resume or new_uuid()
    with session.client() as client:
        flow = _send(session.console, client, batch, uuid)
        single = len(batch.tasks) == 1
        if not wait or session.console.as_json:
            _tell(session.console, flow, single)
        if not wait:
            return 0
        try:
            reply = wait_with_bar(session.console, client, (flow.ref,))
        except (KeyboardInterrupt, ClientError):
            session.console.note(f"{flow.ref} is submitted; `gemflowctl wait {flow.ref}` waits for it again")
            raise
        _tell_results(session.console, flow, client.results(flow.ref), reply, single)
        return 0 if success(reply["tasks"]) else 1


def _send(console: Console, client: Client, batch: Batch, uuid: str) -> Flow:
    received = 0

    def progress(done: int, total: int) -> None:
        nonlocal received
        received = done
        bar.update(done, total)

    try:
        with Bar(console, "submitting") as bar:
            return client.submit_batch(
                batch.tasks, name=batch.name, metadata=batch.metadata, submission=uuid, progress=progress
            )
    except RefusedByDaemon as refusal:
        _place(refusal, batch)
        if refusal.code in _PASSING and received:
            _how_to_resume(console, refusal, batch, uuid, received)
        raise
    except NoDaemon as problem:
        if received:
            _how_to_resume(console, problem, batch, uuid, received)
        raise
    except ClientError as problem:
        if problem.exit_code == 5:
            _how_to_resume(console, problem, batch, uuid, received)
        raise
    except KeyboardInterrupt:
        stopped = Interrupted("interrupted")
        _how_to_resume(console, stopped, batch, uuid, received)
        raise stopped from None


def _place(refusal: RefusedByDaemon, batch: Batch) -> None:
    """Name the file and line in the message, where the daemon named the task."""
    match = _TASK_PATH.match(refusal.path or "")
    if match is None or int(match[1]) >= len(batch.places):
        return
    refusal.message = f"{batch.places[int(match[1])]}: {refusal.message}"


def _how_to_resume(console: Console, error: ClientError, batch: Batch, uuid: str, received: int) -> None:
    error.details["submission"] = uuid
    error.details["received"] = received
    if not console.as_json and batch.again is not None:
        console.note(
            f"the daemon has received {received} of {len(batch.tasks)} tasks for certain; nothing is submitted twice if you go"
            f" on with:\n  {batch.again} --resume {uuid}"
        )


def _tell(console: Console, flow: Flow, single: bool) -> None:
    first = flow.reply.get("first")
    if console.as_json:
        console.json(flow.reply)
    elif console.quiet:
        console.line(str(first) if single and first is not None else flow.ref)
    elif single:
        console.line(f"task {first} submitted (flow {flow.ref})" if first is not None else f"flow {flow.ref} submitted")
    else:
        numbers = f", {first}-{first + flow.count - 1}" if first is not None else ""
        console.line(f"flow {flow.ref} submitted: {flow.count} tasks{numbers}")
    if flow.repeated:
        console.note("the daemon had this submission already")


def _tell_results(console: Console, flow: Flow, results: Any, reply: Body, single: bool) -> None:
    if console.as_json:
        console.json_lines(result.line for result in results)
        return
    few = reply["total"] <= _MOST_SHOWN
    for result in results:
        if few or not result.ok:
            _tell_result(console, result, single)
    if not few:
        console.note(f"the results are many; see them with: gemflowctl results {flow.ref}")
    if not single:
        console.note(f"{reply['ended']} of {reply['total']} ended: {counts(reply['tasks'])}")


def _tell_result(console: Console, result: Result, single: bool) -> None:
    name = plain.line(result.id if result.id is not None else result.number)
    if not result.ok:
        why = f": {result.error.message}" if result.error else ""
        click.echo(plain.text(f"task {name} {result.state}{why}"), err=True)
        return
    if not single:
        console.line(click.style(f"── {name}", bold=True))
    console.line(_value(result.value, indent=2 if single else None))


def _value(value: Any, indent: int | None) -> str:
    """A result for a person: the text of a model's answer, else JSON."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return plain.text(value["text"])
    return plain.text(value) if isinstance(value, str) else plain.text(json.dumps(value, indent))
