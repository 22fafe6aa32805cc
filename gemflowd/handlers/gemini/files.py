"""Files of the workspace as parts of a question: small ones in the request itself, larger ones by the Files API.

What is uploaded is deleted after the call, however it ended; what a killed worker leaves there, Google deletes after 48 hours. Files
that are given inside of `contents` are none of this module's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from gemflowd.handlers.errors import Permanent, Transient
from gemflowd.handlers.workspace import workspace
from gemflowd.model.media import BEGINNING, media_type

if TYPE_CHECKING:
    from google.genai import Client, types

    from gemflowd.worker.context import BaseContext

#: Megabytes of all files of a request together that go inline: Gemini takes 20 MB, and base64 adds a third.
INLINE_MB: Final = 10
MAX_FILE_MB: Final = 200
#: Seconds between two looks at a file that Gemini prepares (videos).
_FIRST_LOOK: Final = 0.2
_LAST_LOOK: Final = 5.0
_DELETING: Final = 5.0
#: Bytes of one piece of an upload; Gemini wants multiples of 256 KiB.
_STEP: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    descriptor: int
    size: int
    mime_type: str


@asynccontextmanager
async def attached(data: Mapping[str, Any], context: BaseContext, client: Client) -> AsyncIterator[list[types.Part]]:
    """The parts for a task's `files`, in order.

    Raises:
        Permanent: `too_large`, `unknown_mime_type`, `file_failed`, `not_supported` (an upload with Vertex AI), and those of a
            workspace (docs/handlers.md).
        Transient: `io_error`.
    """
    wanted = data.get("files")
    if not wanted:
        yield []
        return
    inline = _bytes(context, "gemini_inline_mb", INLINE_MB)
    with ExitStack() as opened:
        # On a thread: a disk may be slow, and a lock of the workspace taken.
        found = await asyncio.to_thread(_open, data, context, opened)
        uploaded: list[str] = []
        parts = []
        try:
            # The smallest first, as many as fit.
            small: set[str] = set()
            for file in sorted(found, key=lambda file: file.size):
                if file.size <= inline:
                    small.add(file.path)
                    inline -= file.size
            if client.vertexai and (large := [file for file in found if file.path not in small]):
                raise _no_uploads(large[0], context)
            for file in found:
                if file.path in small:
                    parts.append(await asyncio.to_thread(_inline, file))
                else:
                    parts.append(await _upload(client, file, uploaded))
            yield parts
        finally:
            await _delete(client, uploaded)


def _no_uploads(file: _Found, context: BaseContext) -> Permanent:
    most = _bytes(context, "gemini_inline_mb", INLINE_MB)
    message = (
        f"{file.path!r} has {file.size} bytes, and all files of a question go inside of it up to the setting gemini_inline_mb ({most}"
        " bytes); with Vertex AI larger ones can't be uploaded: put it into Cloud Storage, and name it in `contents` as"
        " {fileData: {fileUri: gs://…, mimeType}}"
    )
    return Permanent(message, code="not_supported")


def _bytes(context: BaseContext, setting: str, default: int) -> int:
    return int(float(context.settings.get(setting) or default) * 1024 * 1024)


def _open(data: Mapping[str, Any], context: BaseContext, opened: ExitStack) -> list[_Found]:
    most = _bytes(context, "gemini_max_file_mb", MAX_FILE_MB)
    files = opened.enter_context(workspace(context, data.get("workspace")))
    found = []
    for wanted in data["files"]:
        given: Mapping[str, Any] = {"path": wanted} if isinstance(wanted, str) else wanted
        path = given["path"]
        descriptor = opened.enter_context(files.pinned(path))
        size = os.fstat(descriptor).st_size
        if size > most:
            message = f"{path!r} has {size} bytes; the setting gemini_max_file_mb allows {most}"
            raise Permanent(message, code="too_large")
        found.append(_Found(path, descriptor, size, given.get("mime_type") or _type_of(path, descriptor)))
    return found


def _type_of(path: str, descriptor: int) -> str:
    found = media_type(path, os.pread(descriptor, BEGINNING, 0))
    if found is not None:
        return found
    message = f"what kind of file {path!r} is can't be told by its name: give it as {{path, mime_type}}"
    raise Permanent(message, code="unknown_mime_type")


def _inline(file: _Found) -> types.Part:
    from google.genai import types

    with os.fdopen(os.dup(file.descriptor), "rb") as reading:
        reading.seek(0)
        return types.Part(inline_data=types.Blob(data=reading.read(), mime_type=file.mime_type))


class _InSteps(io.FileIO):
    """A file that is read by steps, however much the SDK asks for: it sends what it has got as one piece, on the loop's thread."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = _STEP if size is None or size < 0 else min(size, _STEP)
        return super().read(wanted) or b""


async def _upload(client: Client, file: _Found, uploaded: list[str]) -> types.Part:
    from google.genai import types

    with _InSteps(os.dup(file.descriptor)) as reading:
        reading.seek(0)
        config = types.UploadFileConfig(mime_type=file.mime_type, display_name=PurePath(file.path).name)
        stored = await client.aio.files.upload(file=reading, config=config)
    name = str(stored.name)
    uploaded.append(name)
    pause = _FIRST_LOOK
    while stored.state == types.FileState.PROCESSING:
        await asyncio.sleep(pause)
        pause = min(_LAST_LOOK, 2 * pause)
        stored = await client.aio.files.get(name=name)
    if stored.state == types.FileState.FAILED:
        raise Permanent(f"Gemini can't read {file.path!r} as {file.mime_type}", code="file_failed")
    if not stored.uri:
        raise Transient(f"Gemini has not said where {file.path!r} is", code="bad_response")
    return types.Part(file_data=types.FileData(file_uri=stored.uri, mime_type=file.mime_type))


async def _delete(client: Client, names: list[str]) -> None:
    """At the end of an attempt, so it may take a moment and no more; what is not deleted goes by itself."""
    for name in names:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_DELETING):
                await client.aio.files.delete(name=name)
