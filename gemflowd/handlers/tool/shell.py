"""A line of shell in the workspace. Only where the setting `tool_shell` says so: with it a task may do whatever this user may."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.command import run
from gemflowd.handlers.contents import as_bytes
from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.workspace import workspace

if TYPE_CHECKING:
    from gemflowd.worker.context import Context

#: What a line of shell may see of this process's environment; secrets are in what is not named.
_KEPT: Final = frozenset({"PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL"})
_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


def shell(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Run `/bin/sh -c`; result, log and outcome as those of `command`.

    Raises:
        Permanent: `not_allowed`, and as `command`.
        Transient: as `command`.
    """
    if context.settings.get("tool_shell") is not True:
        raise Permanent("the tool `shell` is off here (setting tool_shell)", code="not_allowed")
    stdin = data.get("stdin")
    with workspace(context, data.get("workspace")) as files, files.directory_named("") as directory:
        where = f"/proc/self/fd/{directory}"
        environment = {
            name: value
            for name, value in context.process_environment().items()
            if name in _KEPT or name.startswith("GEMFLOW_")
        }
        environment.setdefault("PATH", _DEFAULT_PATH)
        environment["HOME"] = str(Path(where).readlink())
        environment.update(data.get("env", {}))
        args = ["/bin/sh", "-c", data["command"]]
        return run(args, environment, where, None if stdin is None else as_bytes(stdin), context)
