"""The task type `tool`: what an agent, or a plain flow, does with files and pages.

Covers: which tool is asked for, and its arguments in the terms of the rooms that do the work. Does not cover how a path is kept inside
(`handlers.workspace`), which addresses may be asked (`fetch`), or how a program is run (`handlers.subprocesses`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.contents import as_bytes, as_text_or_bytes
from gemflowd.handlers.errors import Permanent
from gemflowd.handlers.outcomes import told
from gemflowd.handlers.registry import task
from gemflowd.handlers.tool.schema import SCHEMA
from gemflowd.handlers.workspace import workspace
from gemflowd.handlers.workspace.files import ANY
from gemflowd.handlers.workspace.walking import list_files, search_files

if TYPE_CHECKING:
    from gemflowd.worker.context import Context

_DEFAULT_LISTED: Final = 1000
_DEFAULT_MATCHES: Final = 100


@task("tool", schema=SCHEMA)
def tool(data: dict[str, Any], context: Context) -> dict[str, Any]:
    """Read, write, append to, list or search files in the flow's workspace, fetch a URL, or run a line of shell.

    Data:
        tool: `read_file`, `write_file`, `append_file`, `list_files`, `search_files`, `fetch_url` or `shell`.
        workspace: a name, for a workspace that flows share; otherwise the flow's own.
        errors_as_result: what goes wrong is the result `{error: {code, message}}`; what may pass, from the third attempt on.
        and the tool's arguments, see docs/handlers.md.

    Raises:
        Permanent, Transient: with the codes of docs/handlers.md.
    """
    return told(data, context.attempt, lambda: _TOOLS[data["tool"]](data, context))


def _read_file(data: dict[str, Any], context: Context) -> dict[str, Any]:
    with workspace(context, data.get("workspace")) as files:
        content = files.read(data["path"], data.get("offset", 0), data.get("max_bytes"))
    found = {"path": data["path"], "size": content.size, "version": content.version, **as_text_or_bytes(content.data)}
    if content.version is None:
        found["truncated"] = True
    return found


def _write_file(data: dict[str, Any], context: Context) -> dict[str, Any]:
    content = as_bytes(data["content"])
    with workspace(context, data.get("workspace")) as files:
        version, created = files.write(data["path"], content, data.get("if_version", ANY))
    return {"path": data["path"], "size": len(content), "version": version, "created": created}


def _append_file(data: dict[str, Any], context: Context) -> dict[str, Any]:
    content = as_bytes(data["content"])
    with workspace(context, data.get("workspace")) as files:
        size = files.append(data["path"], content)
    return {"path": data["path"], "size": size, "appended": len(content)}


def _list_files(data: dict[str, Any], context: Context) -> dict[str, Any]:
    with workspace(context, data.get("workspace")) as files:
        return list_files(
            files,
            data.get("path", ""),
            data.get("pattern"),
            recursive=data.get("recursive", False),
            limit=data.get("limit", _DEFAULT_LISTED),
        )


def _search_files(data: dict[str, Any], context: Context) -> dict[str, Any]:
    finds = _finder(data["query"], regex=data.get("regex", False), ignore_case=data.get("ignore_case", False))
    with workspace(context, data.get("workspace")) as files:
        return search_files(
            files, data.get("path", ""), data.get("pattern"), finds, limit=data.get("limit", _DEFAULT_MATCHES)
        )


def _finder(query: str, *, regex: bool, ignore_case: bool) -> Callable[[str], bool]:
    """Whether a line has it. Regular expressions are RE2's: whatever is asked, a line takes no longer than it is long."""
    if not regex:
        if not ignore_case:
            return lambda line: query in line
        folded = query.casefold()
        return lambda line: folded in line.casefold()
    import re2

    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    try:
        search = re2.compile(query, options).search
    except re2.error as error:
        raise Permanent(f"{query!r} is no regular expression of RE2: {_said(error)}", code="bad_pattern") from None
    return lambda line: search(line) is not None


def _said(error: Exception) -> str:
    words = error.args[0] if error.args else error
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)


def _fetch_url(data: dict[str, Any], context: Context) -> dict[str, Any]:
    from gemflowd.handlers.tool.fetch import fetch_url

    return fetch_url(data, context)


def _shell(data: dict[str, Any], context: Context) -> dict[str, Any]:
    from gemflowd.handlers.tool.shell import shell

    return shell(data, context)


_TOOLS: Final[dict[str, Callable[[dict[str, Any], Context], dict[str, Any]]]] = {
    "read_file": _read_file,
    "write_file": _write_file,
    "append_file": _append_file,
    "list_files": _list_files,
    "search_files": _search_files,
    "fetch_url": _fetch_url,
    "shell": _shell,
}
