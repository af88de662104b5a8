"""What the trail needs to know of a change, beside the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trailgate.assess.classify import Classified
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
    new = None if request.operation is Operation.DELETE else request.object
    previous = _previous(request)
    before = frozenset(previous.images) if previous is not None else frozenset()
    return ChangeFacts(
        spec_digest=_spec_digest(new),
        previous=previous,
        delta=_WHOLE if classified.delta is None else classified.delta.pointers,
        changed_images=frozenset(use.image for use in images) - before,
    )


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
