"""What the trail needs to know of a change, beside the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from trailgate.assess.classify import Classified, scoped_images
from trailgate.assess.images import WORKLOADS, NoImagesError, find_images
from trailgate.model.admission import AdmissionRequest, ContainerImage, Operation
from trailgate.model.assessment import ChangeClass, Previous
from trailgate.model.canonical import fingerprint
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError

_UNRECORDED = frozenset({ChangeClass.CHILD, ChangeClass.NO_DELTA})
_WHOLE = ("",)


@dataclass(frozen=True, slots=True)
class ChangeFacts:
    """See the fields of the same names in ``Assessment``."""

    spec_digest: Digest | None = None
    previous: Previous | None = None
    delta: tuple[str, ...] = ()
    changed_images: frozenset[str] = frozenset()


def change_facts(
    request: AdmissionRequest, classified: Classified, images: tuple[ContainerImage, ...]
) -> ChangeFacts:
    """Describe a change that is recorded; empty for a class that is not.

    Raises ``MalformedError`` for a specification that has no canonical form (numbers
    beyond 53 bits, floats), because no record could name it.
    """
    if classified.change_class in _UNRECORDED:
        return ChangeFacts()
    return _described(request, classified, images, _spec_digest(_new(request)))


def facts_at_hand(
    request: AdmissionRequest, classified: Classified
) -> tuple[ChangeFacts, tuple[ContainerImage, ...]]:
    """Describe a change that is let through whatever it is, and say its images.

    Raises nothing: what can't be told of it is left out. Empty where nothing is recorded:
    dry runs, and classes that are not.
    """
    if request.dry_run or classified.change_class in _UNRECORDED:
        return ChangeFacts(), ()
    images: tuple[ContainerImage, ...] = ()
    if request.kind in WORKLOADS and request.operation is not Operation.DELETE:
        with suppress(MalformedError, NoImagesError):
            images = scoped_images(request, classified.scope)
    spec: Digest | None = None
    with suppress(MalformedError):
        spec = _spec_digest(_new(request))
    return _described(request, classified, images, spec), images


def _described(
    request: AdmissionRequest,
    classified: Classified,
    images: tuple[ContainerImage, ...],
    spec: Digest | None,
) -> ChangeFacts:
    previous = _previous(request)
    before = frozenset(previous.images) if previous is not None else frozenset()
    return ChangeFacts(
        spec_digest=spec,
        previous=previous,
        delta=_WHOLE if classified.delta is None else classified.delta.pointers,
        changed_images=frozenset(use.image for use in images) - before,
    )


def _new(request: AdmissionRequest) -> Mapping[str, Any] | None:
    return None if request.operation is Operation.DELETE else request.object


def _previous(request: AdmissionRequest) -> Previous | None:
    """Describe the old form; what it lacks must not stop the new one."""
    old = request.old_object
    try:
        digest = _spec_digest(old)
    except MalformedError:
        digest = None
    if old is None or digest is None:
        return None
    images: tuple[str, ...] = ()
    if request.kind in WORKLOADS:
        try:
            images = tuple(dict.fromkeys(use.image for use in find_images(request.kind, old)))
        except (MalformedError, NoImagesError):
            images = ()
    return Previous(digest, images)


def _spec_digest(item: Mapping[str, Any] | None) -> Digest | None:
    spec = None if item is None else item.get("spec")
    return None if spec is None else fingerprint(spec)
