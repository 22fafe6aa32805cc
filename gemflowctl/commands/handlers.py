"""`gemflowctl handlers`: which types of tasks there are."""

from __future__ import annotations

import click

from gemflowctl.cli import Command
from gemflowctl.session import Session


@click.command(
    "handlers", cls=Command, epilog="gemflowctl handlers\ngemflowctl handlers --json | jq '.handlers[].schema'"
)
@click.pass_obj
def command(session: Session) -> None:
    """List the types of tasks that the daemon runs, the personas for `gemini` tasks, and the MCP servers of the
    settings (`doctor` asks whether they answer).

    With --json also the JSON Schema of each type's data.
    """
    console = session.console
    with session.client() as client:
        reply = client.handlers()
    if console.as_json:
        console.json(reply)
        return
    console.table(
        ["type", "kind", "module", "package", "about"],
        [
            [
                handler["type"],
                handler.get("kind"),
                handler.get("module"),
                handler.get("package"),
                first_line(handler.get("doc")),
            ]
            for handler in reply["handlers"]
        ],
    )
    if reply.get("agents"):
        console.line()
        console.table(
            ["agent", "about"], [[agent["name"], first_line(agent.get("description"))] for agent in reply["agents"]]
        )
    if reply.get("mcp"):
        console.line()
        console.table(["MCP server"], [[name] for name in reply["mcp"]])


def first_line(text: str | None) -> str | None:
    """The first line of a text, which says what it is about."""
    return text.strip().partition("\n")[0] if text else None
