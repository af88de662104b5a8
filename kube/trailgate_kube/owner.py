"""The ClusterRole that owns what the operator makes: what uninstalls it takes all of that along.

Kubernetes: https://kubernetes.io/docs/concepts/architecture/garbage-collection/
"""

from __future__ import annotations

from typing import Any

from trailgate_kube.api import Reader
from trailgate_kube.errors import NotFoundError
from trailgate_kube.resources import CLUSTER_ROLES

ROLE = "trailgate-arming"
"""Its name: one installation per cluster."""


def reference(uid: str) -> dict[str, Any]:
    """Build the entry of ``ownerReferences`` that names it."""
    return {
        "apiVersion": CLUSTER_ROLES.api_version,
        "kind": CLUSTER_ROLES.kind,
        "name": ROLE,
        "uid": uid,
    }


async def uid_of_owner(reader: Reader) -> str | None:
    """Return its uid; None where it isn't there, or is being deleted. Raises ``KubeError``.

    What is made for an owner that goes is garbage at once.
    """
    try:
        metadata = (await reader.get(CLUSTER_ROLES, ROLE))["metadata"]
    except NotFoundError:
        return None
    return None if metadata.get("deletionTimestamp") else str(metadata["uid"])
