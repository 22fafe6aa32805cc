"""Which mount a path is on, from mountinfo as text. Real directories are in tests/integration/host."""

import pytest

from gemflowd.host.filesystem import NETWORK_TYPES, type_of_mount

MOUNTINFO = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:40 / /srv rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2
31 30 254:2 / /srv/local\040disk rw,relatime - xfs /dev/vdb rw
32 22 0:41 / /mnt rw - tmpfs tmpfs rw
33 22 0:42 / /mnt rw - fuse.sshfs me@host:/ rw
garbage
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/gemflow", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/gemflow", "nfs4"),
        ("/srvother", "ext4"),
        ("/srv/local disk/gemflow", "xfs"),
        ("/srv/local", "nfs4"),
        ("/mnt/x", "fuse.sshfs"),
    ],
)
def test_type_of_mount(path: str, kind: str):
    assert type_of_mount(path, MOUNTINFO) == kind


def test_without_mounts_it_is_unknown():
    assert type_of_mount("/", "") is None


def test_local_ones_are_not_refused():
    assert not NETWORK_TYPES & {"ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "bcachefs", "f2fs"}
    assert {"nfs", "nfs4", "cifs"} <= NETWORK_TYPES
