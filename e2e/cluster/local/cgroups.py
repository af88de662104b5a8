"""The cgroup that a cluster's pods are in, version 1 or 2 of the hierarchy."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from e2e.cluster.errors import ClusterError

_ROOT = Path("/sys/fs/cgroup")
_REMOVE_SECONDS = 20.0


def make(name: str) -> None:
    """Make it in every hierarchy, empty; what an earlier run left there is removed."""
    remove(name)
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir()
        for inherited in ("cpuset.cpus", "cpuset.mems"):  # version 1 starts them empty
            if (hierarchy / "cgroup.procs").exists() and (group / inherited).exists():
                with contextlib.suppress(OSError):
                    (group / inherited).write_text((hierarchy / inherited).read_text())


def remove(name: str) -> None:
    """Kill what is left in it and remove it with all below; raises ``ClusterError``."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while groups := list(_groups(name)):
        for group in groups:
            _empty(group)
            with contextlib.suppress(FileNotFoundError, OSError):
                group.rmdir()
        if not any(group.exists() for group in groups):
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"cgroup {groups[-1]} is still in use")
        time.sleep(0.1)


def kill(name: str) -> None:
    """Kill every process in it and below."""
    for group in _groups(name):
        _empty(group)


def left(name: str) -> list[Path]:
    """Where the cgroup exists."""
    return [h / name for h in _hierarchies() if (h / name).exists()]


def _empty(group: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _groups(name: str) -> Iterator[Path]:
    """Yield the groups, children before their parents."""
    for top in left(name):
        for directory, _names, _files in os.walk(top, topdown=False):
            yield Path(directory)


def _hierarchies() -> list[Path]:
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    found = [p for p in _ROOT.iterdir() if p.is_dir() and not p.is_symlink()]
    return [p for p in found if (p / "cgroup.procs").exists()]
