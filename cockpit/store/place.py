"""Where a log stands and who writes it: kinds of file system, and whether a process lives."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

# Write-ahead logging shares memory between processes, so all must run on one host. These can be mounted by many.
# fmt: off
_NETWORK = frozenset({
    "9p", "acfs", "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "coda", "davfs", "drvfs", "gfs", "gfs2", "glusterfs",
    "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb", "smb2", "smb3",
    "smbfs", "vboxsf", "virtiofs", "wekafs",
})
_NETWORK_FUSE = frozenset({
    "afpfs", "blobfuse", "blobfuse2", "ceph", "ceph-fuse", "curlftpfs", "davfs", "davfs2", "gcsfuse", "geesefs",
    "glusterfs", "goofys", "hdfs", "juicefs", "mfs", "moosefs", "rclone", "s3fs", "seaweedfs", "smbnetfs", "sshfs",
    "vmhgfs-fuse",
})
# fmt: on


def network_filesystem(path: Path, mounts: str) -> str | None:
    """Type of the network file system on which ``path`` stands; ``None`` where it is a local one or unknown.

    Args:
        path: Absolute, without symbolic links.
        mounts: Text in the format of ``/proc/mounts``.

    Example:
        >>> network_filesystem(Path("/home/ada/runs"), "/dev/sda1 / ext4 rw 0 0\\nserver:/home /home nfs4 rw 0 0")
        'nfs4'
    """
    wanted = PurePosixPath(path)
    depth, found = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        mount_point = PurePosixPath(_unescaped(fields[1]))
        # Of several mounts on one point the last is the one in sight.
        if wanted.is_relative_to(mount_point) and len(mount_point.parts) >= depth:
            depth, found = len(mount_point.parts), fields[2]
    return found if is_network_type(found) else None


def is_network_type(filesystem: str) -> bool:
    """Whether file systems of this type are reached over a network or shared between machines."""
    name = filesystem.lower()
    return name in _NETWORK or (name.startswith("fuse.") and name.removeprefix("fuse.") in _NETWORK_FUSE)


def _unescaped(field: str) -> str:
    """Blanks, tabs, newlines and backslashes stand as ``\\040`` and so on."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def mounts_text() -> str:
    """What is mounted here, in the format of ``/proc/mounts``; empty where the system does not tell."""
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


@functools.cache
def host() -> str:
    """Names the set of processes whose ids mean something here: machine, its boot, and its process namespace."""
    parts = [platform.node()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        parts.append(_or_empty(read))
    return "/".join(parts)


def process_start(pid: int) -> str:
    """When the process began, in the system's own count: with the id it names one process. Empty if unknown."""
    # The second field is the program's name in brackets, and may itself hold blanks and brackets.
    fields = _or_empty(lambda: Path(f"/proc/{pid}/stat").read_text(errors="replace")).rpartition(")")[2].split()
    dead = not fields or fields[0] in "ZX"  # ended, and its parent has not asked for its end yet
    return "" if dead else fields[19]


def is_alive(pid: int, start: str) -> bool | None:
    """Whether the process still runs; ``None`` where this system cannot tell."""
    if start:
        return process_start(pid) == start
    if sys.platform == "win32":  # there, os.kill ends the process whatever the signal
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _or_empty(read: Callable[[], str]) -> str:
    try:
        return read()
    except OSError:
        return ""
