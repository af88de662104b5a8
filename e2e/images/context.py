"""What an image is built from: the checkout's own files, alike on every machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import trailgate
from e2e.images.errors import ImageError
from e2e.images.tools import output
from e2e.images.wheels import ROOT

#: As in images/*/Dockerfile.dockerignore.
INPUTS = (
    "LICENSE", "README.md", "pyproject.toml", "requirements", "images",
    "core", "kube", "operator", "webhook",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Which state of the checkout an image is of."""

    version: str
    revision: str
    """The commit, with ``-modified`` where the files differ from it."""
    epoch: int
    """Seconds: ``$SOURCE_DATE_EPOCH``, else the time of the commit."""

    @classmethod
    def read(cls) -> Source:
        """Ask git; raises ``ImageError`` where this is no checkout."""
        commit = _git("rev-parse", "HEAD").strip()
        changed = _git("status", "--porcelain", "--", *INPUTS).strip()
        epoch = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct").strip()
        revision = f"{commit}-modified" if changed else commit
        return cls(trailgate.__version__, revision, int(epoch))


def stage(wheels: Path, directory: Path) -> Path:
    """Copy the inputs, and the wheels beside them, into a folder to build from.

    A copy, because the checkout has more in it, and the umask of whoever cloned it.
    """
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *INPUTS)
    for name in sorted(filter(None, listed.split("\0"))):
        if (ROOT / name).is_file():
            _copy(ROOT / name, directory / name)
    for wheel in sorted(wheels.glob("*.whl")):
        _copy(wheel, directory / "images" / "wheels" / wheel.name)
    for folder in (directory, *directory.rglob("*/")):
        folder.chmod(0o755)
    return directory


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _git(*arguments: str) -> str:
    try:
        return output(["git", "-C", ROOT, *arguments], 60)
    except (ImageError, subprocess.SubprocessError) as error:
        raise ImageError(f"an image is built from a git checkout: {error}") from error
