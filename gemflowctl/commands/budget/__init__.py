"""`gemflowctl budget …`: how much money or how many tokens may be used. One command a module."""

from gemflowctl.cli import LazyGroup

command = LazyGroup(
    "budget",
    table={
        "list": "gemflowctl.commands.budget.list",
        "set": "gemflowctl.commands.budget.set",
        "raise": "gemflowctl.commands.budget.raise_",
        "remove": "gemflowctl.commands.budget.remove",
    },
    help="""Limit what model calls may cost, or how many tokens they may use: for a task, a flow, a queue, a day (UTC), or in all.

    OF is a task's number, f7, f7/some-id, `queue NAME`, `day` or `total`.
    """,
    epilog="""
    gemflowctl budget set f7 5.00
    gemflowctl budget set day 20 --action warn
    gemflowctl budget set queue night --tokens 2000000
    gemflowctl budget raise f7 +5
    gemflowctl budget list
    gemflowctl budget remove day
    """,
)
