"""What kind of change a request is, worked out from the request alone.

The rules and their reasons: docs/explanation/what-counts-as-a-change.md. A child is only
*claimed* here: whether its owner exists and has this template is for ``owners`` to find
out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from trailgate.assess import callers
from trailgate.assess.delta import Delta, compare, compare_scale
from trailgate.assess.images import (
    DEPLOYMENT,
    POD,
    WORKLOADS,
    find_images,
    pod_template,
)
from trailgate.model.admission import (
    AdmissionRequest,
    ContainerClass,
    ContainerImage,
    Kind,
    Operation,
)
from trailgate.model.assessment import ChangeClass
from trailgate.model.errors import MalformedError, TrailgateError
from trailgate.model.reason import Reason

_RESOURCES = re.compile(r"/spec/(?:c|initC)ontainers/\d+/(?:resources|resizePolicy)(?:/.*)?")
_REVISION = "/metadata/annotations/deployment.kubernetes.io~1revision"
_OWNERS = "/metadata/ownerReferences"
_TOPOLOGY = "topology.kubernetes.io/"
_SCHEDULER = "system:kube-scheduler"
# One release each, and kept after it was replaced: whoever scales up an old one, its
# Deployment being gone or orphaned, rolls back. Only their owner's controller may unasked.
_RELEASES = frozenset({"replicasets", "replicationcontrollers"})


class Scope(Enum):
    """Which images of the object a request has to answer for."""

    NONE = "none"
    ALL = "all"
    EPHEMERAL = "ephemeral"
    """Ephemeral containers, and whatever else was not there before."""


@dataclass(frozen=True, slots=True)
class OwnerClaim:
    """What an ownerReference says, made by the controller of that kind of owner."""

    kind: Kind
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.namespace}/{self.name} (uid {self.uid})"


@dataclass(frozen=True, slots=True)
class Options:
    """What a cluster may set about classification."""

    shared_controller_manager: bool = False
    """Trust ``system:kube-controller-manager`` as every built-in controller. Only for a
    control plane that runs without ``--use-service-account-credentials``."""
    harmless_keys: frozenset[str] = frozenset()
    """Metadata keys that select and trigger nothing in this cluster, beside our list."""


@dataclass(frozen=True, slots=True)
class Classified:
    """A request's class, and what is left to find out."""

    change_class: ChangeClass
    scope: Scope = Scope.NONE
    claim: OwnerClaim | None = None
    """With ``CHILD``: what must hold for it to be one; None where nothing runs anew."""
    delta: Delta | None = None
    """With UPDATE."""


class RefusedError(TrailgateError):
    """A request that no policy needs to be asked about; ``reason`` is its code."""

    def __init__(self, reason: Reason, got: str, expected: str) -> None:
        super().__init__(f"got {got}, expected {expected}")
        self.reason = reason
        self.got = got
        self.expected = expected


def classify(request: AdmissionRequest, options: Options | None = None) -> Classified:
    """Say what kind of change this is.

    Raises ``MalformedError`` for a request that does not have the form its kind has,
    and ``RefusedError`` for one that nobody may make.
    """
    options = options or Options()
    if request.operation is Operation.CONNECT:
        return Classified(ChangeClass.NO_DELTA)
    if request.operation is Operation.DELETE:
        return _deletion(request, options)
    if request.subresource in _SUBRESOURCES:
        return _SUBRESOURCES[request.subresource](request, options)
    if request.subresource:
        if request.kind in WORKLOADS:
            raise MalformedError(
                f"got subresource {request.subresource[:80]!r} of {request.kind}, "
                f"expected one of {', '.join(sorted(_SUBRESOURCES))}"
            )
        return Classified(ChangeClass.ROOT)
    if request.operation is Operation.CREATE:
        return _creation(request, options)
    return _update(request, options)


def scoped_images(request: AdmissionRequest, scope: Scope) -> tuple[ContainerImage, ...]:
    """Return the images that a request answers for; raises as ``find_images`` does."""
    if scope is Scope.NONE:
        return ()
    found = find_images(request.kind, _object(request))
    if scope is Scope.ALL or request.old_object is None:
        return found
    before = {use.image for use in find_images(request.kind, request.old_object)}
    return tuple(
        use
        for use in found
        if use.container_class is ContainerClass.EPHEMERAL or use.image not in before
    )


def _deletion(request: AdmissionRequest, options: Options) -> Classified:
    old = request.old_object
    if old is not None and callers.controller_of(old) is not None:
        if callers.has_mirror(old) and callers.is_own_mirror(request.caller, old):
            return Classified(ChangeClass.MIRROR)
        if callers.cleans_up(request.caller, shared=options.shared_controller_manager):
            return Classified(ChangeClass.CHILD)
    return Classified(ChangeClass.DELETE)


def _creation(request: AdmissionRequest, options: Options) -> Classified:
    if request.kind not in WORKLOADS:
        return Classified(ChangeClass.ROOT)
    new = _object(request)
    if request.kind == POD and callers.has_mirror(new):
        return _mirror(request, new)
    claim = _claim(request, new, options)
    if claim is not None:
        return Classified(ChangeClass.CHILD, Scope.ALL, claim)
    return Classified(ChangeClass.ROOT, Scope.ALL)


def _update(request: AdmissionRequest, options: Options) -> Classified:
    new, old = _object(request), _old_object(request)
    delta = compare(request.kind, old, new, options.harmless_keys)
    if request.kind == POD and callers.has_mirror(new) and not callers.has_mirror(old):
        return _mirror(request, new)
    if not delta.effective:
        own = delta.scaled_up and _is_controlled(request, old, new, options)
        return Classified(ChangeClass.CHILD, delta=delta) if own else _scaling(request, delta)
    if _is_bookkeeping(request, old, new, delta, options):
        return Classified(ChangeClass.NO_DELTA, delta=delta)
    scope = Scope.ALL if request.kind in WORKLOADS else Scope.NONE
    if _is_controlled(request, old, new, options):
        if _runs_the_same(request.kind, old, new):
            return Classified(ChangeClass.CHILD, delta=delta)
        claim = _claim(request, new, options)
        if claim is not None:
            return Classified(ChangeClass.CHILD, scope, claim, delta)
    return Classified(ChangeClass.ROOT, scope, delta=delta)


def _mirror(request: AdmissionRequest, pod: Mapping[str, Any]) -> Classified:
    if callers.is_own_mirror(request.caller, pod):
        return Classified(ChangeClass.MIRROR)
    raise RefusedError(
        Reason.CALLER_NOT_ALLOWED,
        f"annotation {callers.MIRROR} from {request.caller.username}",
        "it from the kubelet of the node that owns the pod",
    )


def _is_controlled(
    request: AdmissionRequest, old: Mapping[str, Any], new: Mapping[str, Any], options: Options
) -> bool:
    """Whether the caller is the controller of this object's owner.

    The owner is in the old form only when the controller releases a child, and in the
    new one only when it adopts one.
    """
    kinds = callers.controls(request.caller, shared=options.shared_controller_manager)
    if not kinds:
        return False
    owners = (callers.controller_of(old), callers.controller_of(new))
    return any(o is not None and _makes(o[0], request.kind, kinds) for o in owners)


def _is_bookkeeping(
    request: AdmissionRequest,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    delta: Delta,
    options: Options,
) -> bool:
    """Whether a built-in account writes down what only it writes down."""
    shared = options.shared_controller_manager
    if delta.effective == (_OWNERS,) and callers.is_garbage_collector(
        request.caller, shared=shared
    ):
        return _owner_uids(new) <= _owner_uids(old)
    return (
        request.kind == DEPLOYMENT
        and delta.effective == (_REVISION,)
        and DEPLOYMENT in callers.controls(request.caller, shared=shared)
    )


def _runs_the_same(kind: Kind, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if kind == POD:
        return set(find_images(kind, old)) == set(find_images(kind, new))
    return pod_template(kind, old) == pod_template(kind, new)


def _claim(
    request: AdmissionRequest, item: Mapping[str, Any], options: Options
) -> OwnerClaim | None:
    kinds = callers.controls(request.caller, shared=options.shared_controller_manager)
    if not kinds:
        return None
    owner = callers.controller_of(item)
    if owner is None or not _makes(owner[0], request.kind, kinds):
        return None
    return OwnerClaim(owner[0], request.namespace, owner[1], owner[2])


def _makes(owner: Kind, child: Kind, kinds: frozenset[Kind]) -> bool:
    return owner in kinds and callers.CHILD_KIND[owner] == child


def _ephemeral(request: AdmissionRequest, options: Options) -> Classified:
    if request.old_object is None:
        return Classified(ChangeClass.ROOT, Scope.ALL)
    delta = compare(request.kind, _old_object(request), _object(request), options.harmless_keys)
    if not delta.effective:
        return Classified(ChangeClass.NO_DELTA, delta=delta)
    return Classified(ChangeClass.ROOT, Scope.EPHEMERAL, delta=delta)


def _resize(request: AdmissionRequest, options: Options) -> Classified:
    """More or less CPU and memory for a running pod is not covered yet; the rest is."""
    classified = _update(request, options)
    delta = classified.delta
    if delta is not None and all(_RESOURCES.fullmatch(pointer) for pointer in delta.effective):
        return Classified(ChangeClass.NO_DELTA, delta=delta)
    return classified


def _scale(request: AdmissionRequest, _: Options) -> Classified:
    return _scaling(request, compare_scale(_old_object(request), _object(request)))


def _scaling(request: AdmissionRequest, delta: Delta) -> Classified:
    """Say what more replicas are, when nothing else has changed."""
    if not delta.scaled_up:
        return Classified(ChangeClass.NO_DELTA, delta=delta)
    if request.resource in _RELEASES:
        scope = Scope.ALL if request.kind in WORKLOADS else Scope.NONE  # a Scale has no template
        return Classified(ChangeClass.ROOT, scope, delta=delta)
    return Classified(ChangeClass.SCALE, delta=delta)


def _binding(request: AdmissionRequest, _: Options) -> Classified:
    """Give a pod its node; what else a Binding carries is copied to the pod."""
    metadata = _object(request).get("metadata")
    carried = metadata if isinstance(metadata, Mapping) else {}
    labels = carried.get("labels") or {}
    innocent = (
        not carried.get("annotations")
        and isinstance(labels, Mapping)
        and all(key.startswith(_TOPOLOGY) for key in labels)
    )
    scheduler = request.caller.username == _SCHEDULER and request.caller.has_credential
    return Classified(ChangeClass.NO_DELTA if innocent or scheduler else ChangeClass.ROOT)


def _eviction(_: AdmissionRequest, __: Options) -> Classified:
    return Classified(ChangeClass.NO_DELTA)


_SUBRESOURCES = {
    "binding": _binding,
    "ephemeralcontainers": _ephemeral,
    "eviction": _eviction,
    "resize": _resize,
    "scale": _scale,
    "status": _update,
}


def _owner_uids(item: Mapping[str, Any]) -> set[str]:
    """Return the uids of all owners; what is no owner counts as one that nobody has."""
    metadata = item.get("metadata")
    references = metadata.get("ownerReferences") if isinstance(metadata, Mapping) else None
    if not isinstance(references, list):
        return set()
    return {str(r.get("uid")) if isinstance(r, Mapping) else repr(r) for r in references}


def _object(request: AdmissionRequest) -> Mapping[str, Any]:
    return _form(request.object, "object", request)


def _old_object(request: AdmissionRequest) -> Mapping[str, Any]:
    return _form(request.old_object, "oldObject", request)


def _form(
    item: Mapping[str, Any] | None, field: str, request: AdmissionRequest
) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise MalformedError(f"got no {field} with {request.operation}, expected one")
    version, kind = item.get("apiVersion"), item.get("kind")
    group, slash, _ = str(version).partition("/")
    if kind != request.kind.kind or (group if slash else "") != request.kind.group:
        raise MalformedError(
            f"got {field} of {str(version)[:80]!r} {str(kind)[:80]!r}, expected {request.kind}"
        )
    return item
