"""What `ps` and `top` show for a process: `gemflowd: worker 3 [command #42]`.

Any user of the machine can read a title, so it never holds what a task was given.
"""

from __future__ import annotations


def set_title(title: str) -> None:
    """Show `title` in the process list. Does nothing where setproctitle is not installed: a title is a convenience."""
    try:
        from setproctitle import setproctitle  # here, so that who never sets a title does not load it
    except ImportError:
        return
    setproctitle(title)
