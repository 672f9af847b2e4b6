"""Disks: free space, and file systems that other machines write to."""

import os
import shutil
from pathlib import Path

from .amounts import shown_size
from .finding import Finding

LOW = 1 << 30
"""Bytes of free space below which there is a warning."""
VERY_LOW = 64 << 20
"""Bytes below which rows and files are about to be refused."""
_SHARED = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "gpfs", "afs"),
        *("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.ceph-fuse"),
        *("fuse.juicefs", "fuse.mountpoint-s3", "beegfs", "ocfs2", "gfs2", "9p"),
    )
)
"""File systems of other machines, or of several."""
_IN_MEMORY = frozenset(("tmpfs", "ramfs"))


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next((one for one in (path, *path.absolute().parents) if one.exists()), Path("/"))


def free(path: Path) -> int:
    """Free bytes for this user where `path` is. Raises OSError."""
    return shutil.disk_usage(existing(path)).free


def space(what: str, path: Path) -> Finding | None:
    """A finding when there is little free space where `path` is. Raises OSError."""
    left = free(path)
    if left >= LOW:
        return None
    return Finding(
        "error" if left < VERY_LOW else "warning",
        what,
        f"{shown_size(left)} are free on the disk of {path}",
        "make room, or move it to a larger disk",
    )


def shared_file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of file system, such as "nfs4", if other machines may write to it; else ""."""
    kind = file_system(path, mounts)
    return kind if kind in _SHARED else ""


def in_memory(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether what is written there is gone when the machine or the pod ends."""
    return file_system(path, mounts) in _IN_MEMORY


def file_system(path: Path, mounts: Path) -> str:
    """The kind of file system where `path` is or will be; "" if it is not known."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    place = os.path.realpath(existing(path))
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = _unescaped(fields[1])
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:  # a later mount hides an earlier one
            best, kind = len(mount), fields[2]
    return kind


def _unescaped(text: str) -> str:
    for escape, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(escape, character)
    return text
