"""Refusals, counted: so that a laptop in a loop can't fill the trail, and nothing is unsaid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from trailgate.ledger.claim import Context, Kind, caller_entry, head, policy_entry
from trailgate.ledger.form import Roster, known, settle_within, stamp
from trailgate.ledger.images import digest_of, reference_of
from trailgate.model.admission import AdmissionRequest, Caller, ObjectKey
from trailgate.model.assessment import Assessment
from trailgate.model.decision import ImageVerdict, PolicyReference
from trailgate.model.digest import Digest
from trailgate.model.reason import Absence, Reason

_IMAGES = 32  # of one group that are told, at most


@dataclass(frozen=True, slots=True)
class RefusalGroup:
    """Requests of one user in one namespace, turned away for one reason in one minute."""

    caller: Caller
    """As in the first of them."""
    namespace: str
    reason: Reason
    """The first reason of each refusal: its headline."""
    count: int
    first: ObjectKey
    first_at: datetime
    last: ObjectKey
    last_at: datetime
    reasons: frozenset[Reason]
    """All reasons of all of them."""
    images: tuple[tuple[str, Digest | None], ...]
    """(as written, digest): the images that were refused, without repetition."""
    all_images: bool
    """Whether ``images`` has them all."""
    policies: tuple[PolicyReference, ...]


def refused(group: RefusalGroup, context: Context) -> dict[str, Any]:
    """Claim that requests were turned away."""
    roster = Roster()
    tree = head(Kind.REFUSED, context, group.last_at) | {
        "outcome": "refused",
        "enforced": True,
        "caller": caller_entry(group.caller, roster),
        "namespace": group.namespace,
        "reason": group.reason.value,
        "reasons": sorted(reason.value for reason in group.reasons),
        "count": group.count,
        "first": _at(group.first, group.first_at),
        "last": _at(group.last, group.last_at),
        "images": [
            {
                "reference": image,
                "digest": known(None if digest is None else str(digest), Absence.NO_DIGEST),
            }
            for image, digest in group.images
        ],
        "allImages": group.all_images,
        "policies": [policy_entry(policy) for policy in group.policies],
    }
    return settle_within(tree, roster)


def _at(key: ObjectKey, moment: datetime) -> dict[str, Any]:
    return {
        "group": key.kind.group,
        "kind": key.kind.kind,
        "namespace": key.namespace,
        "name": key.name,
        "at": stamp(moment),
    }


@dataclass(slots=True)
class _Counting:
    """A group that is still being counted."""

    caller: Caller
    first: ObjectKey
    first_at: datetime
    last: ObjectKey
    last_at: datetime
    count: int = 0
    reasons: set[Reason] = field(default_factory=set)
    images: dict[str, Digest | None] = field(default_factory=dict)
    all_images: bool = True
    policies: dict[tuple[str, Digest], PolicyReference] = field(default_factory=dict)


_Key = tuple[str, str, Reason, datetime]


class Refusals:
    """A bounded count of refusals; whoever owns the spool drains it every few seconds.

    For one thread. What doesn't fit any more is counted in ``dropped`` and belongs into
    a ``gap`` record (``GapCause.REFUSALS_DROPPED``).
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._groups: dict[_Key, _Counting] = {}
        self._returned: list[RefusalGroup] = []
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._groups) + len(self._returned)

    def add(self, assessment: Assessment) -> int:
        """Count one; requests that were allowed, and dry runs, are none.

        Gives how many were dropped: 0 or 1.
        """
        decision = assessment.decision
        if decision.allowed:
            return 0
        found = [finding.reason for finding in decision.denying] or [Reason.INTERNAL]
        group = self._group(assessment.request, found[0], assessment.decided_at)
        if group is not None:
            group.reasons |= set(found)
            _tell(group, decision.images, decision.policies)
        return self._drop(assessment.request, group)

    def add_undecided(
        self,
        request: AdmissionRequest,
        reason: Reason,
        at: datetime,
        policies: Iterable[PolicyReference] = (),
    ) -> int:
        """Count one that was turned away without, or in spite of, what the policies say.

        Gives how many were dropped: 0 or 1. A dry run is none.
        """
        group = self._group(request, reason, at)
        if group is not None:
            group.reasons.add(reason)
            _tell(group, (), policies)
        return self._drop(request, group)

    def _group(self, request: AdmissionRequest, reason: Reason, at: datetime) -> _Counting | None:
        """Count it in its group; None where it is in none."""
        minute = at.replace(second=0, microsecond=0)
        key = (request.caller.username, request.namespace, reason, minute)
        if request.dry_run or (key not in self._groups and len(self) >= self._limit):
            return None
        new = _Counting(request.caller, request.key, at, request.key, at)
        group = self._groups.setdefault(key, new)
        group.count += 1
        group.last, group.last_at = request.key, at
        return group

    def _drop(self, request: AdmissionRequest, group: _Counting | None) -> int:
        dropped = 1 if group is None and not request.dry_run else 0
        self._dropped += dropped
        return dropped

    def take(self, limit: int = 64) -> tuple[tuple[RefusalGroup, ...], int]:
        """Take out at most ``limit`` groups, oldest first, and the number dropped.

        A minute that is taken twice gives two groups: their counts add up.
        """
        keys = list(self._groups)
        self._returned += [_group(key, self._groups.pop(key)) for key in keys]
        taken, self._returned = self._returned[:limit], self._returned[limit:]
        dropped, self._dropped = self._dropped, 0
        return tuple(taken), dropped


def _tell(
    group: _Counting, images: Iterable[ImageVerdict], policies: Iterable[PolicyReference]
) -> None:
    for verdict in images:
        reference = reference_of(verdict)
        if not verdict.findings or reference in group.images:
            continue
        if len(group.images) >= _IMAGES:
            group.all_images = False
            continue
        group.images[reference] = digest_of(verdict)
    for policy in policies:
        group.policies[policy.name, policy.digest] = policy


def _group(key: _Key, counting: _Counting) -> RefusalGroup:
    _user, namespace, reason, _minute = key
    return RefusalGroup(
        caller=counting.caller,
        namespace=namespace,
        reason=reason,
        count=counting.count,
        first=counting.first,
        first_at=counting.first_at,
        last=counting.last,
        last_at=counting.last_at,
        reasons=frozenset(counting.reasons),
        images=tuple(counting.images.items()),
        all_images=counting.all_images,
        policies=tuple(counting.policies.values()),
    )
