"""The node's configuration files, each a function of the slot and the work directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from e2e.cluster.local.slots import Slot

PAUSE = "trailgate.dev/e2e/pause:1"
SOCKET = "/run/containerd/containerd.sock"
_PLUGINS = "/usr/lib/cni"


def containerd(directory: Path, runc: Path, snapshotter: str) -> Path:
    """Write containerd's configuration: version 2, which 1.6 to 2.x read.

    Kernels in sandboxes refuse a negative ``oom_score_adj``, and runc then fails;
    restricted to containerd's own it is never negative here.
    """
    text = f"""\
version = 2
root = "{directory / "containerd"}"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_PLUGINS}"
    conf_dir = "{directory / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{directory / "certs.d"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
"""
    path = directory / "containerd.toml"
    path.write_text(text)
    return path


def cni(directory: Path, slot: Slot) -> None:
    """Write the pods' network: a point-to-point link each, routed by the node.

    No bridge: between pods of one bridge, the answers of a Service would take the
    short way and miss the translation back unless the kernel has br_netfilter.
    """
    document = {
        "cniVersion": "0.4.0",
        "name": "trailgate-e2e",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(directory / "addresses"),
                    "ranges": [[{"subnet": slot.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    (directory / "cni").mkdir(exist_ok=True)
    _json(directory / "cni" / "10-trailgate.conflist", document)


def registry_host(directory: Path, address: str) -> None:
    """Tell containerd that this registry speaks plain HTTP."""
    host = directory / "certs.d" / address
    host.mkdir(parents=True, exist_ok=True)
    (host / "hosts.toml").write_text(
        f'server = "http://{address}"\n[host."http://{address}"]\n'
        '  capabilities = ["pull", "resolve"]\n'
    )


def kubelet(directory: Path, slot: Slot, authority: Path, serving: tuple[Path, Path]) -> Path:
    """Write the kubelet's configuration."""
    (directory / "resolv.conf").write_text("")  # no cluster DNS, no way out
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving[0]),
        "tlsPrivateKeyFile": str(serving[1]),
        "address": slot.node_ip,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{slot.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "podLogsDir": str(directory / "pods"),
        "resolvConf": str(directory / "resolv.conf"),
        "volumePluginDir": str(directory / "volume-plugins"),
        # The disk is the machine's, and others fill it.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%",
                         "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
        "nodeStatusUpdateFrequency": "5s",
        "shutdownGracePeriod": "0s",
    }  # fmt: skip
    return _json(directory / "kubelet.json", document)


def kube_proxy(directory: Path, slot: Slot, kubeconfig: Path) -> Path:
    """Write kube-proxy's configuration."""
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": slot.pods,
        "hostnameOverride": slot.node,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }
    return _json(directory / "kube-proxy.json", document)


def storage(directory: Path, slot: Slot, count: int) -> list[dict[str, Any]]:
    """The default StorageClass and its volumes: directories of the node, made here.

    Kubernetes provisions local volumes for nobody, so a fixed number waits for claims.
    """
    volumes = []
    for number in range(count):
        path = directory / "volumes" / f"{number:02}"
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        volumes.append(_volume(f"{slot.node}-{number:02}", path, slot))
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "standard", "annotations": default},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Retain",
        },
        *volumes,
    ]


def _volume(name: str, path: Path, slot: Slot) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [slot.node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "standard",
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def _json(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path
