"""The directory that a task works in, and can't leave.

Below the setting `workspace` each flow has one of its own, `flows/<number>`, and those that tasks ask for by name are in
`shared/<name>`. They are made when they are first needed and stay until somebody removes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.workspace.errors import explained
from gemflowd.handlers.workspace.files import Files

if TYPE_CHECKING:
    from gemflowd.worker.context import BaseContext

#: What a task may say in `workspace`.
NAME: Final = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
NAME_SCHEMA: Final[dict[str, Any]] = {"type": "string", "pattern": NAME}
_NAME: Final = re.compile(NAME.rstrip("$") + r"\Z")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEFAULT_MAX_FILE_MB: Final = 16


@contextmanager
def workspace(context: BaseContext, name: str | None = None) -> Iterator[Files]:
    """The workspace of the task's flow, or the one with a name.

    Raises:
        Permanent: `bad_workspace`: the name is none, or the daemon was given no place for workspaces.
        Transient: it can't be made now.
    """
    place = context.settings.get("workspace")
    if not place:
        raise Permanent("there is no place for workspaces", code="bad_workspace")
    if name is not None and _NAME.match(name) is None:
        raise Permanent(f"{name!r} is no name for a workspace", code="bad_workspace")
    above, own = ("flows", str(context.flow)) if name is None else ("shared", name)
    limit = int(float(context.settings.get("tool_max_file_mb") or _DEFAULT_MAX_FILE_MB) * 1024 * 1024)
    descriptors: list[int] = []
    try:
        with explained(f"{above}/{own}"):
            base = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            descriptors.append(base)
            for steps in (("locks",), (above, own)):
                here = base
                for step in steps:
                    here = _directory(here, step)
                    descriptors.append(here)
            locks, root = descriptors[1], descriptors[-1]
        yield Files(root, locks, limit)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _directory(above: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
    return os.open(name, _DIRECTORY, dir_fd=above)
