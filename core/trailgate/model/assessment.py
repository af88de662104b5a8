"""A request, put as a question to the policies, and the whole answer to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from trailgate.model.admission import AdmissionRequest, Caller, ContainerImage, Operation
from trailgate.model.decision import Decision
from trailgate.model.digest import Digest


class ChangeClass(StrEnum):
    """What kind of change a request is: docs/explanation/what-counts-as-a-change.md."""

    ROOT = "root"
    """A person's or pipeline's change: verified, callers apply, recorded."""
    CHILD = "child"
    """A built-in controller carrying out an admitted template: digests checked, not recorded."""
    NO_DELTA = "no-delta"
    """Nothing that runs changes (a positive list): allowed, not recorded."""
    DELETE = "delete"
    """Recorded, never verified; callers apply only where the policy denies deletion."""
    MIRROR = "mirror"
    """A kubelet's mirror of a static pod: allowed, recorded."""
    SCALE = "scale"
    """More replicas of an unchanged template: allowed, and each one recorded."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the policies are asked: everything ``decide`` may know of the request."""

    namespace: str
    caller: Caller
    change_class: ChangeClass
    operation: Operation
    images: tuple[ContainerImage, ...]
    inherited: frozenset[str] = frozenset()
    """Image strings that a verified owner's admitted template has too: for a child these
    need a verified signature only, because freshness, callers and newer rules bind roots."""
    cluster: str | None = None
    at: datetime | None = None
    """Now, UTC; expiry and age are measured against it. Required where a policy has either."""


@dataclass(frozen=True, slots=True)
class Previous:
    """The object before this change."""

    spec_digest: Digest
    images: tuple[str, ...]
    """Image strings of the old specification."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """The whole answer to one admission request."""

    request: AdmissionRequest
    change_class: ChangeClass
    decision: Decision
    decided_at: datetime
    message: str = ""
    """The denial as the user reads it; empty when allowed."""
    warnings: tuple[str, ...] = ()
    """For kubectl to print: at most 120 characters each."""
    spec_digest: Digest | None = None
    """SHA-256 of the canonical JSON of ``spec`` (null for DELETE)."""
    previous: Previous | None = None
    delta: tuple[str, ...] = ()
    """JSON pointers of what changed, never values; on CREATE just ``""``, the whole."""
    changed_images: frozenset[str] = field(default_factory=frozenset)
    """Image strings that are new in this change."""

    @property
    def recorded(self) -> bool:
        """Whether an allowed request of this class is written ahead to the spool."""
        return not self.request.dry_run and self.change_class in (
            ChangeClass.ROOT,
            ChangeClass.DELETE,
            ChangeClass.MIRROR,
            ChangeClass.SCALE,
        )
