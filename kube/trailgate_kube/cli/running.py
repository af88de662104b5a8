"""What runs in a cluster: each image of each Pod, whose Pod it is, and by which digest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trailgate.assess.callers import controller_of
from trailgate.assess.images import POD, NoImagesError, find_images
from trailgate.model.admission import ContainerClass, ContainerImage
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate_kube.api import Object, Reader
from trailgate_kube.resources import WORKLOADS, Resource

_PODS, _SETS, _JOBS = (
    next(one for one in WORKLOADS if one.kind == kind) for kind in ("Pod", "ReplicaSet", "Job")
)
_STATUSES: Mapping[ContainerClass, str] = {
    ContainerClass.CONTAINER: "containerStatuses",
    ContainerClass.INIT: "initContainerStatuses",
    ContainerClass.EPHEMERAL: "ephemeralContainerStatuses",
}
_OVER = ("Succeeded", "Failed")

_Owner = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True, slots=True, order=True)
class Running:
    """One image of one workload, as a node runs it."""

    namespace: str
    workload: str
    """``Deployment/web``: the owner that nothing built in makes."""
    image: str
    """As the Pod has it."""
    digest: str
    """By which a node pulled it; empty where none says so."""
    containers: tuple[str, ...]

    @property
    def use(self) -> ContainerImage:
        """The image as a decision asks for it."""
        return ContainerImage(self.containers[0], ContainerClass.CONTAINER, self.image)


async def running(reader: Reader, namespaces: Sequence[str]) -> tuple[Running, ...]:
    """List what runs in these namespaces, or in all where none is named; raises ``KubeError``.

    Pods that have ended are left out.
    """
    makers: dict[tuple[str, str, str], _Owner] = {}
    for resource in (_SETS, _JOBS):
        async for item in _listed(reader, resource, namespaces):
            owner = _owner(item)
            if owner is not None:
                makers[_namespace(item), resource.kind, _name(item)] = owner
    found: dict[tuple[str, str, str, str], dict[str, None]] = {}
    async for pod in _listed(reader, _PODS, namespaces):
        if pod.get("status", {}).get("phase") in _OVER:
            continue
        workload = _workload(pod, makers)
        for container, image, digest in _images(pod):
            key = (_namespace(pod), workload, image, digest)
            found.setdefault(key, {})[container] = None
    return tuple(sorted(Running(*key, tuple(sorted(names))) for key, names in found.items()))


async def _listed(
    reader: Reader, resource: Resource, namespaces: Sequence[str]
) -> AsyncIterator[Object]:
    for namespace in namespaces or (None,):
        following = ""
        while True:
            page = await reader.page(resource, namespace, following=following)
            for item in page.items:
                yield item
            following = page.following
            if not following:
                break


def _workload(pod: Object, makers: Mapping[tuple[str, str, str], _Owner]) -> str:
    kind, name = _owner(pod) or ("Pod", _name(pod))
    if kind == "Node":  # a static Pod: the node's own file
        kind, name = "Pod", _name(pod)
    kind, name = makers.get((_namespace(pod), kind, name), (kind, name))
    return f"{kind}/{name}"


def _owner(item: Object) -> _Owner | None:
    owner = controller_of(item)
    return None if owner is None else (owner[0].kind, owner[1])


def _images(pod: Object) -> Iterator[tuple[str, str, str]]:
    """Yield container, image and digest of each."""
    status = pod.get("status", {})
    ids = {
        (field, str(one.get("name"))): str(one.get("imageID") or "")
        for field in _STATUSES.values()
        for one in status.get(field) or ()
    }
    try:
        uses = find_images(POD, pod)
    except (MalformedError, NoImagesError):  # nothing that the API server stores
        return
    for use in uses:
        field = _STATUSES.get(use.container_class, "")
        yield use.name, use.image, _digest(ids.get((field, use.name), ""))


def _digest(image_id: str) -> str:
    """Read the manifest's digest of ``name@sha256:…``; a bare one may be of the configuration."""
    name, at, text = image_id.rpartition("@")
    try:
        return str(Digest.parse(text)) if at and name else ""
    except MalformedError:
        return ""


def _namespace(item: Mapping[str, Any]) -> str:
    return str(item.get("metadata", {}).get("namespace", ""))


def _name(item: Mapping[str, Any]) -> str:
    return str(item.get("metadata", {}).get("name", ""))
