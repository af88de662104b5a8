"""One interface to a cluster whose pods run, whoever provides it.

``with provider.cluster() as cluster:`` gives one that is gone afterwards. Chosen in this
order: ``TRAILGATE_E2E_KUBECONFIG`` (a cluster of yours, named on purpose; the current
context of a shell is never used), what ``python -m e2e.cluster up`` left running where
``TRAILGATE_E2E_ATTACH=1`` (or ``=DIRECTORY``) asks for it, kind where a Docker daemon
answers and kind is there (on PATH, or ``KIND=``), and the local node.
``TRAILGATE_E2E_PROVIDER`` (``kind`` or ``local``) decides between the last two.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from e2e.cluster import existing, kind
from e2e.cluster.errors import ClusterError
from e2e.cluster.existing import ExistingCluster
from e2e.cluster.registry import Login
from e2e.controlplane import cache


class Cluster(Protocol):
    """A cluster with one node that runs pods, and a registry that both sides reach."""

    @property
    def provider(self) -> str:
        """``local``, ``kind`` or ``existing``."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, usable from this machine."""
        ...

    @property
    def registry_address(self) -> str:
        """HOST:PORT of the registry (plain HTTP), the same from here and from pods."""
        ...

    @property
    def registry_credentials(self) -> Login:
        """What the registry asks everybody for."""
        ...

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; raises ``KubectlError`` (with ``stderr``)."""
        ...

    def load(self, archive: Path) -> None:
        """Put the images of an OCI or Docker archive into the node, by their names in it."""
        ...

    def restart_api_server(self) -> None:
        """End the API server, start it again, return when it is ready."""
        ...

    def stop_node(self, *, cut_power: bool = False) -> None:
        """Stop kubelet and container runtime; containers that run go on.

        With ``cut_power`` all is killed at once, every container included. On kind that
        takes the API server along; the local node's lives outside of it.
        """
        ...

    def start_node(self) -> None:
        """Start them again; returns when the node is ready."""
        ...

    def stop_registry(self) -> None:
        """Take the registry off the network: connections are refused, nothing is lost."""
        ...

    def start_registry(self) -> None:
        """Put it back, with what it held."""
        ...


def default_directory() -> Path:
    """Where ``python -m e2e.cluster up`` keeps its cluster."""
    return cache.root() / "e2e-cluster"


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Yield a cluster; one that was made for this is gone afterwards.

    It is gone too when this process is killed. Raises ``ControlPlaneError``.
    """
    kubeconfig = os.environ.get("TRAILGATE_E2E_KUBECONFIG")
    if kubeconfig:
        yield ExistingCluster.named(Path(kubeconfig))
        return
    attached = os.environ.get("TRAILGATE_E2E_ATTACH")
    if attached:
        yield attach(default_directory() if attached == "1" else Path(attached))
        return
    with _new() as made:
        yield made


def chosen() -> str:
    """``kind`` or ``local``, for a new cluster; raises ``ClusterError``."""
    wanted = os.environ.get("TRAILGATE_E2E_PROVIDER")
    if wanted not in (None, "", "kind", "local"):
        raise ClusterError(f"TRAILGATE_E2E_PROVIDER: got {wanted}, expected kind or local")
    return wanted or ("kind" if kind.available() else "local")


def prepare() -> None:
    """Install and build what takes minutes the first time; raises ``ControlPlaneError``."""
    if os.environ.get("TRAILGATE_E2E_KUBECONFIG"):
        existing.program()
    elif chosen() == "kind":
        kind.prepare()
    else:
        from e2e.cluster.local import needs

        needs.meet()


def _new() -> contextlib.AbstractContextManager[Cluster]:
    if chosen() == "kind":
        return kind.running()
    from e2e.cluster.local.cluster import temporary

    return temporary()


def attach(directory: Path) -> Cluster:
    """Return the cluster that is up in ``directory``; raises ``ClusterError``."""
    from e2e.cluster.local.cluster import LocalCluster

    return LocalCluster.attach(directory)
