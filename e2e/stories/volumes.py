"""Two volumes for the ledger, on any cluster of one node: made in the node's own file system."""

from __future__ import annotations

import json
from typing import Any

from e2e.cluster.provider import Cluster

STORAGE_CLASS = "trailgate-e2e"
_MAKER = "trailgate-e2e-volumes"


def make(cluster: Cluster, image: str, pull_secret: str, directory: str) -> None:
    """Make the volumes; a pod has the kubelet make their directories, which stay there."""
    node = cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}").stdout
    paths = {name: f"{directory}/{name}" for name in ("ledger", "checkpoint")}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(_maker(image, pull_secret, paths)))
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{_MAKER}", "--timeout=90s", seconds=100)
    cluster.kubectl("delete", "pod", _MAKER, "--grace-period=0", "--force", "--wait=true")
    for name, path in paths.items():
        volume = _volume(f"trailgate-{name}", path, node)
        cluster.kubectl("apply", "-f", "-", input=json.dumps(volume))


def _maker(image: str, pull_secret: str, paths: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _MAKER, "namespace": "default"},
        "spec": {
            "restartPolicy": "Never",
            "imagePullSecrets": [{"name": pull_secret}],
            "containers": [
                {
                    "name": "make",
                    "image": image,
                    "command": ["/podling", "pause"],
                    "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in paths],
                }
            ],
            "volumes": [
                {"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
                for name, path in paths.items()
            ],
        },
    }


def _volume(claim: str, path: str, node: str) -> dict[str, Any]:
    """Make a local volume: unlike a hostPath, the kubelet gives it to the pod's group."""
    term = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": claim},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": path},
            "claimRef": {"namespace": "trailgate-system", "name": claim},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
    }
