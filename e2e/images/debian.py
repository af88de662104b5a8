"""A base image without a registry: a small Debian with Python, from Debian's own packages.

Where ``python:3.13-slim`` can't be pulled, this stands in for it, so that the same Dockerfiles
build and run. Made once, then cached.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from tempfile import TemporaryDirectory

from e2e.controlplane import cache
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import run
from e2e.images import archive, tools
from e2e.images.errors import ImageError

SUITE = "bookworm"
PACKAGES = ("python3", "ca-certificates")
#: 2023-06-10, when the suite came out: no file in the image is younger than that by accident.
_EPOCH = 1_686_355_200
_OPTIONS = (
    "--variant=essential",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
#: Changes with what ``archive.base`` writes.
_FORM = "3"
_MAKE_SECONDS = 1200.0
_FILE = "base.tar"


def reference() -> str:
    """The name of the base, which changes with everything that it is made from."""
    return f"localhost/trailgate-base:{_key()}"


def base(say: cache.Say) -> Path:
    """Return the base as an archive, from the cache or made (the caller holds its lock).

    Raises ``ImageError`` where it can't be made.
    """
    key = f"base-{_key()}"
    found = cache.lookup(key, _FILE)
    if found is not None:
        return found
    program = tools.require("mmdebstrap", "mmdebstrap", say)
    with TemporaryDirectory(dir=cache.root(), prefix=".work-") as temporary:
        work = Path(temporary)
        rootfs = work / "rootfs.tar"
        command: list[str | Path] = [
            program,
            *_OPTIONS,
            f"--include={','.join(PACKAGES)}",
            SUITE,
            rootfs,
        ]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)}
        try:
            run(f"making a base image of Debian {SUITE}", command, say, _MAKE_SECONDS,
                env=environment)  # fmt: skip
        except ControlPlaneError as error:
            raise ImageError(
                f"{error}\nIt is made from Debian's packages, which needs a mirror. Where another "
                "base is to be had, name it: --base IMAGE."
            ) from error
        archive.base(rootfs, work / _FILE, reference(), platform.machine())
        return cache.store(key, _FILE, work / _FILE)


def _key() -> str:
    parts = [_FORM, *_OPTIONS, *PACKAGES, str(_EPOCH)]
    return (
        f"{SUITE}-{platform.machine()}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:8]}"
    )
