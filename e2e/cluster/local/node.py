"""The node's own processes: containerd, kubelet, kube-proxy; and the scheduler beside them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from e2e.cluster import image
from e2e.cluster.errors import ClusterError
from e2e.cluster.local import cgroups, runtime, settings
from e2e.cluster.local.slots import Slot
from e2e.controlplane.errors import StartError
from e2e.controlplane.pki import Authority, Pair
from e2e.controlplane.process import Process
from e2e.controlplane.start import ControlPlane

_START_SECONDS = 60.0
_KUBELET_STARTS = 5
_NODE_SECONDS = 90.0
_IMPORT_SECONDS = 300


@dataclass
class Node:
    """One node of ``plane``, its files in ``directory``; run in the node's namespaces."""

    directory: Path
    slot: Slot
    plane: ControlPlane
    programs: Mapping[str, Path]
    _running: dict[str, Process] = field(default_factory=dict)
    _commands: dict[str, list[str]] = field(default_factory=dict)

    def configure(self, serving: Pair, authority: Authority) -> None:
        """Write all configuration files; ``serving`` is the kubelet's certificate."""
        tools = self.directory / "runtime"
        tools.mkdir()
        runc = runtime.install(tools)
        containerd = settings.containerd(self.directory, runc, snapshotter(self.directory))
        settings.cni(self.directory, self.slot)
        me = self.plane.person(f"system:node:{self.slot.node}", ["system:nodes"])
        proxy = self.plane.person("system:kube-proxy")
        files = (serving.certificate, serving.key)
        config = settings.kubelet(self.directory, self.slot, authority.file, files)
        self._commands = {
            "containerd": ["containerd", f"--config={containerd}"],
            "kubelet": [
                str(self.programs["kubelet"]),
                f"--config={config}",
                f"--kubeconfig={me.kubeconfig}",
                f"--root-dir={self.directory / 'kubelet'}",
                f"--hostname-override={self.slot.node}",
                f"--node-ip={self.slot.node_ip}",
            ],
            "kube-proxy": [
                str(self.programs["kube-proxy"]),
                f"--config={settings.kube_proxy(self.directory, self.slot, proxy.kubeconfig)}",
            ],
            "kube-scheduler": self._scheduler(),
        }

    def _scheduler(self) -> list[str]:
        user = self.plane.person("system:kube-scheduler")
        return [
            str(self.programs["kube-scheduler"]),
            f"--kubeconfig={user.kubeconfig}",
            f"--authentication-kubeconfig={user.kubeconfig}",
            f"--authorization-kubeconfig={user.kubeconfig}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ]

    def start_runtime(self) -> None:
        """Start containerd and wait until it answers."""
        self._run("containerd", lambda: self._ctr("version").returncode == 0)

    def start_kubelet(self) -> None:
        """Start the kubelet and wait until the node says that it is ready."""
        since = time.time()
        for start in range(1, _KUBELET_STARTS + 1):
            try:
                self._run("kubelet", lambda: self.ready(since), _NODE_SECONDS)
            except StartError:
                # It ends where containerd's CRI isn't up yet; an init system starts it again.
                if start == _KUBELET_STARTS or self._running["kubelet"].returncode is None:
                    raise
            else:
                return

    def start_rest(self) -> None:
        """Start kube-proxy and the scheduler, which nobody stops."""
        self._run("kube-proxy", lambda: True)
        self._run("kube-scheduler", lambda: True)

    def stop(self) -> None:
        """Stop kubelet and containerd; containers go on running without them."""
        for name in ("kubelet", "containerd"):
            process = self._running.pop(name, None)
            if process is not None:
                process.stop(30)

    def cut_power(self) -> None:
        """Kill kubelet, containerd and every container, all at once."""
        for name in ("kubelet", "containerd"):
            process = self._running.pop(name, None)
            if process is not None:
                process.kill()
        for shim in _shims():
            with contextlib.suppress(ProcessLookupError):
                os.kill(shim, signal.SIGKILL)
        cgroups.kill(self.slot.cgroup)

    def start(self) -> None:
        """Start containerd and kubelet (again) and wait until the node is ready."""
        if not self._running.keys() & {"containerd", "kubelet"}:
            self.start_runtime()
            self.start_kubelet()

    def load(self, archive: Path) -> str:
        """Import an OCI or Docker archive; returns what containerd said."""
        done = self._ctr("images", "import", str(archive))
        if done.returncode != 0:
            raise ClusterError(f"loading {archive.name}: {done.stderr.strip()}")
        return done.stdout

    def load_pause(self) -> None:
        """Make and import the image of every pod's sandbox."""
        target = self.directory / "pause.tar"
        self.load(image.archive(target, settings.PAUSE, self.programs["podling"], ["pause"]))

    def ready(self, since: float) -> bool:
        """Whether the node has said that it is ready, at or after ``since`` (Unix time)."""
        with contextlib.suppress(OSError):
            nodes = self.plane.api("GET", "/api/v1/nodes")["items"]
            return any(_ready(node, since) for node in nodes)
        return False

    def _ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ctr", f"--address={settings.SOCKET}", "--namespace=k8s.io", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=_IMPORT_SECONDS,
        )

    def _run(self, name: str, probe: Callable[[], bool], seconds: float = _START_SECONDS) -> None:
        log = self.directory / "logs" / f"{name}.log"
        self._running[name] = Process.start(name, self._commands[name], log)
        self._running[name].wait_ready(probe, seconds)


def snapshotter(directory: Path) -> str:
    """``overlayfs`` where the directory's file system can carry it, else ``native``."""
    lower, upper, work, merged = (directory / "probe" / n for n in "luwm")
    for path in (lower, upper, work, merged):
        path.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    command = ["mount", "-t", "overlay", "-o", options, "overlay", str(merged)]
    if subprocess.run(command, capture_output=True, check=False, timeout=30).returncode != 0:
        return "native"
    subprocess.run(["umount", str(merged)], check=True, timeout=30)
    return "overlayfs"


def _shims() -> Iterator[int]:
    """Yield the processes that keep containers without containerd."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().startswith("containerd-shim"):
                yield int(path.parent.name)


def serving_pair(directory: Path, slot: Slot) -> tuple[Authority, Pair, Pair]:
    """Return the kubelet's authority, its certificate, and the API server's for asking it."""
    authority = Authority(directory / "kubelet-pki")
    serving = authority.server("kubelet", [slot.node_ip, slot.node])
    return authority, serving, authority.client("kube-apiserver", ["system:masters"])


def _ready(node: Mapping[str, object], since: float) -> bool:
    status = node["status"]
    assert isinstance(status, dict)
    for condition in status.get("conditions", []):
        if condition["type"] == "Ready":
            return condition["status"] == "True" and (
                datetime.fromisoformat(condition["lastHeartbeatTime"]).timestamp() >= int(since)
            )
    return False
