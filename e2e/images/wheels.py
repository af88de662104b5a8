"""The pinned, hashed wheels of an image, for the Python of its base; downloaded once.

The machine's own pip downloads them: index, certificates and proxies are its business. The
build then needs no network, and nothing of that reaches an image.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e.controlplane import cache
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import run
from e2e.images.errors import ImageError
from e2e.images.target import Target

ROOT = Path(__file__).parents[2]
_DOWNLOAD_SECONDS = 900.0


def requirements(component: str) -> list[Path]:
    """The files whose wheels the build of a component installs: at run time, or to build."""
    return [ROOT / "requirements" / f"{name}.txt" for name in (component, "build", "pip")]


def wheels(component: str, target: Target, say: cache.Say) -> Path:
    """Return a folder of wheels, from the cache or downloaded (the caller holds its lock).

    Raises ``ImageError`` where they can't be had.
    """
    wanted = "".join(target.applicable(file.read_text()) for file in requirements(component))
    options = list(target.pip_options())
    key = hashlib.sha256("\0".join([wanted, *options]).encode()).hexdigest()[:16]
    folder = cache.root() / "wheels" / f"{component}-{key}"
    if folder.exists():
        return folder
    with TemporaryDirectory(dir=cache.root(), prefix=".work-") as temporary:
        work = Path(temporary)
        pins = work / "requirements.txt"
        pins.write_text(wanted)
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--require-hashes", "--no-deps", "--only-binary", ":all:", *options,
            "-r", str(pins), "-d", str(work / "wheels"),
        ]  # fmt: skip
        try:
            run(f"downloading the wheels of {component}", command, say, _DOWNLOAD_SECONDS)
        except ControlPlaneError as error:
            raise ImageError(f"the packages of an image could not be had from pip: {error}") from (
                error
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(work / "wheels", folder)
    return folder
