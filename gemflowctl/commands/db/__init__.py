"""`gemflowctl db …`: the daemon's database. One command a module."""

from gemflowctl.cli import LazyGroup

command = LazyGroup(
    "db",
    table={name: f"gemflowctl.commands.db.{name}" for name in ("snapshot", "check")},
    help="Copy and check the daemon's database while it works.",
    epilog="""
    gemflowctl db snapshot /var/backups/gemflow.db
    gemflowctl db check
    """,
)
