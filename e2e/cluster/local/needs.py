"""What this machine must have for a node: checked, and installed where that is possible."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.controlplane.binaries import ensure
from e2e.controlplane.cache import Say
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import run, to_stderr

_INSTALL_SECONDS = 600.0
_CNI = Path("/usr/lib/cni/ptp")
PROGRAMS = (
    "etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler",
    "kubelet", "kube-proxy", "registry", "podling",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Need:
    """A program, and the Debian package that brings it."""

    program: str
    package: str

    def met(self) -> bool:
        """Whether it is here; administrators' directories count, whatever PATH says."""
        if self.program.startswith("/"):
            return os.access(self.program, os.X_OK)
        return shutil.which(self.program, path=search_path()) is not None


NEEDS = (
    Need("containerd", "containerd"),
    Need("ctr", "containerd"),
    Need("runc", "runc"),
    Need(str(_CNI), "containernetworking-plugins"),
    Need("nft", "nftables"),
    Need("ip", "iproute2"),
    Need("unshare", "util-linux"),
    Need("mount", "mount"),
)


def search_path() -> str:
    """``PATH`` with the directories of administrators' programs in it."""
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def meet(say: Say = to_stderr) -> None:
    """Make sure of everything, or raise ``ClusterError`` that says all that is missing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        who = f"user {os.geteuid()} on {sys.platform}"
        raise ClusterError(
            f"the local node needs root on Linux (namespaces, mounts, cgroups), got {who}.\n"
            "Run it as root, or have a Docker daemon and kind (KIND=/path/to/kind), "
            "or name a cluster by TRAILGATE_E2E_KUBECONFIG."
        )
    missing = [need for need in NEEDS if not need.met()]
    if missing:
        _install(missing, say)
    ensure(PROGRAMS, say)


def _install(missing: list[Need], say: Say) -> None:
    packages = sorted({need.package for need in missing})
    words = ", ".join(need.program for need in missing)
    apt = shutil.which("apt-get")
    if apt is None:
        raise ClusterError(
            f"missing: {words}. This is no Debian (no apt-get): install them by your own "
            f"means (Debian's packages: {' '.join(packages)})."
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = [apt, "install", "-y", "-qq", "--no-install-recommends", *packages]
    try:
        run("reading Debian's package lists", [apt, "update", "-qq"], say, _INSTALL_SECONDS)
        run(f"installing {' '.join(packages)}", install, say, _INSTALL_SECONDS, env=environment)
    except ControlPlaneError as error:
        raise ClusterError(
            f"missing: {words}, and apt-get could not install {' '.join(packages)}:\n{error}"
        ) from error
    still = [need.program for need in missing if not need.met()]
    if still:
        raise ClusterError(f"still missing after apt-get: {', '.join(still)}")
