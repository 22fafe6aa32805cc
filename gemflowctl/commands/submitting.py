"""What `submit` and `prompt` do once they have their tasks: send, say so, wait if asked, and say how to go on after a break."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from gemflowctl.commands.status import counts
from gemflowctl.commands.wait import wait_with_bar
from gemflowctl.errors import ClientError, Interrupted, InvalidInput, NoDaemon, RefusedByDaemon
from gemflowctl.output import json, plain
from gemflowctl.output.console import Console
from gemflowctl.output.progress import Bar
from gemflowctl.output.streamed import PIECES, LogWriter
from gemflowctl.results import Result, success
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowctl.submission import new_uuid

if TYPE_CHECKING:
    from gemflowctl.client import Client, Flow
    from gemflowctl.input.entry import Place
    from gemflowctl.input.task_lines import TaskLines

#: Refusals that have nothing to do with what was sent: going on later may work.
_PASSING: Final = frozenset({"draining", "disk_full", "queue_full", "overloaded", "internal", "submission_offset"})
#: Refusals that are not about the tasks of a chunk, and discard nothing.
_NOT_OF_TASKS: Final = frozenset({"submission_closed", "submission_reused", "not_found"})
#: Results that `--wait` prints for a person; of more it shows those that failed.
_MOST_SHOWN: Final = 20
_TASK_PATH: Final = re.compile(r"tasks\[(\d+)\]\.?")


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that make one flow, or are added to one.

    Attributes:
        tasks: all of them; none where there are `lines`.
        lines: tasks that are read while they are sent.
        about: the arguments of `submit_batch` beside the tasks: `name`, `metadata`, `weight`, `order`, `stream`, `grow`.
        places: where each of `tasks` stands in its file, if it came from one.
        again: the command that goes on after a break, without the UUID; None where there is none.
        answers: of one task its result alone counts, not those of what it has added to its flow.
    """

    tasks: Sequence[Body] = ()
    lines: TaskLines | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    places: Sequence[Place] = ()
    again: str | None = None
    answers: bool = False

    @property
    def streams(self) -> bool:
        """Whether what has arrived runs before all of it has."""
        return bool(self.about.get("stream"))

    @property
    def grows(self) -> bool:
        """Whether it is added to a flow that there is."""
        return self.about.get("grow") is not None

    def place(self, index: int) -> Place | None:
        """Where a task stands in its file, if that is known."""
        if self.lines is not None:
            return self.lines.place(index)
        return self.places[index] if index < len(self.places) else None


def submit(
    session: Session, batch: Batch, *, resume: str | None = None, wait: bool = False, follow: bool = False
) -> int:
    """Submit, tell about it, and with `wait` wait for the end; the exit code.

    Args:
        follow: show the answer of the one task while it comes.
    """
    uuid = resume or new_uuid()
    with session.client() as client:
        if resume is not None:
            _note_unknown(session.console, client, resume)
        flow = _send(session.console, client, batch, uuid)
        single = flow.count == 1
        if not wait or session.console.as_json:
            _tell(session.console, flow, single, batch.grows)
        if not wait:
            return 0
        ref = str(flow.reply["first"]) if single and batch.answers else _ref(flow, batch.grows)
        shown = False
        try:
            if follow:
                shown = _follow(client, str(flow.reply["first"]))
            reply = wait_with_bar(session.console, client, (ref,))
        except (KeyboardInterrupt, ClientError):
            session.console.note(f"{ref} is submitted; `gemflowctl wait {ref}` waits for it again")
            raise
        if not (shown and success(reply["tasks"])):
            _tell_results(session.console, ref, client.results(ref), reply, single)
        elif single:
            _tell_cut(session.console, next(client.results(ref)))
        return 0 if success(reply["tasks"]) else 1


def _follow(client: Client, ref: str) -> bool:
    """Show an answer's pieces until the task has ended. Returns whether the last attempt has told any.

    What else its log says goes to standard error, so that standard output has nothing but what the model said.
    """
    attempt = 0
    writer = LogWriter(sys.stdout.write)
    try:
        for line in client.logs(ref, follow=True):
            if line["stream"] == PIECES:
                attempt = line["attempt"]
                writer.add(line)
                sys.stdout.flush()
            else:
                writer.close()
                click.echo(plain.text(line["text"]), err=True)
    finally:
        writer.close()
    return bool(attempt) and attempt == client.status(ref)["items"][0]["attempts"]


def _note_unknown(console: Console, client: Client, uuid: str) -> None:
    try:
        client.submission(uuid)
    except RefusedByDaemon as refusal:
        if refusal.code != "not_found":
            raise
        console.note("the daemon does not know this submission: it begins anew")


def _ref(flow: Flow, grows: bool) -> str:
    """What to wait for: the flow, or where it is not ours alone its tasks in question."""
    first = flow.reply.get("first")
    if first is None or not (grows or flow.key_taken):
        return flow.ref
    return str(first) if flow.count <= 1 else f"{first}-{first + flow.count - 1}"


def _send(console: Console, client: Client, batch: Batch, uuid: str) -> Flow:
    received = 0

    def progress(done: int, total: int | None = None) -> None:
        nonlocal received
        if not received and done != total and bar.shows:
            # Who is killed can't tell how to go on any more.
            console.note(f"submission {uuid}: after a break, the same command with --resume {uuid} goes on")
        received = done
        if batch.lines is not None:
            bar.update(batch.lines.read, batch.lines.size, f"{received} tasks")
        else:
            bar.update(done, total)

    try:
        with Bar(console, "submitting", of_bytes=batch.lines is not None) as bar:
            if batch.lines is None:
                return client.submit_batch(batch.tasks, **batch.about, submission=uuid, progress=progress)
            return client.submit_from(batch.lines, **batch.about, submission=uuid, progress=progress)
    except RefusedByDaemon as refusal:
        _place(refusal, batch)
        if refusal.code in _PASSING:
            if received:
                _how_to_resume(console, refusal, batch, uuid, received)
        elif received and refusal.code not in _NOT_OF_TASKS:
            _what_is_left(console, client, refusal, batch, uuid, received)
        raise
    except InvalidInput as problem:
        if received := problem.details.get("received", 0):
            _what_is_left(console, client, problem, batch, uuid, received)
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
    place = None if match is None else batch.place(int(match[1]))
    if place is not None:
        refusal.message = f"{place}: {refusal.message}"
        if refusal.code == "duplicate_id" and batch.lines is not None and (twin := batch.lines.twin(place)):
            refusal.message += f" (it was used before: {twin})"
    if refusal.code == "unknown_dependency" and batch.lines is not None:
        refusal.message += " (of a file that is read while it is sent: what a task waits for has to stand before it)"


def _what_is_left(console: Console, client: Client, error: ClientError, batch: Batch, uuid: str, received: int) -> None:
    """Something is wrong with a task: say what became of those that were sent before."""
    if not batch.streams:
        gone = error.details.get("discarded", True)
        error.message += (
            f"; nothing is kept: the {received} tasks before were discarded"
            if gone
            else f"; the {received} tasks before could not be discarded, the daemon does that later by itself"
        )
        return
    try:
        flow = f"f{client.submission(uuid)['flow']}"
    except ClientError:
        flow = "the flow"
    error.message += f"; the {received} tasks before are submitted ({flow}) and run"
    _how_to_resume(console, error, batch, uuid, received, mend=True)


def _how_to_resume(
    console: Console, error: ClientError, batch: Batch, uuid: str, received: int, *, mend: bool = False
) -> None:
    error.details["submission"] = uuid
    error.details["received"] = received
    if not console.as_json and batch.again is not None:
        of_all = "" if batch.lines is not None else f" of {len(batch.tasks)}"
        console.note(
            f"the daemon has received {received}{of_all} tasks for certain; nothing is submitted twice if you"
            f"{' mend the rest and' if mend else ''} go on with:\n  {batch.again} --resume {uuid}"
        )


def _tell(console: Console, flow: Flow, single: bool, grows: bool) -> None:
    first = flow.reply.get("first")
    if console.as_json:
        console.json(flow.reply)
    elif console.quiet:
        console.line(str(first) if single and first is not None else flow.ref)
    elif flow.key_taken:
        console.line(f"task {first} (flow {flow.ref})" if first is not None else f"flow {flow.ref}")
    elif grows:
        what = f"task {first}" if single else f"{flow.count} tasks"
        console.line(f"{what} added to flow {flow.ref}")
    elif single:
        console.line(f"task {first} submitted (flow {flow.ref})" if first is not None else f"flow {flow.ref} submitted")
    else:
        numbers = f", {first}-{first + flow.count - 1}" if first is not None else ""
        console.line(f"flow {flow.ref} submitted: {flow.count} tasks{numbers}")
    if flow.key_taken:
        console.note("the key is taken: that task has it, and nothing was submitted")
    elif flow.repeated and grows:
        console.note("this step was taken before: it added these tasks, and nothing more was added")
    elif flow.repeated:
        console.note("the daemon had this submission already")


def _tell_results(console: Console, ref: str, results: Any, reply: Body, single: bool) -> None:
    if console.as_json:
        console.json_lines(result.line for result in results)
        return
    few = reply["total"] <= _MOST_SHOWN
    for result in results:
        if few or not result.ok:
            _tell_result(console, result, single)
    if not few:
        console.note(f"the results are many; see them with: gemflowctl results {ref}")
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
    _tell_cut(console, result)


def _tell_cut(console: Console, result: Result) -> None:
    """Mark what looks like an answer of a model, and is the beginning of one."""
    if isinstance(result.value, dict) and result.value.get("finish_reason") == "MAX_TOKENS":
        console.note("the answer is cut off there: `max_output_tokens` was used up (finish_reason MAX_TOKENS)")


def _value(value: Any, indent: int | None) -> str:
    """A result for a person: the text of a model's answer, else JSON."""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return plain.text(value["text"])
    return plain.text(value) if isinstance(value, str) else plain.text(json.dumps(value, indent))
