"""Labels and annotations of an object's own metadata that select and trigger nothing.

A positive list. Kubernetes reserves keys without a prefix for people ("private to the
user"): https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
A prefixed key belongs to some machinery, and so does one with a dot
(``deprecated.deployment.rollback.to``): they count as a change unless they are known
here to be a note, and a note only. The reasons: docs/explanation/what-counts-as-a-change.md.
"""

from __future__ import annotations

import re

_PRIVATE = re.compile(r"[A-Za-z0-9_-]+")
_KEYS = frozenset(
    {
        # Notes of the tool that wrote the object. Keys by which a tool finds what it
        # manages (Argo CD, Flux, Helm, app.kubernetes.io/instance) are left out: who
        # changes those makes the tool adopt or prune.
        "kubectl.kubernetes.io/last-applied-configuration",
        "kubectl.kubernetes.io/default-container",
        "kubernetes.io/change-cause",
        "kubernetes.io/description",
        "helm.sh/chart",
        "app.kubernetes.io/name",
        "app.kubernetes.io/version",
        "app.kubernetes.io/component",
        "app.kubernetes.io/part-of",
        "app.kubernetes.io/created-by",
        # Which pod goes first when some must go; never what runs.
        "controller.kubernetes.io/pod-deletion-cost",
        "cluster-autoscaler.kubernetes.io/safe-to-evict",
        # What network plugins write down about a pod that already has its network.
        "cni.projectcalico.org/containerID",
        "cni.projectcalico.org/podIP",
        "cni.projectcalico.org/podIPs",
        "k8s.v1.cni.cncf.io/network-status",
        "k8s.v1.cni.cncf.io/networks-status",
        "vpc.amazonaws.com/pod-ips",
    }
)


def is_harmless(key: str, more: frozenset[str] = frozenset()) -> bool:
    """Whether a change of this metadata key is no change of what runs.

    ``more`` is the cluster's own addition to the list: exact keys.
    """
    return _PRIVATE.fullmatch(key) is not None or key in _KEYS or key in more
