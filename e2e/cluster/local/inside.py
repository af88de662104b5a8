"""Inside the node's namespaces: bring everything up, then do what the host asks for."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.local import mounts, network, settings
from e2e.cluster.local.needs import PROGRAMS
from e2e.cluster.local.node import Node, serving_pair
from e2e.cluster.local.slots import Slot
from e2e.cluster.local.state import CONTROL, State
from e2e.cluster.registry import Login, Registry
from e2e.controlplane import kubeconfig
from e2e.controlplane.binaries import ensure
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.pki import Authority, Pair
from e2e.controlplane.start import ControlPlane, Options

_REGISTRY_PORT = 5000
_VOLUMES = 32


@dataclass
class Inside:
    """The parts, and what can be asked of them."""

    plane: ControlPlane
    node: Node
    registry: Registry

    def do(self, order: dict[str, Any]) -> str:
        """Carry out one order; returns what is to be told, raises ``ControlPlaneError``."""
        orders: dict[str, Callable[[], object]] = {
            "stop-node": self.node.stop,
            "cut-power": self.node.cut_power,
            "start-node": self.node.start,
            "stop-registry": self.registry.leave,
            "start-registry": self.registry.come_back,
            "restart-api-server": self._restart_api_server,
            "load": lambda: self.node.load(Path(order["archive"])),
        }
        return str(orders[order["do"]]() or "")

    def _restart_api_server(self) -> None:
        self.plane.stop_apiserver()
        self.plane.start_apiserver()


def bring_up(directory: Path, slot: Slot) -> tuple[Inside, State]:
    """Start every part in the order that waits least."""
    took: dict[str, float] = {}
    begun = time.monotonic()

    def mark(name: str) -> None:
        took[name] = round(time.monotonic() - begun, 2)

    programs = ensure(PROGRAMS)
    authority, serving, asking = serving_pair(directory, slot)
    plane = ControlPlane.start(
        directory / "plane", _options(directory, slot, authority.file, asking)
    )
    mark("control plane")
    node = Node(directory, slot, plane, programs)
    node.configure(serving, authority)
    address = f"{slot.node_ip}:{_REGISTRY_PORT}"
    settings.registry_host(directory, address)
    with ThreadPoolExecutor() as pool:
        registry = pool.submit(Registry.start, directory, address, Login.make())
        plane.apply(*settings.storage(directory, slot, _VOLUMES))
        node.start_rest()
        node.start_runtime()
        node.load_pause()
        mark("container runtime")
        node.start_kubelet()
        mark("node ready")
        inside = Inside(plane, node, registry.result())
    state = State(
        slot=slot.number,
        kubeconfig=str(_kubeconfig(directory, slot, plane)),
        kubectl=str(programs["kubectl"]),
        registry=address,
        user=inside.registry.login.user,
        password=inside.registry.login.password,
        took=took,
    )
    return inside, state


def _options(directory: Path, slot: Slot, kubelets: Path, asking: Pair) -> Options:
    return Options(
        controllers=True,
        unsafe_no_fsync=True,
        hosts=(slot.node_ip, slot.first_service),
        apiserver_flags=(
            "--bind-address=0.0.0.0",  # of this network namespace
            f"--advertise-address={slot.node_ip}",
            "--endpoint-reconciler-type=lease",
            f"--service-cluster-ip-range={slot.services}",
            "--authorization-mode=Node",  # beside RBAC: the flag adds up
            "--enable-admission-plugins=NodeRestriction",
            *_front_proxy(directory),
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-certificate-authority={kubelets}",
            f"--kubelet-client-certificate={asking.certificate}",
            f"--kubelet-client-key={asking.key}",
        ),
    )


def _front_proxy(directory: Path) -> list[str]:
    """Who may speak for others: asked for by the scheduler, used by aggregated APIs."""
    authority = Authority(directory / "front-proxy-pki")
    client = authority.client("front-proxy-client")
    return [
        f"--requestheader-client-ca-file={authority.file}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={client.certificate}",
        f"--proxy-client-key-file={client.key}",
    ]


def _kubeconfig(directory: Path, slot: Slot, plane: ControlPlane) -> Path:
    """Write the administrator's kubeconfig as it works from the host."""
    path = directory / "kubeconfig"
    url = plane.url.replace("127.0.0.1", slot.node_ip)
    admin = plane.admin
    user = {"client-certificate": str(admin.certificate), "client-key": str(admin.key)}
    kubeconfig.write(path, url, plane.authority.file, user)
    return path


def serve(directory: Path, inside: Inside) -> None:
    """Take orders on a socket in the work directory, one line of JSON each, for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / CONTROL))
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rw") as lines:
                answer: dict[str, str] = {}
                try:
                    answer["said"] = inside.do(json.loads(lines.readline()))
                except (ControlPlaneError, OSError, ValueError, KeyError) as error:
                    answer["error"] = f"{type(error).__name__}: {error}"
                lines.write(json.dumps(answer) + "\n")


def main(arguments: list[str]) -> int:
    """Run until killed; 1 with a message where it does not come up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("slot", type=int)
    chosen = parser.parse_args(arguments)
    directory, slot = chosen.directory, Slot(chosen.slot)
    try:
        socket.sethostname(slot.node)
        network.accept(slot)
        mounts.arrange(directory)
        inside, state = bring_up(directory, slot)
        state.write(directory)
        serve(directory, inside)
    except (ControlPlaneError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        os._exit(1)  # whatever else runs here goes with the namespace
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
