"""The one process outside of the node's namespaces: it makes them, and clears up after them.

``python -m e2e.cluster.local.guard DIRECTORY WATCHED_PID`` ends when it is told to
(SIGTERM), when the watched process ends (0: watch nobody), or when the cluster does.
Should it be killed itself, the kernel takes the namespaces away all the same; the empty
cgroup and the directory then wait for the next run.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from e2e.cluster.errors import ClusterError
from e2e.cluster.local import cgroups, network, slots
from e2e.cluster.local.slots import Slot
from e2e.cluster.local.state import LOCK
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.process import Process

_HERE = Path(__file__).parent
_ROOT = Path(__file__).parents[3]
_NAMESPACE_SECONDS = 30.0
_POLL_SECONDS = 0.2
_CLAIM_SECONDS = 1.0
"""Somebody who only looks whether we are up holds the lock for a moment."""
_KEPT = {LOCK, "logs"}


def main(arguments: list[str]) -> int:
    """Guard one cluster from its start to its end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("watched", type=int)
    parser.add_argument("--temporary", action="store_true", help="remove the directory at the end")
    chosen = parser.parse_args(arguments)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: asked.append(got))
    try:
        watched = os.pidfd_open(chosen.watched) if chosen.watched else None
        lock = claim(chosen.directory)
        slot, held = slots.take()
    except (ControlPlaneError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    clear(chosen.directory)
    with lock, held:
        status = _guard(chosen.directory, slot, watched, asked)
        if chosen.temporary and status == 0:  # after a failure the logs say why
            shutil.rmtree(chosen.directory)
        return status


def claim(directory: Path) -> IO[str]:
    """Take the work directory for as long as the file is open; raises ``ClusterError``."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (directory / LOCK).open("a+")
    deadline = time.monotonic() + _CLAIM_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                file.close()
                raise ClusterError(
                    f"a cluster is already up in {directory}: take it down first, "
                    "or choose another directory"
                ) from error
            time.sleep(0.05)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def holder(directory: Path) -> int | None:
    """Return the pid of the guard that holds the directory, or None."""
    try:
        file = (directory / LOCK).open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0)
    return None


def clear(directory: Path) -> None:
    """Remove what a cluster left in its directory, except the lock and the logs."""
    for path in directory.iterdir():
        if path.name in _KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _guard(directory: Path, slot: Slot, watched: int | None, asked: list[int]) -> int:
    node: Process | None = None
    spaces: int | None = None
    status = 1
    try:
        cgroups.make(slot.cgroup)
        node = _spawn(directory, slot)
        first = _first_process(node)
        spaces = os.pidfd_open(first)
        network.connect(slot, first)
        while not asked and not _ended(watched) and node.returncode is None:
            time.sleep(_POLL_SECONDS)
        status = 0 if node.returncode is None else 1
    except (ControlPlaneError, OSError) as error:
        _tell(error)
    done = [_attempt(step) for step in _last_steps(directory, slot, node, spaces)]
    return status if all(done) else 1


def _last_steps(
    directory: Path, slot: Slot, node: Process | None, spaces: int | None
) -> list[Callable[[], object]]:
    """What is to be done at the end, each whether or not the others could be."""
    return [
        node.kill if node is not None else bool,
        # Readable when the namespace's last process is gone.
        lambda: spaces and select.select([spaces], [], [], _NAMESPACE_SECONDS),
        lambda: network.remove(slot),
        lambda: cgroups.remove(slot.cgroup),
        lambda: clear(directory),
    ]


def _attempt(step: Callable[[], object]) -> bool:
    try:
        step()
    except (ControlPlaneError, OSError) as error:
        _tell(error)
        return False
    return True


def _tell(error: Exception) -> None:
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()


def _spawn(directory: Path, slot: Slot) -> Process:
    spaces = ["--pid", "--mount", "--net", "--uts", "--fork", "--kill-child", "--mount-proc"]
    inside = [sys.executable, "-m", "e2e.cluster.local.inside", str(directory), str(slot.number)]
    command = ["unshare", *spaces, sys.executable, "-I", "-S", str(_HERE / "init.py"), *inside]
    log = directory / "logs" / "inside.log"
    return Process.start("node", command, log, env={**os.environ, "PYTHONPATH": str(_ROOT)})


def _first_process(node: Process) -> int:
    """Return the pid, as we see it, of the first process of the node's PID namespace."""
    deadline = time.monotonic() + _NAMESPACE_SECONDS
    while node.returncode is None and time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError):
                if int(path.read_text().rpartition(")")[2].split()[1]) == node.pid:
                    return int(path.parent.name)
        time.sleep(0.02)
    raise ClusterError(f"no namespaces could be made: see {node.log}")


def _ended(watched: int | None) -> bool:
    return watched is not None and bool(select.select([watched], [], [], 0)[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
