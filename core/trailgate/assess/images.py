"""Every image that a workload names, in every place that is pulled.

Shapes: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/
A kind that must have a Pod spec and shows none is an error here, never "nothing to
verify": the gate that let an unreadable object through verified nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trailgate.model.admission import ContainerClass, ContainerImage, Kind
from trailgate.model.errors import MalformedError, TrailgateError

DEPLOYMENT = Kind("apps", "Deployment")
STATEFUL_SET = Kind("apps", "StatefulSet")
DAEMON_SET = Kind("apps", "DaemonSet")
REPLICA_SET = Kind("apps", "ReplicaSet")
JOB = Kind("batch", "Job")
CRON_JOB = Kind("batch", "CronJob")
REPLICATION_CONTROLLER = Kind("", "ReplicationController")
POD = Kind("", "Pod")

_TEMPLATED: Mapping[Kind, tuple[str, ...]] = {
    DEPLOYMENT: ("spec", "template"),
    STATEFUL_SET: ("spec", "template"),
    DAEMON_SET: ("spec", "template"),
    REPLICA_SET: ("spec", "template"),
    JOB: ("spec", "template"),
    CRON_JOB: ("spec", "jobTemplate", "spec", "template"),
    REPLICATION_CONTROLLER: ("spec", "template"),
}

#: The eight built-in kinds, by group and kind; every served version has the same shape.
WORKLOADS = frozenset({*_TEMPLATED, POD})

_CONTAINERS = (
    ("containers", ContainerClass.CONTAINER),
    ("initContainers", ContainerClass.INIT),
    ("ephemeralContainers", ContainerClass.EPHEMERAL),
)


class NoImagesError(TrailgateError):
    """A workload whose Pod spec has no container."""


def find_images(kind: Kind, workload: Mapping[str, Any]) -> tuple[ContainerImage, ...]:
    """Return each use of an image in a workload, in the order of the spec.

    Raises ``MalformedError`` where the Pod spec, a container or an image is missing or
    of the wrong type, and ``NoImagesError`` where there is no container at all.
    """
    spec = pod_spec(kind, workload)
    if not items(spec, "containers"):
        raise NoImagesError(f"got a {kind.kind} without containers, expected at least one")
    found: list[ContainerImage] = []
    for field, container_class in _CONTAINERS:
        for index, container in enumerate(items(spec, field)):
            image = container.get("image")
            found.append(_use(container, container_class, image, f"{field}[{index}].image"))
    for index, volume in enumerate(items(spec, "volumes")):
        source = volume.get("image")
        if source is None:
            continue
        reference = source.get("reference") if isinstance(source, Mapping) else None
        found.append(
            _use(
                volume,
                ContainerClass.IMAGE_VOLUME,
                reference,
                f"volumes[{index}].image.reference",
            )
        )
    return tuple(found)


def pod_template(kind: Kind, workload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the Pod template of a kind that has one; raises ``MalformedError``."""
    return _descend(kind, workload, _TEMPLATED[kind])


def pod_spec(kind: Kind, workload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the Pod spec of one of the eight kinds; raises ``MalformedError``."""
    path = _TEMPLATED.get(kind, ())
    return _descend(kind, workload, (*path, "spec"))


def _descend(kind: Kind, workload: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    value: Any = workload
    for step in path:
        value = value.get(step)
        if not isinstance(value, Mapping):
            raise MalformedError(
                f"got a {kind.kind} whose {'.'.join(path)} is {_type(value)}, expected an object"
            )
    return value  # type: ignore[no-any-return]


def items(spec: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    """Return a Pod spec's list of objects, empty where there is none; ``MalformedError``."""
    found = spec.get(field)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise MalformedError(f"got {field} of a Pod spec as {_type(found)}, expected a list")
    for item in found:
        if not isinstance(item, Mapping):
            raise MalformedError(f"got an entry of {field} as {_type(item)}, expected an object")
    return found


def _use(
    item: Mapping[str, Any], container_class: ContainerClass, image: Any, where: str
) -> ContainerImage:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise MalformedError(f"got no name beside {where}, expected a string")
    if not isinstance(image, str) or not image:
        raise MalformedError(f"got no image in {where}, expected host/path@sha256:digest")
    return ContainerImage(name, container_class, image)


def _type(value: Any) -> str:
    return "missing" if value is None else type(value).__name__
