import os
import subprocess
import sys
from pathlib import Path

import pytest

from cockpit.store.place import host, is_alive, mounts_text, network_filesystem, process_start

# As on a machine in a cluster: an automounted home, a local disk below it, a FUSE mount with a blank in its name.
MOUNTS = r"""
sysfs /sys sysfs rw,nosuid,nodev,noexec,relatime 0 0
/dev/nvme0n1p2 / ext4 rw,relatime,errors=remount-ro 0 0
tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0
auto.home /home autofs rw,relatime,fd=6,pgrp=1,timeout=300,indirect 0 0
filer:/export/ada /home/ada nfs4 rw,relatime,vers=4.2,rsize=1048576,addr=10.0.0.5 0 0
/dev/sdb1 /home/ada/scratch xfs rw,relatime 0 0
//nas/share /mnt/share cifs rw,relatime,vers=3.1.1 0 0
bob@gate:/data /mnt/my\040data fuse.sshfs rw,nosuid,nodev,user_id=1000 0 0
gvfsd-fuse /run/user/1000/gvfs fuse.gvfsd-fuse rw,nosuid,nodev 0 0
10.0.0.9@o2ib:/work /lustre lustre rw,flock 0 0
/dev/mapper/vg-home /lustrefree btrfs rw 0 0
/dev/sdc1 /over ext4 rw 0 0
filer:/over /over nfs rw 0 0
10.1.2.3:6789:/ /ceph ceph rw,name=admin 0 0
drivers /usr/lib/wsl/drivers 9p ro,dirsync,aname=drivers 0 0
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/home/ada/runs/mnist", "nfs4"),
        ("/home/ada", "nfs4"),
        ("/home/ada/scratch/runs", None),
        ("/home/adam/runs", None),
        ("/mnt/share/runs", "cifs"),
        ("/mnt/my data/runs", "fuse.sshfs"),
        ("/run/user/1000/gvfs/runs", None),
        ("/lustre/runs", "lustre"),
        ("/lustrefree/runs", None),
        ("/over/runs", "nfs"),
        ("/ceph/runs", "ceph"),
        ("/usr/lib/wsl/drivers", "9p"),
        ("/tmp/runs", None),
    ],
)
def test_the_mount_in_sight_decides(path: str, found: str | None) -> None:
    assert network_filesystem(Path(path), MOUNTS) == found


@pytest.mark.parametrize("text", ["", "\n\n", "one two\n"])
def test_where_the_system_does_not_tell_a_place_counts_as_local(text: str) -> None:
    assert network_filesystem(Path("/home/ada"), text) is None


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_is_mounted_here_is_told() -> None:
    assert any(line.split()[1] == "/" for line in mounts_text().splitlines())


def test_this_process_lives_and_an_ended_one_does_not() -> None:
    assert is_alive(os.getpid(), process_start(os.getpid())) in (True, None)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(process.pid)
    assert is_alive(process.pid, start) in (True, None)
    process.communicate(b"\n")
    assert is_alive(process.pid, start) in (False, None)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_process_nobody_has_waited_for_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, but kept in the table
    assert is_alive(process.pid, start) is False
    process.communicate()


def test_a_host_is_named_the_same_every_time() -> None:
    assert host() == host() != ""
