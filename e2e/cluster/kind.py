"""A cluster by kind, where a Docker daemon answers (Linux: the registry listens on its bridge)."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from e2e.cluster import existing, image
from e2e.cluster.errors import ClusterError
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.registry import Login, Registry
from e2e.controlplane import ports
from e2e.controlplane.binaries import ensure
from e2e.controlplane.errors import ControlPlaneError

_AFTERWARDS = Path(__file__).with_name("afterwards.py")
_DAEMON_SECONDS = 10
_CREATE_SECONDS = 600
_COMMAND_SECONDS = 300
_READY_SECONDS = 180.0
_CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes: [{role: control-plane}]
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"""


@dataclass(frozen=True, slots=True)
class KindCluster:
    """One that ``running`` made."""

    name: str
    kubeconfig: Path
    registry: Registry
    provider = "kind"

    @property
    def registry_address(self) -> str:
        """HOST:PORT on the gateway of kind's network: the same from here and from pods."""
        return self.registry.address

    @property
    def registry_credentials(self) -> Login:
        """What the registry asks for."""
        return self.registry.login

    def kubectl(
        self,
        *arguments: str | Path,
        input: str | None = None,  # noqa: A002 - as subprocess.run calls it
        check: bool = True,
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        kubectl = Kubectl(existing.program(), self.kubeconfig, self.kubeconfig.parent / "cache")
        return kubectl(*arguments, input=input, check=check, seconds=seconds)

    def load(self, archive: Path) -> None:
        """Put an archive's images into the node."""
        image.check_named(archive)
        _run(_kind(), "load", "image-archive", str(archive), "--name", self.name)

    def restart_api_server(self) -> None:
        """Stop its container (the kubelet starts another); returns when that one is ready."""
        before = self._api_server()
        self._node("crictl", "stop", before)
        self._until("the API server did not come back", lambda: self._another(before))

    def stop_node(self, *, cut_power: bool = False) -> None:
        """Stop kubelet and container runtime; or kill the node's container, API server and all."""
        if cut_power:
            _run(_docker(), "kill", self._container)
        else:
            self._node("systemctl", "stop", "kubelet", "containerd")

    def start_node(self) -> None:
        """Start them again; returns when the node is ready."""
        since = int(time.time())
        _run(_docker(), "start", self._container)  # nothing to do unless it was killed
        self._node("systemctl", "start", "containerd", "kubelet")
        self._until("the node did not become ready", lambda: self._ready(since))

    def stop_registry(self) -> None:
        """Take it off the network."""
        self.registry.leave()

    def start_registry(self) -> None:
        """Put it back."""
        self.registry.come_back()

    @property
    def _container(self) -> str:
        return f"{self.name}-control-plane"

    def _node(self, *command: str, given: str | None = None) -> str:
        return _run(_docker(), "exec", "-i", self._container, *command, given=given)

    def _api_server(self) -> str:
        found = self._node("crictl", "ps", "--quiet", "--name", "kube-apiserver").split()
        if len(found) != 1:
            raise ClusterError(f"got {len(found)} running API servers, expected one")
        return found[0]

    def _another(self, before: str) -> bool:
        return self._api_server() != before and bool(self.kubectl("get", "--raw=/readyz"))

    def _ready(self, since: int) -> bool:
        (node,) = json.loads(self.kubectl("get", "nodes", "-o", "json").stdout)["items"]
        (ready,) = (c for c in node["status"]["conditions"] if c["type"] == "Ready")
        beat = datetime.fromisoformat(ready["lastHeartbeatTime"]).timestamp()
        return bool(ready["status"] == "True" and beat >= since)

    def _until(self, otherwise: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                if done():
                    return
                problem = "not yet"
            except ControlPlaneError as error:  # it is on its way up
                problem = str(error)
            if time.monotonic() > deadline:
                raise ClusterError(f"{otherwise} in {_READY_SECONDS:.0f} s: {problem}")
            time.sleep(0.5)

    def trust_registry(self) -> None:
        """Tell the node that the registry speaks plain HTTP."""
        address = self.registry.address
        text = f'server = "http://{address}"\n[host."http://{address}"]\n'
        directory = f"/etc/containerd/certs.d/{address}"
        self._node("mkdir", "-p", directory)
        self._node("cp", "/dev/stdin", f"{directory}/hosts.toml", given=text)


def available() -> bool:
    """Whether kind is there and a Docker daemon answers."""
    if shutil.which("docker") is None or shutil.which(_kind()) is None:
        return False
    try:
        done = subprocess.run(
            [_docker(), "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            check=False,
            timeout=_DAEMON_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def prepare() -> None:
    """Have what takes long the first time."""
    existing.program()
    ensure(["registry"])


@contextlib.contextmanager
def running() -> Iterator[KindCluster]:
    """Yield a new cluster, gone afterwards, also when this process is killed."""
    name = f"trailgate-e2e-{os.getpid()}"
    delete = [_kind(), "delete", "cluster", "--name", name]
    with tempfile.TemporaryDirectory(prefix="trailgate-e2e-") as temporary:
        directory = Path(temporary)
        kubeconfig = directory / "kubeconfig"
        clear = ["sh", "-c", '"$@"; rm -rf "$0"', temporary, *delete]
        clearing = _when_gone([*clear, "--kubeconfig", str(kubeconfig)])
        try:
            create = ["create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)]
            create += ["--config=-", "--wait=180s"]
            _run(_kind(), *create, given=_CONFIG, seconds=_CREATE_SECONDS)
            (port,) = ports.free(1)
            registry = Registry.start(directory, f"{_gateway()}:{port}", Login.make())
            try:
                cluster = KindCluster(name, kubeconfig, registry)
                cluster.trust_registry()
                yield cluster
            finally:
                registry.stop()
        finally:
            _run(*delete, "--kubeconfig", str(kubeconfig))
            clearing.kill()
            clearing.wait()


def _when_gone(command: list[str]) -> subprocess.Popen[bytes]:
    """Have ``command`` run when this process is gone, however it went."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_AFTERWARDS), str(os.getpid()), "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _gateway() -> str:
    """Return the IPv4 address of this machine on kind's Docker network."""
    text = _run(_docker(), "network", "inspect", "kind", "--format", "{{json .IPAM.Config}}")
    for entry in json.loads(text):
        gateway = entry.get("Gateway")
        if gateway and ipaddress.ip_address(gateway).version == 4:
            return str(gateway)
    raise ClusterError(f"kind's network: got {text.strip()}, expected an IPv4 gateway")


def _kind() -> str:
    return os.environ.get("KIND", "kind")


def _docker() -> str:
    return "docker"


def _run(*command: str, given: str | None = None, seconds: float = _COMMAND_SECONDS) -> str:
    words = " ".join(command)
    try:
        done = subprocess.run(
            command,
            input=given or "",
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{words}: no end after {seconds:g} s") from error
    if done.returncode != 0:
        raise ClusterError(f"{words}: status {done.returncode}\n{done.stderr.strip()}")
    return done.stdout
