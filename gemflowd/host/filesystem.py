"""Directories that are safe to keep state in: on a disk of this machine, nobody else's, and with room.

SQLite's WAL needs shared memory and locks that network file systems don't give, or seem to give (sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from gemflowd.model.errors import GemflowError

#: Types in /proc/self/mountinfo whose files another machine may hold. FUSE says which program by `fuse.<name>`.
NETWORK_TYPES: Final = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "vboxsf"),
        *("fuse.ceph", "fuse.cephfs", "fuse.davfs", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.mfs"),
        *("fuse.moosefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse"),
    }
)
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


class UnsafeDirectory(GemflowError):
    """A directory that must not be used; the message says which and why."""


def network_type(path: str | os.PathLike[str]) -> str | None:
    """The type of the network file system that holds `path` (which need not exist yet), None when it is a local one."""
    try:
        # surrogateescape: mount points are bytes, not text
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return None  # no /proc: can't tell, and refusing would help nobody
    kind = type_of_mount(os.path.realpath(path), mountinfo)
    return kind if kind in NETWORK_TYPES else None


def type_of_mount(path: str, mountinfo: str) -> str | None:
    """The type of the file system that an absolute path without links lies on, from the text of mountinfo (proc(5))."""
    best, found = "", None
    for line in mountinfo.splitlines():
        mount, separator, file_system = line.partition(" - ")
        fields = mount.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # >=: of two on one point, the later hides the earlier
            best, found = point, file_system.split(" ")[0]
    return found


def free_bytes(path: str | os.PathLike[str]) -> int:
    """What we may still write to the file system that holds a directory."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def make_private(path: str | os.PathLike[str]) -> None:
    """Make a directory that only its owner may use, or check one that is there. Never changes one that is there.

    Raises:
        UnsafeDirectory: it belongs to somebody else, others may write to it, or it is no directory.
        OSError: it can't be made.
    """
    directory = Path(path)
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        pass
    me = os.geteuid()
    link, target = directory.lstat(), directory.stat()
    if not stat.S_ISDIR(target.st_mode):
        raise UnsafeDirectory(f"{directory} is not a directory")
    # A link is fine where an administrator made it (state on another disk), not where a stranger did, in /tmp.
    if target.st_uid != me or link.st_uid not in (me, 0):
        owner = target.st_uid if target.st_uid != me else link.st_uid
        raise UnsafeDirectory(f"{directory} belongs to user {owner}, not to user {me} who runs gemflowd")
    if target.st_mode & 0o022:
        mode = stat.S_IMODE(target.st_mode)
        raise UnsafeDirectory(f"others may write to {directory} (mode {mode:04o}); run: chmod go-w {directory}")
