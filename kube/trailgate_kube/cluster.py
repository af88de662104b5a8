"""Which cluster this is."""

from __future__ import annotations

from trailgate_kube.api import Reader
from trailgate_kube.errors import InvalidError
from trailgate_kube.resources import NAMESPACES


async def cluster_uid(reader: Reader) -> str:
    """Return the uid of the namespace kube-system, which is the cluster's by convention."""
    namespace = await reader.get(NAMESPACES, "kube-system")
    uid = namespace.get("metadata", {}).get("uid")
    if not isinstance(uid, str) or not uid:
        raise InvalidError(f"namespace kube-system: got uid {uid!r}, expected a string")
    return uid
