"""The cache of finished programs: whole or not there, shared by any number of runs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_REMIND_SECONDS = 15.0
_CHUNK = 1 << 20

Say = Callable[[str], None]


def root() -> Path:
    """``$TRAILGATE_CACHE``, else ``trailgate`` in the user's cache directory."""
    chosen = os.environ.get("TRAILGATE_CACHE")
    if chosen:
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    home = Path(base) if base else Path.home() / ".cache"
    return (home / "trailgate").absolute()


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def lookup(key: str, name: str) -> Path | None:
    """Return the cached program, or None where it is missing, partial or damaged."""
    path = root() / "bin" / key / name
    try:
        expected = path.with_name(f"{name}.sha256").read_text().strip()
        whole = os.access(path, os.X_OK) and checksum(path) == expected
    except OSError:
        return None
    return path if whole else None


def store(key: str, name: str, built: Path) -> Path:
    """Move a finished program into the cache in one step; returns where it is."""
    target = root() / "bin" / key
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
    try:
        shutil.copy2(built, staging / name)
        (staging / name).chmod(0o755)
        (staging / f"{name}.sha256").write_text(checksum(staging / name) + "\n")
        staging.chmod(0o755)
        if target.exists():  # damaged, or lookup() would have found it
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target / name


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a temporary directory on the cache's file system; hold the lock meanwhile."""
    for left in (*root().glob(".work-*"), *root().glob("bin/.new-*")):
        shutil.rmtree(left, ignore_errors=True)  # of a run that was killed
    with tempfile.TemporaryDirectory(dir=root(), prefix=".work-") as directory:
        yield Path(directory)


@contextlib.contextmanager
def lock(say: Say) -> Iterator[None]:
    """Hold the one lock of the cache; the kernel drops it when the holder dies.

    One for everything: on a small machine two builds at once are slower than one
    after the other, and the second run then finds what the first has made.
    """
    root().mkdir(parents=True, exist_ok=True)
    with (root() / ".lock").open("w") as file:
        started = reminded = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                if reminded == started or now - reminded >= _REMIND_SECONDS:
                    say(f"waiting for another run to finish its build ({now - started:.0f} s)")
                    reminded = now
                time.sleep(0.2)
        yield
