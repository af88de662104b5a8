"""The built-in kinds that run pods: the one table of what the gate covers.

Shapes and names: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trailgate.model.admission import Kind

_TEMPLATE: Final = ("spec", "template")


@dataclass(frozen=True, slots=True)
class Workload:
    """One of them, in the version that clusters serve since 1.25."""

    kind: Kind
    version: str
    plural: str
    """The resource's name, as in rules and paths."""
    template: tuple[str, ...] | None
    """Where its pods' template is; None for a pod, which is one itself."""
    scaled: bool = False
    """Whether it has the subresource ``scale``."""


WORKLOADS: Final = (
    Workload(Kind("", "Pod"), "v1", "pods", None),
    Workload(
        Kind("", "ReplicationController"), "v1", "replicationcontrollers", _TEMPLATE, scaled=True
    ),
    Workload(Kind("apps", "Deployment"), "v1", "deployments", _TEMPLATE, scaled=True),
    Workload(Kind("apps", "ReplicaSet"), "v1", "replicasets", _TEMPLATE, scaled=True),
    Workload(Kind("apps", "StatefulSet"), "v1", "statefulsets", _TEMPLATE, scaled=True),
    Workload(Kind("apps", "DaemonSet"), "v1", "daemonsets", _TEMPLATE),
    Workload(Kind("batch", "Job"), "v1", "jobs", _TEMPLATE),
    Workload(Kind("batch", "CronJob"), "v1", "cronjobs", ("spec", "jobTemplate", *_TEMPLATE)),
)
