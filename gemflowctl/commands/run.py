"""`gemflowctl run GOAL`: the autonomous agent. Plans, shows the plan where asked to, follows the steps, prints the answer."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import click

from gemflowctl.cli import Command
from gemflowctl.commands.arguments import read_text
from gemflowctl.commands.budget_options import budget_of, budget_options
from gemflowctl.commands.wait import wait_with_bar
from gemflowctl.errors import ClientError
from gemflowctl.output import plain
from gemflowctl.output.console import Console
from gemflowctl.session import Session
from gemflowctl.steps import Body
from gemflowd.model.states import TERMINAL

if TYPE_CHECKING:
    from gemflowctl.client import Client, Flow
    from gemflowctl.results import Result

_ENDED: Final = frozenset(f"task.{state.word}" for state in TERMINAL)
_FLOW_ENDED: Final = frozenset({"flow.succeeded", "flow.failed", "flow.cancelled"})
_AGENT: Final = "agent"
_MOST_NAME: Final = 60


@click.command(
    "run",
    cls=Command,
    epilog="""
    gemflowctl run 'Compare the release notes of the last three versions and say what to watch for'
    gemflowctl run --dry-run --max-tasks 6 'Build a web scraper that collects headlines and writes a report'
    gemflowctl run --approve --budget 0.50 - < goal.txt
    gemflowctl run --type gemini --type tool --agent researcher --agent critic 'Who makes solar cells?'
    gemflowctl run --detach --name weekly 'Write the weekly report'
    """,
)
@click.argument("words", nargs=-1, required=True, metavar="GOAL...")
@click.option("--model", metavar="NAME", help="For all calls; else the daemon's `default_model`.")
@click.option(
    "--fallback", multiple=True, metavar="NAME", help="Asked where the model can't be had; may be given again."
)
@click.option("--max-tasks", type=click.IntRange(1, 200), metavar="N", help="Tasks in a plan; 20 if not given.")
@click.option(
    "--max-depth", type=click.IntRange(1, 100), metavar="N", help="Tasks one after the other; 10 if not given."
)
@click.option(
    "--nesting",
    type=click.IntRange(0, 5),
    metavar="N",
    help="Agents within agents: a step may plan its own part; 1 if not given, 0 for never.",
)
@click.option("--agent", "agents", multiple=True, metavar="NAME", help="A persona that it may use; all if not given.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="A task type that it may use; if not given gemini, tool, analysis, memory and agent. `command` has to be named.",
)
@click.option(
    "--tool",
    "tools",
    multiple=True,
    metavar="NAME",
    help="A tool that it may use, as `prompt --tool`; if not given those for files and pages, memory, and what personas have; never shell.",
)
@click.option(
    "--max-hops",
    type=click.IntRange(1, 40),
    metavar="N",
    help="Questions to the model of a step with tools; 10 if not given.",
)
@click.option("--workspace", metavar="NAME", help="A workspace for its files, which stays; else that of the flow.")
@click.option(
    "--memory", metavar="NAMESPACE", help="Of the shared memory: the planner is told it, the answer is kept in it."
)
@click.option("--dry-run", is_flag=True, help="Make and check the plan and show it; nothing of it is run.")
@click.option(
    "--approve", is_flag=True, help="Show the plan and ask before it is run; without a terminal wait for `release`."
)
@click.option("--yes", is_flag=True, help="With --approve: show the plan and go on without asking.")
@click.option("--name", metavar="NAME", help="A name for the flow; else the goal's beginning.")
@budget_options
@click.option(
    "--wait/--detach", default=True, help="Follow it to its end and print the answer (the default), or return at once."
)
@click.pass_obj
def command(
    session: Session, /, words: tuple[str, ...], dry_run: bool, approve: bool, yes: bool, wait: bool, **options: Any
) -> int:
    """Reach a GOAL: a model makes a plan, its tasks run as one flow, and a writer makes an answer of their results.

    The plan is checked before anything of it runs: types and personas, ids, circles, size, depth, and its cost against the budget.
    One that is wrong goes back to the model with what is wrong. `-` reads the goal from standard input.

    Exits with 0 when there is an answer, with 1 when there is none. With --json: the daemon's reply to the submission; then with
    --dry-run the plan, else (unless --detach) the plan where it is to be approved, and the agent's result line.
    """
    if yes and not approve:
        raise click.UsageError("--yes goes with --approve")
    if dry_run and (approve or not wait):
        raise click.UsageError("--dry-run runs nothing: --approve and --detach don't go with it")
    goal = (read_text("GOAL", "-") if words == ("-",) else " ".join(words)).strip()
    if not goal:
        raise click.UsageError("the goal is empty")
    names = ("model", "max_tasks", "max_depth", "nesting", "max_hops", "memory", "workspace")
    data = {"goal": goal, **{name: options[name] for name in names if options[name] is not None}}
    data |= {name: list(options[name]) for name in ("fallback", "agents", "types", "tools") if options[name]}
    if approve:
        data["approve"] = True
    task: Body = {"id": "plan", "type": "agent.plan"} if dry_run else {"id": _AGENT, "type": "agent"}
    console = session.console
    budget = budget_of(options)
    with session.client() as client:
        start = client.next_event()
        name = options["name"] or " ".join(goal.split())[:_MOST_NAME]
        flow = client.submit_batch([{**task, "data": data}], name=name, budget=budget)
        _tell(console, flow, wait)
        if not wait:
            return 0
        try:
            if dry_run:
                return _show_plan_alone(console, client, flow)
            return _Following(console, client, flow, yes=yes).to_the_end(start)
        except (KeyboardInterrupt, ClientError):
            console.note(f"{flow.ref} is submitted; `gemflowctl wait {flow.ref}` waits for it again")
            raise


def _tell(console: Console, flow: Flow, wait: bool) -> None:
    if console.as_json:
        console.json(flow.reply)
    elif not wait:
        console.line(flow.ref if console.quiet else f"flow {flow.ref} submitted: task {flow.reply['first']}")
    else:
        console.note(f"flow {flow.ref}: planning")


def _show_plan_alone(console: Console, client: Client, flow: Flow) -> int:
    wait_with_bar(console, client, (flow.ref,))
    result = next(client.results(f"{flow.ref}/plan"))
    if not result.ok:
        _tell_failure(console, result)
        return 1
    show_plan(console, result.value)
    return 0


def show_plan(console: Console, plan: Body) -> None:
    """A checked plan: its tasks and what it will use, about."""
    if console.as_json:
        console.json({"plan": plan})
        return
    rows = [
        [
            task["id"],
            task["type"],
            task["agent"],
            ", ".join(task.get("tools") or ()) or None,
            task["priority"],
            ", ".join(task["dependencies"]) or None,
            task["description"],
        ]
        for task in plan["tasks"]
    ]
    console.table(["id", "type", "agent", "tools", "priority", "after", "description"], rows)
    estimate = plan["estimate"]
    money = "of unknown cost" if estimate["money"] is None else f"{estimate['money']:g} {estimate['currency']}"
    console.note(
        f"{len(rows)} tasks, {plan['depth']} one after the other; about {estimate['calls']} calls, {estimate['tokens']} tokens, {money}"
    )


class _Following:
    """A flow of an agent, from its submission to its answer."""

    def __init__(self, console: Console, client: Client, flow: Flow, *, yes: bool) -> None:
        self._console = console
        self._client = client
        self._flow = flow
        self._yes = yes
        self._agent = int(flow.reply["first"])

    def to_the_end(self, start: int) -> int:
        """Tell of each step as it ends; the exit code."""
        topics = ("task", "flow", "budget")
        with closing(self._client.events(topics, start=start)) as events:  # type: ignore[type-var]
            for event in events:
                if event["topic"] == "budget":
                    self._held(event)
                if event.get("flow") != self._flow.number:
                    continue
                topic = event["topic"]
                if topic in _FLOW_ENDED:
                    break
                if event.get("task") == self._agent:
                    if topic == "task.held" and not self._approved():
                        return 1
                elif topic in _ENDED:
                    self._step(event, topic.removeprefix("task."))
        result = next(self._client.results(str(self._agent)))
        self._answer(result)
        return 0 if result.ok else 1

    def _held(self, event: Body) -> None:
        """Nothing goes on by itself where a budget has no room."""
        of = event["of"]
        if event["what"] == "held" and (of == self._flow.ref or event["scope"] not in ("task", "flow")):
            self._console.note(
                f"the budget of {of} has no room for the next call: `gemflowctl budget raise {of}` lets it go on,"
                f" `gemflowctl cancel {self._flow.ref}` ends it"
            )

    def _step(self, event: Body, state: str) -> None:
        name = plain.line(str(event.get("id") or event["task"]).removeprefix(f"{_AGENT}."))
        why = event.get("reason")
        if state == "failed":
            result = next(self._client.results(str(event["task"])), None)
            why = why if result is None or result.error is None else result.error.message
        said = f": {plain.line(why)}" if why else ""
        self._console.note(f"{state:<10} {name} ({plain.line(event['type'])}){said}")

    def _approved(self) -> bool:
        """Whether it may go on: a person is asked, where there is one."""
        # Held for something else, or released meanwhile: then it is not for us to ask.
        held = self._client.status(str(self._agent))["items"][0]
        plan = next(self._client.results(f"{self._flow.ref}/{_AGENT}.plan"), None)
        if held["state"] != "held" or plan is None or not plan.ok:
            return True
        show_plan(self._console, plan.value)
        if not self._yes:
            if not sys.stdin.isatty():
                self._console.note(
                    f"it waits for approval: `gemflowctl release {self._agent}`, or `gemflowctl cancel {self._flow.ref}`"
                )
                return True
            if not click.confirm("Run this plan?", err=True):
                self._client.cancel(self._flow.ref)
                self._console.note(f"{self._flow.ref} is cancelled")
                return False
        self._client.release(str(self._agent))
        return True

    def _answer(self, result: Result) -> None:
        if self._console.as_json:
            self._console.json(result.line)
        elif not result.ok:
            _tell_failure(self._console, result)
        else:
            self._console.line(plain.text(str(result.value["text"])))
            if result.value["failed"]:
                self._console.note(f"without what these steps should have brought: {', '.join(result.value['failed'])}")


def _tell_failure(console: Console, result: Result) -> None:
    if console.as_json:
        console.json(result.line)
        return
    why = f": {result.error.message}" if result.error else ""
    click.echo(plain.text(f"{result.id} {result.state}{why}"), err=True)
