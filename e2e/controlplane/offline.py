"""``python -m e2e.controlplane.offline COMMAND…``: run it where there is no network.

A network namespace of its own, with nothing but loopback in it. Where the kernel
does not let us have one, it says so and runs the command as it is.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def enter() -> str | None:
    """Move this process into an empty network namespace; returns why not, if it can't."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    flags = _CLONE_NEWNET if uid == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        return os.strerror(ctypes.get_errno())
    if flags & _CLONE_NEWUSER:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    with socket.socket() as control:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request)
    return None


def main(command: list[str]) -> None:
    """Replace this process by the command."""
    reason = enter()
    if reason is not None:
        sys.stderr.write(f"offline: no network namespace here ({reason}); running without one\n")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
