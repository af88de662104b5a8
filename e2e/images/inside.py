"""Run a command in an unpacked image as a strict pod would: no root, no home, nothing writable.

No container runtime is needed, but root is, for a mount namespace.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.images.archive import Archive

USER = 65532
#: Where what is mounted appears: a folder that Debian's images have.
MOUNT = Path("/mnt")

_SCRIPT = f"""
root=$1 mounted=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -o remount,bind,ro "$root"
mount --bind "$mounted" "$root{MOUNT}"
exec chroot --userspec={USER}:{USER} --groups= "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An image laid out in a folder."""

    rootfs: Path
    config: dict[str, Any]

    @classmethod
    def of(cls, archive: Path, directory: Path) -> Unpacked:
        """Unpack an archive; the process must be root, or owners are lost."""
        with Archive(archive) as image:
            image.unpack(directory)
            return cls(directory, image.config()["config"])

    def command(self, mounted: Path, *arguments: str) -> list[str]:
        """Return what runs ``arguments`` in it, with one folder mounted at ``MOUNT``."""
        unshare = shutil.which("unshare") or "unshare"
        words = [unshare, "--mount", "/bin/sh", "-euc", _SCRIPT, "inside"]
        return [*words, str(self.rootfs), str(mounted), *arguments]

    @property
    def environment(self) -> Mapping[str, str]:
        """The image's own, and nothing else."""
        return dict(variable.split("=", 1) for variable in self.config["Env"])
