"""`gemflowctl cache …`: the cache of model calls. One command a module."""

from gemflowctl.cli import LazyGroup

command = LazyGroup(
    "cache",
    table={name: f"gemflowctl.commands.cache.{name}" for name in ("stats", "list", "clear")},
    help="""Look at the cache of model calls, and clear it.

    Which tasks use it: `prompt --cache`, `submit --cache`, and the setting `cache`.
    """,
    epilog="""
    gemflowctl cache stats
    gemflowctl cache list --limit 20
    gemflowctl cache clear
    """,
)
