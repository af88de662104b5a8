"""What the node sees of this machine's files: the same, but its writes stay its own.

Run inside the node's mount namespace. ``/run`` is empty, ``/var`` is the machine's
with writes in memory (the kubelet and CNI write to fixed places there), and the kernel
settings that the kubelet would change for the whole machine are covered by copies that
already say what it wants.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from e2e.cluster.errors import ClusterError

_SETTINGS = {  # what the kubelet wants of the machine
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
_FORBIDDEN = ("/run", "/proc", "/sys", "/dev")


def check(directory: Path) -> None:
    """Raise ``ClusterError`` where the node could not see its own directory."""
    for parent in map(Path, _FORBIDDEN):
        if directory.is_relative_to(parent):
            raise ClusterError(
                f"got the work directory {directory}, expected one outside of {parent}"
            )


def arrange(directory: Path) -> None:
    """Mount all that; raises ``ClusterError``."""
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    keep, upper, work = Path("/run/keep"), Path("/run/var/upper"), Path("/run/var/work")
    for path in (keep, upper, work, Path("/run/sysctl"), Path("/run/lock")):
        path.mkdir(parents=True)
    _mount("--bind", str(directory), str(keep))
    options = f"lowerdir=/var,upperdir={upper},workdir={work}"
    _mount("-t", "overlay", "-o", options, "overlay", "/var")
    if directory.is_relative_to("/var"):
        _mount("--bind", str(keep), str(directory))
    for name, wanted in _SETTINGS.items():
        setting = Path("/proc/sys") / name
        if setting.exists():
            copy = Path("/run/sysctl") / name.replace("/", ".")
            copy.write_text(f"{wanted}\n")
            _mount("--bind", str(copy), str(setting))
    # Pods' volumes are mounted by the kubelet and seen by containerd, and the other way.
    _mount("--make-rshared", "/")


def _mount(*arguments: str) -> None:
    done = subprocess.run(
        ["mount", *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    if done.returncode != 0:
        raise ClusterError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")
