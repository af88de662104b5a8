"""What the observer claims: which changes were stored, which run, what no admission explains.

These claims name objects and digests, and no people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from trailgate.ledger.claim import Context, Kind, head
from trailgate.ledger.form import Null, Roster, known, settle_within, stamp
from trailgate.ledger.images import digest_in, image_digest
from trailgate.model.admission import ObjectKey, Operation
from trailgate.model.digest import Digest
from trailgate.model.reason import Absence

MAX_IMAGES = 64
"""How many images a record of an object lists; ``allImages`` says if those are all."""
_TOGETHER = 40_000  # bytes of a baseline's objects in one entry, roughly
_OBJECT, _IMAGE = 600, 150


@dataclass(frozen=True, slots=True)
class Thing:
    """One workload in one state."""

    key: ObjectKey
    uid: str | None
    generation: int | None
    spec: Digest | None
    """SHA-256 of the canonical JSON of ``spec``; None of what is gone."""
    images: tuple[str, ...] = ()
    """Image strings of the specification."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Which admission an observation is about."""

    change: Digest
    """Its ``changeId``."""
    index: int
    """Of the ``admitted`` entry."""


class Seen(StrEnum):
    """How it is known that a change was stored."""

    OBSERVED = "observed"
    """This very state was seen."""
    INFERRED = "inferred"
    """A later state of the object was seen, and only this admission led there."""


class NotPersisted(StrEnum):
    """What speaks against a change having been stored."""

    OTHER = "other-persisted"
    """Under its generation, another specification was stored."""
    UNSEEN = "not-seen"
    """It had its time, and nothing of it was there."""
    UNDETERMINED = "undetermined"
    """Nobody watched just then: it may have come and gone, or another of several was stored."""


class Match(StrEnum):
    """How what runs compares with what was admitted."""

    PINNED = "pinned"
    """The digest that the specification pins."""
    PLATFORM = "platform"
    """A platform's manifest of the index that the specification pins."""
    UNVERIFIABLE = "unverifiable"
    """What the node tells can't be compared: a tag was admitted, or it names another image."""


class End(StrEnum):
    """Why a change holds no more."""

    SUPERSEDED = "superseded"
    SCALED_TO_ZERO = "scaled-to-zero"
    DELETED = "deleted"
    COMPLETED = "completed"


class Why(StrEnum):
    """What is wrong with what is there."""

    NO_ADMISSION = "NoAdmission"
    """No admission led to this state."""
    IMAGE_NOT_ADMITTED = "ImageNotAdmitted"
    """It was admitted, and something else runs: a digest that the admission doesn't cover."""


@dataclass(frozen=True, slots=True)
class RunningImage:
    """One image of a specification, and what runs of it."""

    reference: str
    digests: tuple[Digest, ...]
    """What the nodes say runs, each once."""
    match: Match


def persisted(
    context: Context,
    at: datetime,
    claimed: Claimed,
    thing: Thing,
    *,
    operation: Operation,
    seen: Seen = Seen.OBSERVED,
) -> dict[str, Any]:
    """Claim that an admitted change was stored (a deletion: that the object is gone)."""
    tree = _of_change(Kind.PERSISTED, context, at, claimed, thing) | {
        "operation": operation.value,
        "seen": seen.value,
        **_images(thing.images),
    }
    return settle_within(tree, Roster())


def running(
    context: Context,
    at: datetime,
    claimed: Claimed,
    thing: Thing,
    images: Sequence[RunningImage],
    *,
    desired: int,
    ready: int,
) -> dict[str, Any]:
    """Claim that a change is rolled out: ``ready`` of ``desired`` pods, and what they run."""
    shown = images[:MAX_IMAGES]
    tree = _of_change(Kind.RUNNING, context, at, claimed, thing) | {
        "desired": desired,
        "ready": ready,
        "images": [_running(image) for image in shown],
        "allImages": len(shown) == len(images),
    }
    return settle_within(tree, Roster())


def ended(
    context: Context,
    at: datetime,
    claimed: Claimed,
    thing: Thing,
    *,
    cause: End,
    by: Digest | None = None,
) -> dict[str, Any]:
    """Claim that a change holds no more; ``by`` is the ``changeId`` of what ended it."""
    unknown = Absence.NOT_APPLICABLE if cause is End.COMPLETED else Absence.NOT_FOUND
    tree = _of_change(Kind.ENDED, context, at, claimed, thing) | {
        "cause": cause.value,
        "by": known(None if by is None else str(by), unknown),
    }
    return settle_within(tree, Roster())


def not_persisted(
    context: Context, at: datetime, claimed: Claimed, thing: Thing, *, cause: NotPersisted
) -> dict[str, Any]:
    """Claim that nothing shows an admitted change to have been stored."""
    tree = _of_change(Kind.NOT_PERSISTED, context, at, claimed, thing) | {"cause": cause.value}
    return settle_within(tree, Roster())


def discrepancy(
    context: Context,
    at: datetime,
    thing: Thing,
    *,
    why: Why,
    change: Digest,
    claim: int | None = None,
    digests: Sequence[Digest] = (),
    since: datetime | None = None,
    armed: bool | None = None,
) -> dict[str, Any]:
    """Claim that something is there, or runs, that no admission explains.

    ``change`` is the ``changeId`` that its admission would have. ``digests`` are those
    that run and were not admitted. ``since``: when it was there first, as far as known.
    ``armed``: whether the gate was, as far as known, when it came.
    """
    shown = digests[:MAX_IMAGES]
    tree = head(Kind.DISCREPANCY, context, at) | {
        "why": why.value,
        "changeId": str(change),
        "claim": known(claim, Absence.NOT_FOUND),
        "object": _object(thing, Absence.NOT_VERIFIED),
        **_images(thing.images),
        "running": [str(digest) for digest in shown],
        "since": known(None if since is None else stamp(since), Absence.NOT_FOUND),
        "armed": known(armed, Absence.UNAVAILABLE),
    }
    return settle_within(tree, Roster())


def baseline(context: Context, at: datetime, things: Sequence[Thing]) -> list[dict[str, Any]]:
    """Claim what was there before the gate was armed: in as many entries as it takes."""
    groups: list[list[Thing]] = [[]]
    size = 0
    for thing in things:
        size += _OBJECT + _IMAGE * min(len(thing.images), MAX_IMAGES)
        if groups[-1] and size > _TOGETHER:
            groups.append([])
            size = _OBJECT + _IMAGE * min(len(thing.images), MAX_IMAGES)
        groups[-1].append(thing)
    claims = []
    for part, group in enumerate(groups, 1):
        tree = head(Kind.BASELINE, context, at) | {
            "count": len(things),
            "part": part,
            "parts": len(groups),
            "objects": [
                _object(thing, Absence.NOT_VERIFIED) | _images(thing.images) for thing in group
            ],
        }
        claims.append(settle_within(tree, Roster()))
    return claims


def _of_change(
    kind: Kind, context: Context, at: datetime, claimed: Claimed, thing: Thing
) -> dict[str, Any]:
    return head(kind, context, at) | {
        "changeId": str(claimed.change),
        "claim": claimed.index,
        "object": _object(thing),
    }


def _object(thing: Thing, without: Absence = Absence.NOT_APPLICABLE) -> dict[str, Any]:
    """``without``: why there is no digest of its specification, if there is none."""
    key = thing.key
    spec = Null(without) if thing.spec is None else str(thing.spec)
    return {
        "group": key.kind.group,
        "kind": key.kind.kind,
        "namespace": key.namespace,
        "name": key.name,
        "uid": known(thing.uid),
        "generation": known(thing.generation, Absence.NOT_APPLICABLE),
        "specDigest": spec,
    }


def _images(references: Iterable[str]) -> dict[str, Any]:
    each = list(dict.fromkeys(references))
    shown = each[:MAX_IMAGES]
    return {
        "images": [image_digest(reference) for reference in shown],
        "allImages": len(shown) == len(each),
    }


def _running(image: RunningImage) -> dict[str, Any]:
    digest = digest_in(image.reference)
    return {
        "reference": image.reference,
        "digest": known(None if digest is None else str(digest), Absence.NO_DIGEST),
        "running": [str(one) for one in image.digests],
        "match": image.match.value,
    }
