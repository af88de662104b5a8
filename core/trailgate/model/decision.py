"""What the gate decided, with everything needed to explain and to record it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from trailgate.model.admission import ContainerImage
from trailgate.model.digest import Digest
from trailgate.model.evidence import DeploymentApproval, Statement
from trailgate.model.image import ImageReference
from trailgate.model.reason import RETRYABLE, Reason
from trailgate.model.review import Reviewed


class Mode(StrEnum):
    """What a policy does with a negative verdict, from mild to severe."""

    AUDIT = "Audit"
    """Record it."""
    WARN = "Warn"
    """Record it and warn the caller."""
    ENFORCE = "Enforce"
    """Deny."""

    @property
    def severity(self) -> int:
        """0, 1, 2: the most severe mode of the policies that fail wins."""
        return list(Mode).index(self)


class Check(StrEnum):
    """The seven questions an auditor asks of a change."""

    SIGNATURE = "signature"
    PROVENANCE = "provenance"
    REVIEW = "review"
    DEPLOYMENT_APPROVAL = "deploymentApproval"
    TESTS = "tests"
    CALLER = "caller"
    CONFIGURATION = "configuration"


class CheckResult(StrEnum):
    """The answer to one of them. ``not-attested`` is for ``configuration`` only."""

    MET = "met"
    NOT_MET = "not-met"
    UNDETERMINED = "undetermined"
    NOT_REQUIRED = "not-required"
    NOT_ATTESTED = "not-attested"


@dataclass(frozen=True, slots=True)
class PolicyReference:
    """Which policy, in which version."""

    name: str
    generation: int | None
    """None for a policy from a file."""
    digest: Digest
    """Of the canonical JSON of its spec."""
    mode: Mode


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason against a request: what was got, what was expected, by which rule."""

    reason: Reason
    got: str
    expected: str
    policy: str | None = None
    rule: str | None = None
    image: str | None = None
    """As written in the spec; None where the finding is about the request itself."""
    check: Check | None = None
    mode: Mode = Mode.ENFORCE
    moved_to: Digest | None = None
    """With ``SignatureMissing``: what the tag names now, when it has moved."""
    retryable: bool = False
    """Could not be determined, though the code is usually a definite no."""
    permanent: bool = False
    """Trying again won't help, though with this code it usually may."""


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """What was found for one image of the request."""

    containers: tuple[ContainerImage, ...]
    """All uses of this image in the object."""
    image: ImageReference | None
    """None where the string could not be parsed."""
    statements: tuple[Statement, ...] = ()
    """Verified statements that a policy's signers cover: the ones that counted."""
    reviews: tuple[Reviewed, ...] = ()
    """The records by which policies decided the review; each is in ``statements`` too."""
    deployments: tuple[DeploymentApproval, ...] = ()
    """The approvals to deploy that a policy counts; empty where none asks or none counts."""
    platforms: tuple[Digest, ...] = ()
    checks: dict[Check, CheckResult] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    third_party: bool = False
    self_asserted: bool = False
    """One key could sign both build and review, and the policy allowed it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one request under all policies that match its namespace."""

    allowed: bool
    """What the API server is told."""
    findings: tuple[Finding, ...]
    """All reasons against it, also those that the mode did not enforce."""
    images: tuple[ImageVerdict, ...]
    checks: dict[Check, CheckResult]
    policies: tuple[PolicyReference, ...]
    """The policies that matched the namespace; empty where none covers it."""

    @property
    def enforced(self) -> bool:
        """Whether any matching policy enforces."""
        return any(policy.mode is Mode.ENFORCE for policy in self.policies)

    @property
    def denying(self) -> tuple[Finding, ...]:
        """The findings that denied it."""
        return tuple(finding for finding in self.findings if finding.mode is Mode.ENFORCE)

    @property
    def retryable(self) -> bool:
        """Whether every denying finding is of the kind that a retry may cure."""
        return bool(self.denying) and all(
            not finding.permanent and (finding.retryable or finding.reason in RETRYABLE)
            for finding in self.denying
        )
