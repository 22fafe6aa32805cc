"""What kind of file a name says: the same on every machine, whatever its own tables have."""

from __future__ import annotations

import mimetypes
from pathlib import PurePath
from typing import Final

_MORE: Final = {
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".yaml": "text/plain",
    ".yml": "text/plain",
    ".toml": "text/plain",
    ".jsonl": "text/plain",
    ".log": "text/plain",
    ".flac": "audio/flac",
    ".m4a": "audio/m4a",
    ".mkv": "video/x-matroska",
}
#: Bytes of a file's beginning by which text is told from other things.
BEGINNING: Final = 4096


def media_type(name: str, beginning: bytes) -> str | None:
    """The MIME type of a file by its name, or `text/plain` where its first bytes are text; None where neither says it."""
    ending = PurePath(name).suffix.lower()
    known = _MORE.get(ending) or mimetypes.MimeTypes(filenames=()).guess_type(f"file{ending}")[0]
    if known is not None or b"\0" in beginning:
        return known
    try:
        beginning.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut at the end.
        return "text/plain" if len(beginning) == BEGINNING and error.start > BEGINNING - 4 else None
    return "text/plain"
