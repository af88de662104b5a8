"""A cluster of yours, named on purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from e2e.cluster.errors import ClusterError, UnsupportedError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.registry import Login
from e2e.controlplane.binaries import ensure

_REGISTRY = "TRAILGATE_E2E_REGISTRY"
_LOGIN = "TRAILGATE_E2E_REGISTRY_LOGIN"


@dataclass(frozen=True, slots=True)
class ExistingCluster:
    """The cluster that a kubeconfig's current context names; left as it is found."""

    kubeconfig: Path
    registry_address: str
    registry_credentials: Login
    provider = "existing"

    @classmethod
    def named(cls, kubeconfig: Path) -> ExistingCluster:
        """Take what the environment says of it; raises ``ClusterError``."""
        if not kubeconfig.is_file():
            raise ClusterError(f"TRAILGATE_E2E_KUBECONFIG: got {kubeconfig}, expected a file")
        address, file = os.environ.get(_REGISTRY), os.environ.get(_LOGIN)
        if not address or not file:
            raise ClusterError(
                f"an existing cluster needs {_REGISTRY} (HOST:PORT, reachable from here and "
                f"from pods) and {_LOGIN} (a file with one line USER:PASSWORD)"
            )
        user, _, password = Path(file).read_text().strip().partition(":")
        if not user or not password:
            raise ClusterError(f"{_LOGIN}: expected one line USER:PASSWORD in {file}")
        return cls(kubeconfig.absolute(), address, Login(user, password))

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl (the one on PATH, if any) as the kubeconfig's user."""
        kubectl = Kubectl(program(), self.kubeconfig)
        return kubectl(*arguments, input=input, check=check, seconds=seconds)

    def load(self, archive: Path) -> None:
        """Not possible from here."""
        _no(f"load {archive.name} into its nodes: push it to the registry instead")

    def restart_api_server(self) -> None:
        """Not possible from here."""
        _no("restart its API server")

    def stop_node(self, *, cut_power: bool = False) -> None:
        """Not possible from here."""
        _no("cut its node's power" if cut_power else "stop its node")

    def start_node(self) -> None:
        """Not possible from here."""
        _no("start its node")

    def stop_registry(self) -> None:
        """Not possible from here."""
        _no("stop its registry")

    def start_registry(self) -> None:
        """Not possible from here."""
        _no("start its registry")


def program() -> Path:
    """Return kubectl: from PATH, else as the control plane's tests have it."""
    found = shutil.which("kubectl")
    return Path(found) if found else ensure(["kubectl"])["kubectl"]


def _no(what: str) -> NoReturn:
    raise UnsupportedError(f"an existing cluster: we can't {what}")
