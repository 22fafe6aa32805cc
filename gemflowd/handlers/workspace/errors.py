"""What goes wrong with a file, as outcomes with the codes of docs/handlers.md."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gemflowd.handlers.errors import Permanent, Transient

#: errno -> code, and the end of "… {path!r}".
_PERMANENT: Final = {
    errno.EXDEV: ("outside_workspace", "leads out of the workspace"),
    errno.ELOOP: ("outside_workspace", "leads through links that are not followed"),
    errno.ENOENT: ("not_found", "does not exist"),
    errno.ENOTDIR: ("not_a_directory", "has something in it that is no directory"),
    errno.EISDIR: ("not_a_file", "is a directory"),
    errno.ENXIO: ("not_a_file", "is no regular file"),
    errno.EACCES: ("not_allowed", "may not be opened by the user who runs gemflowd"),
    errno.EPERM: ("not_allowed", "may not be changed by the user who runs gemflowd"),
    errno.EROFS: ("not_allowed", "is on a file system that can't be written"),
    errno.ENAMETOOLONG: ("bad_path", "is too long"),
    errno.EINVAL: ("bad_path", "is no name that the file system takes"),
    errno.EFBIG: ("too_large", "would be larger than the system lets it be"),
}
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn errors of the system about `path` into outcomes.

    Raises:
        Permanent: `outside_workspace`, `not_found`, `not_a_file`, `not_a_directory`, `not_allowed`, `bad_path`, `too_large`.
        Transient: `disk_full`, `io_error`.
    """
    try:
        yield
    except OSError as error:
        code, words = _PERMANENT.get(error.errno or 0, ("", ""))
        if code:
            raise Permanent(f"{path!r} {words}", code=code) from None
        if error.errno in _FULL:
            raise Transient(f"there is no room for {path!r}", code="disk_full") from None
        raise Transient(f"{path!r}: {error.strerror}", code="io_error") from error
    except ValueError:  # a NUL, or half a surrogate pair
        raise Permanent(f"{path!r} is no path", code="bad_path") from None


def not_a_file(path: str, what: str = "is no regular file") -> Permanent:
    return Permanent(f"{path!r} {what}", code="not_a_file")


def too_large(path: str, size: int, limit: int) -> Permanent:
    message = f"{path!r} has {size} bytes; the setting tool_max_file_mb allows {limit}"
    return Permanent(message, code="too_large")
