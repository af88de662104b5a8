"""Which accounts are Kubernetes' own, by what the API server authenticated.

Each built-in controller has a service account in kube-system
(``--use-service-account-credentials``, the default of every installer):
https://kubernetes.io/docs/reference/access-authn-authz/rbac/#controller-roles
The user name alone proves nothing, since ``kubectl --as`` sets it: the credential's id
has to be there too, which takes a right of its own to impersonate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trailgate.assess.images import (
    CRON_JOB,
    DAEMON_SET,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    REPLICATION_CONTROLLER,
    STATEFUL_SET,
)
from trailgate.model.admission import Caller, Kind

_PREFIX = "system:serviceaccount:kube-system:"
_NODE_PREFIX = "system:node:"
_NODES = "system:nodes"
_NODE = Kind("", "Node")
_SHARED = "system:kube-controller-manager"

#: The annotation by which a kubelet marks its copy of a static pod.
MIRROR = "kubernetes.io/config.mirror"

#: What each owner's controller makes out of it.
CHILD_KIND: Mapping[Kind, Kind] = {
    DEPLOYMENT: REPLICA_SET,
    REPLICA_SET: POD,
    STATEFUL_SET: POD,
    DAEMON_SET: POD,
    JOB: POD,
    CRON_JOB: JOB,
    REPLICATION_CONTROLLER: POD,
}

_CONTROLLERS: Mapping[str, frozenset[Kind]] = {
    _PREFIX + account: frozenset({owner})
    for account, owner in (
        ("deployment-controller", DEPLOYMENT),
        ("replicaset-controller", REPLICA_SET),
        ("statefulset-controller", STATEFUL_SET),
        ("daemon-set-controller", DAEMON_SET),
        ("job-controller", JOB),
        ("cronjob-controller", CRON_JOB),
        ("replication-controller", REPLICATION_CONTROLLER),
    )
}
_ALL_OWNERS = frozenset(CHILD_KIND)
_GARBAGE_COLLECTOR = _PREFIX + "generic-garbage-collector"
_CLEANERS = frozenset(
    {
        _GARBAGE_COLLECTOR,
        *(
            _PREFIX + account
            for account in (
                "namespace-controller",
                "node-controller",
                "pod-garbage-collector",
                "taint-eviction-controller",
                "device-taint-eviction-controller",
                "ttl-after-finished-controller",
            )
        ),
    }
)
_NONE: frozenset[Kind] = frozenset()


def controls(caller: Caller, *, shared: bool = False) -> frozenset[Kind]:
    """Return the owner kinds that this caller is the built-in controller of.

    ``shared`` also takes the one account of a kube-controller-manager that runs
    without service account credentials.
    """
    kinds = _CONTROLLERS.get(caller.username)
    if kinds is None:
        kinds = _ALL_OWNERS if shared and caller.username == _SHARED else _NONE
    return kinds if kinds and caller.has_credential else _NONE


def is_garbage_collector(caller: Caller, *, shared: bool = False) -> bool:
    """Whether this is the collector that releases and deletes dependents."""
    known = caller.username == _GARBAGE_COLLECTOR or (shared and caller.username == _SHARED)
    return known and caller.has_credential


def cleans_up(caller: Caller, *, shared: bool = False) -> bool:
    """Whether this is an account that deletes dependents as part of its work."""
    if not caller.has_credential:
        return False
    return (
        caller.username in _CLEANERS or bool(controls(caller, shared=shared)) or bool(node(caller))
    )


def node(caller: Caller) -> str | None:
    """Return the name of the node whose kubelet this is."""
    if _NODES not in caller.groups or not caller.username.startswith(_NODE_PREFIX):
        return None
    return caller.username.removeprefix(_NODE_PREFIX) or None


def is_own_mirror(caller: Caller, pod: Mapping[str, Any]) -> bool:
    """Whether this pod is a mirror that this kubelet makes of a static pod of its own."""
    name = node(caller)
    owner = controller_of(pod)
    return (
        name is not None
        and caller.has_credential
        and owner is not None
        and owner[0] == _NODE
        and owner[1] == name
    )


def has_mirror(pod: Mapping[str, Any]) -> bool:
    """Whether a pod carries the annotation of a mirror, with whatever value."""
    metadata = pod.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return isinstance(annotations, Mapping) and MIRROR in annotations


def controller_of(item: Mapping[str, Any]) -> tuple[Kind, str, str] | None:
    """Return kind, name and uid of the one owner with ``controller: true``.

    None where there is none, more than one, or one that is not whole.
    """
    metadata = item.get("metadata")
    references = metadata.get("ownerReferences") if isinstance(metadata, Mapping) else None
    if not isinstance(references, list):
        return None
    found = [r for r in references if isinstance(r, Mapping) and r.get("controller") is True]
    if len(found) != 1:
        return None
    version, kind, name, uid = (found[0].get(f) for f in ("apiVersion", "kind", "name", "uid"))
    if not (isinstance(version, str) and isinstance(kind, str)):
        return None
    if not (isinstance(name, str) and name and isinstance(uid, str) and uid):
        return None
    group, slash, _ = version.partition("/")
    return Kind(group if slash else "", kind), name, uid
