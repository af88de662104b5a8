"""Where a ledger may lie: not on a file system whose locks and fsync can't be trusted."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from trailgate.ledger.errors import LedgerError, UnsuitableFileSystemError

# f_type of statfs(2), from linux/magic.h and the file systems' own sources.
_UNSUITABLE = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x65735546: "FUSE",
    0x00C36400: "CephFS",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0x01021997: "9P",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x20030528: "OrangeFS",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x786F4256: "VirtualBox shared folders",
    0xBACBACBC: "VMware shared folders",
}
_STATFS_LONGS = 64


def filesystem_type(directory: Path) -> int:
    """Return the number that statfs(2) calls ``f_type``; 0 where the platform has none."""
    if not sys.platform.startswith("linux"):
        return 0
    # f_type is struct statfs's first member, as wide as a long on 64-bit Linux.
    buffer = (ctypes.c_long * _STATFS_LONGS)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(directory), ctypes.byref(buffer)) != 0:
        cause = os.strerror(ctypes.get_errno())
        raise LedgerError(f"can't look at the file system of {directory}: {cause}")
    return int(buffer[0]) & 0xFFFFFFFF


def require_local(directory: Path) -> None:
    """Refuse a directory on a network file system (``UnsuitableFileSystemError``)."""
    name = _UNSUITABLE.get(filesystem_type(directory))
    if name is not None:
        raise UnsuitableFileSystemError(
            f"{directory} is on {name}, expected a local file system: "
            "SQLite's locks and fsync can't be trusted there"
        )
