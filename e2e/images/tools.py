"""Programs of the distribution: found, or installed where that is ours to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from e2e.controlplane.cache import Say
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import run
from e2e.images.errors import ImageError

_INSTALL_SECONDS = 600.0
_TAIL = 4_000


def require(program: str, package: str, say: Say) -> Path:
    """Return the program's path; as root on Debian and its like, install its package first.

    Raises ``ImageError``, which says what to install, where that can't be done.
    """
    found = shutil.which(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        try:
            run("reading the lists of Debian's packages", ["apt-get", "update", "-qq"], say,
                _INSTALL_SECONDS, env=environment)  # fmt: skip
            install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
            run(f"installing {package}", install, say, _INSTALL_SECONDS, env=environment)
        except ControlPlaneError as error:
            raise ImageError(f"no {program} on PATH, and it could not be installed: {error}") from (
                error
            )
        found = shutil.which(program)
    if found is None:
        raise ImageError(
            f"got no {program} on PATH, expected the package {package} "
            "(as root, where apt-get is, it is installed by itself)"
        )
    return Path(found)


def output(command: Sequence[str | Path], seconds: float) -> str:
    """Run a short command and return what it printed; raises ``ImageError`` where it fails."""
    words = [str(part) for part in command]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{' '.join(words[:3])}: {error}") from error
    if done.returncode != 0:
        text = done.stderr[-_TAIL:].strip()
        raise ImageError(f"{' '.join(words[:3])}: ended with status {done.returncode}\n{text}")
    return done.stdout
