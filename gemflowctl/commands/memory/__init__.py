"""`gemflowctl memory …`: the shared memory of tasks. One command a module."""

from gemflowctl.cli import LazyGroup

command = LazyGroup(
    "memory",
    table={name: f"gemflowctl.commands.memory.{name}" for name in ("get", "set", "delete", "list", "watch")},
    help="""Read and write the shared memory: values that tasks and people keep under a namespace and a key.

    A value is durable when it is acknowledged, and has a version that grows with every change.
    """,
    epilog="""
    gemflowctl memory set model gemini-2.5-flash
    gemflowctl memory get model
    gemflowctl memory list agents/ --namespace research
    gemflowctl memory watch
    """,
)
