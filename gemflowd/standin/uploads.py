"""Files of the Files API, in memory: resumable uploads, what is stored, and its content.

A file's name begins with the hash of its content, so that a question about it is the same question when the file is uploaded anew.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

#: Bytes of all files; Gemini keeps 20 GB.
MOST_BYTES: Final = 512 * 1024 * 1024
_KEPT: Final = timedelta(hours=48)


class BadUpload(Exception):
    """What was sent is no part of an upload; the message says why."""


@dataclass(slots=True)
class _Upload:
    mime_type: str
    display_name: str | None
    size: int | None
    data: bytearray = field(default_factory=bytearray)


class Uploads:
    """Args: url: where the stand-in is reached, for the files' URIs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)
        self._uploads: dict[str, _Upload] = {}
        self._files: dict[str, tuple[dict[str, Any], bytes]] = {}

    def start(self, about: Any, mime_type: str | None, size: str | None) -> str:
        """Begin an upload; its id."""
        wanted = about.get("file") if isinstance(about, dict) else None
        wanted = wanted if isinstance(wanted, dict) else {}
        kind = mime_type or wanted.get("mimeType") or wanted.get("mime_type") or "application/octet-stream"
        name = f"{next(self._numbers)}"
        self._uploads[name] = _Upload(
            kind,
            wanted.get("displayName") or wanted.get("display_name"),
            int(size) if size and size.isdigit() else None,
        )
        return name

    def take(self, upload: str, offset: str | None, data: bytes, *, last: bool) -> dict[str, Any] | None:
        """A piece of it; with the last the file that it makes.

        Raises:
            BadUpload: there is no such upload, a piece is missing, or it is too large.
        """
        going = self._uploads.get(upload)
        if going is None:
            raise BadUpload(f"there is no upload {upload!r}")
        if offset != str(len(going.data)):
            raise BadUpload(f"offset {offset}: {len(going.data)} bytes have arrived")
        if self._held() + len(data) > MOST_BYTES:
            raise BadUpload(f"all files together may have {MOST_BYTES} bytes")
        going.data += data
        if not last:
            return None
        if going.size is not None and going.size != len(going.data):
            raise BadUpload(f"{going.size} bytes were announced, and {len(going.data)} have arrived")
        del self._uploads[upload]
        return self.add(bytes(going.data), going.mime_type, going.display_name)

    def add(self, data: bytes, mime_type: str, display_name: str | None = None) -> dict[str, Any]:
        """Store a file; its description."""
        digest = hashlib.sha256(data)
        name = f"files/{digest.hexdigest()[:24]}-{next(self._numbers)}"
        now = datetime.now(UTC)
        described = {
            "name": name,
            "mimeType": mime_type,
            "sizeBytes": str(len(data)),
            "createTime": now.isoformat(),
            "updateTime": now.isoformat(),
            "expirationTime": (now + _KEPT).isoformat(),
            "sha256Hash": base64.b64encode(digest.hexdigest().encode()).decode(),
            "uri": f"{self.url}/v1beta/{name}",
            "state": "ACTIVE",
            "source": "UPLOADED",
        }
        if display_name:
            described["displayName"] = display_name
        self._files[name] = described, data
        return described

    def get(self, name: str) -> dict[str, Any] | None:
        found = self._files.get(name)
        return found[0] if found else None

    def content(self, name: str) -> bytes | None:
        found = self._files.get(name)
        return found[1] if found else None

    def delete(self, name: str) -> bool:
        return self._files.pop(name, None) is not None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (described for described, _ in self._files.values())

    def _held(self) -> int:
        uploads = sum(len(upload.data) for upload in self._uploads.values())
        return uploads + sum(len(data) for _, data in self._files.values())
