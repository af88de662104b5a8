"""runc as this kernel lets it be: as it is where it works, wrapped where it can't."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_EDIT = """\
import json, pathlib, sys

arguments = sys.argv[1:]
after = [i + 1 for i, word in enumerate(arguments) if word in ("--bundle", "-b")]
path = pathlib.Path(arguments[after[0]] if after else ".") / "config.json"
spec = json.loads(path.read_text())
if {no_ipc}:
    spaces = spec["linux"]["namespaces"]
    spec["linux"]["namespaces"] = [s for s in spaces if s["type"] != "ipc"]
if {no_mqueue}:
    spec["mounts"] = [m for m in spec["mounts"] if m.get("type") != "mqueue"]
path.write_text(json.dumps(spec))
"""
_WRAPPER = """\
#!/bin/sh
# This kernel lacks: {lacks}. The bundle's config.json is told so before runc reads it.
for word in "$@"; do
  case "$word" in create|run) "{python}" -I -S "{edit}" "$@" || exit 1 ;; esac
done
exec "{runc}" "$@"
"""


@dataclass(frozen=True, slots=True)
class Lacks:
    """What containers ask for and this kernel refuses."""

    ipc: bool
    """IPC namespaces."""
    mqueue: bool
    """POSIX message queues' file system, in an IPC namespace of its own."""

    def __str__(self) -> str:
        words = {"IPC namespaces": self.ipc, "the mqueue file system": self.mqueue}
        return ", ".join(word for word, lacking in words.items() if lacking) or "nothing"

    def __bool__(self) -> bool:
        return self.ipc or self.mqueue


def probe() -> Lacks:
    """Try each in a process that ends at once (run as root)."""
    ipc = not _works("unshare", "--ipc", "true")
    queue = 'd=$(mktemp -d) && mount -t mqueue mqueue "$d"; s=$?; umount "$d"; rmdir "$d"; exit $s'
    mqueue = ipc or not _works("unshare", "--ipc", "--mount", "sh", "-c", queue)
    return Lacks(ipc, mqueue)


def install(directory: Path) -> Path:
    """Return the program for containerd to run: runc itself, or a wrapper in ``directory``."""
    runc = shutil.which("runc")
    assert runc is not None
    lacks = probe()
    if not lacks:
        return Path(runc)
    edit, wrapper = directory / "edit-bundle.py", directory / "runc"
    text = _EDIT.format(no_ipc=lacks.ipc, no_mqueue=lacks.mqueue)
    edit.write_text(text)
    wrapper.write_text(_WRAPPER.format(lacks=lacks, python=sys.executable, edit=edit, runc=runc))
    wrapper.chmod(0o755)
    return wrapper


def _works(*command: str) -> bool:
    done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    return done.returncode == 0
