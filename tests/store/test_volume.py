"""Which volumes do not last, by the kernel's table of mounts."""

from pathlib import Path

import pytest

from sidecar.store.volume import volatile

MOUNTS = """\
22 1 0:30 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
23 22 0:21 / /proc rw,relatime - proc proc rw
24 22 0:40 / /run rw - tmpfs tmpfs rw,size=1000k
25 22 254:1 /state /var/lib/sidecar rw,relatime shared:1 master:2 - ext4 /dev/vda rw
26 22 254:1 /x /mnt/with\\040space rw - ramfs none rw
27 22 254:2 / /late rw - tmpfs tmpfs rw
28 22 254:3 / /late rw - xfs /dev/vdb rw
a line that says nothing
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/app/state", "overlay"),
        ("/run/sidecar/state", "tmpfs"),
        ("/running", "overlay"),
        ("/var/lib/sidecar", ""),
        ("/var/lib/sidecar/state", ""),
        ("/mnt/with space/state", "ramfs"),
        ("/late/state", ""),
    ],
)
def test_the_nearest_mount_counts_and_of_two_the_later(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    found = volatile(Path(path), mounts)
    assert found.startswith(f"{path} is on {kind}: it is ") if kind else found == ""


def test_where_nobody_can_tell_nothing_is_said(tmp_path: Path) -> None:
    assert volatile(tmp_path, tmp_path / "missing") == ""
    (tmp_path / "empty").touch()
    assert volatile(tmp_path, tmp_path / "empty") == ""


def test_this_machine_s_table_can_be_read() -> None:
    assert volatile(Path("/proc")) == ""
    shared = Path("/dev/shm")
    if shared.is_dir() and " /dev/shm " in Path("/proc/self/mountinfo").read_text():
        assert "is on tmpfs: it is in memory" in volatile(shared / "state")
