"""Evidence: what a signature proved about an image, as facts without a verdict.

A fact says who signed what. Whether that is enough is the policy's business, and
is worked out anew at every admission (facts are cached, verdicts never).
Times are timezone-aware UTC ``datetime``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason


class StatementKind(StrEnum):
    """The four statements (docs/reference/statements.md); no type stands in for another."""

    SIGNATURE = "signature"
    PROVENANCE = "provenance"
    TESTS = "tests"
    CHANGE = "change"


class EvidenceFormat(StrEnum):
    """How a statement was stored."""

    BUNDLE = "bundle"
    """Sigstore bundle v0.3, by OCI referrer or fallback tag."""
    LEGACY = "legacy"
    """cosign's ``.sig`` and ``.att`` tags."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who made a signature that verified."""

    fingerprint: str
    """Of a public key: ``sha256:<hex>`` over its DER SubjectPublicKeyInfo."""

    def __str__(self) -> str:
        return f"key {self.fingerprint}"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that a policy trusts, as verification material."""

    fingerprint: str
    """``sha256:<hex>`` over ``der``."""
    der: bytes = field(repr=False)
    """SubjectPublicKeyInfo, DER."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a role in a change.

    ``id`` is immutable and names its issuer: ``github:1001``, ``gitlab.example:7``,
    ``git.example:3000:7`` or ``git:<e-mail>``. Logins and names are for display, never compared.
    """

    id: str
    login: str | None = None
    name: str | None = None
    bot: bool = False

    @property
    def by_forge(self) -> bool:
        """Whether a forge vouches for the id (``git:`` e-mails are self-asserted)."""
        return self.issuer not in ("", "git") and not self.id.endswith(":")

    @property
    def issuer(self) -> str:
        """Who gave the id: a forge, with its port where it has one; ``git``; empty for nobody.

        Everything before the last colon, as ports have one too (``git.example:3000:7``);
        an e-mail address may hold anything.
        """
        return "git" if self.id.startswith("git:") else self.id.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class SimpleSignature:
    """The image was signed; nothing more is said (cosign sign, simple signing)."""

    docker_reference: str | None = None
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the image was built: https://slsa.dev/spec/v1.1/provenance."""

    repository: str
    """Source repository URI, normalised: ``https://host/path`` without ``git+`` and ``.git``."""
    commit: str
    """40 (SHA-1) or 64 (SHA-256) lower-case hex digits."""
    ref: str | None
    builder: str
    build_type: str
    run: str | None = None
    """Invocation id: usually the CI run's URL."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    """Other external parameters, flattened to JSON pointer and JSON text."""


class TestVerdict(StrEnum):
    """https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md."""

    __test__ = False  # not a pytest class

    PASSED = "PASSED"
    WARNED = "WARNED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class TestResult:
    """What a test run said, for one commit."""

    __test__ = False  # not a pytest class

    verdict: TestVerdict
    commit: str | None
    repository: str | None = None
    run: int | None = None
    """Tests executed (skipped ones are not)."""
    failed: int | None = None
    skipped: int | None = None
    suites: tuple[str, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    junit: Digest | None = None
    url: str | None = None


class Basis(StrEnum):
    """Where a change record's facts come from."""

    FORGE_API = "forge-api"
    ASSERTED = "asserted"


class ApprovalBinding(StrEnum):
    """What an approval was given to."""

    COMMIT = "commit"
    """The shipped commit itself."""
    TREE = "tree"
    """Another commit with the same tree."""
    FORGE_MERGE = "forge-merge"
    """The head that the forge merged into the shipped commit."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One reviewer's verdict on one commit."""

    person: Person
    state: str
    """``APPROVED``, ``CHANGES_REQUESTED``, ``DISMISSED``, ``COMMENTED``."""
    commit: str
    at: datetime
    binding: ApprovalBinding
    uri: str | None = None
    tree: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentApproval:
    """Somebody let this run deploy to an environment."""

    person: Person
    environment: str
    at: datetime
    run: str | None = None
    state: str = "APPROVED"


@dataclass(frozen=True, slots=True)
class ReviewedChange:
    """One reviewed unit (pull or merge request) inside the range that is shipped."""

    uri: str
    head_commit: str
    commits: tuple[str, ...]
    merge_commit: str | None = None
    merged_by: Person | None = None
    opened_at: datetime | None = None
    merged_at: datetime | None = None
    approvals: tuple[Approval, ...] = ()
    committers: tuple[Person, ...] = ()
    """Authors, co-authors and committers of ``commits``."""
    last_pusher: Person | None = None


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Which commits a change record covers: everything in ``from..to``."""

    repository: str
    ref: str | None
    to: str
    tree: str | None
    start: str | None
    """The ``from`` commit, exclusive; None is a recorded baseline."""
    commits: tuple[str, ...] = ()
    """All commits of the range, ``to`` among them."""


@dataclass(frozen=True, slots=True)
class DeploymentTarget:
    """Where a change record says that it may be deployed; None is anywhere."""

    cluster: str | None = None
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """Who wrote, reviewed and approved what is shipped.

    A SLSA VSA (https://slsa.dev/spec/v1.1/verification_summary) whose extension
    field ``https://trailgate.dev/change-record/v1`` names the people.
    """

    verifier: str
    """``verifier.id``: who says so; only known (signer, verifier) pairs count."""
    passed: bool
    """``verificationResult`` is PASSED."""
    levels: tuple[str, ...]
    basis: Basis
    source: SourceRange
    changes: tuple[ReviewedChange, ...]
    committers: tuple[Person, ...]
    """All authors, co-authors and committers of the whole range."""
    unmapped_authors: tuple[str, ...] = ()
    """Commits whose author the forge could not name."""
    deployment_approvals: tuple[DeploymentApproval, ...] = ()
    target: DeploymentTarget | None = None
    ticket: str | None = None
    verified_at: datetime | None = None
    basis_digest: Digest | None = None
    """Of the raw forge API answer, with basis forge-api."""


Predicate = SimpleSignature | Provenance | TestResult | ChangeRecord


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement about the image whose signature verified."""

    kind: StatementKind
    predicate_type: str
    predicate: Predicate
    signer: Signer
    format: EvidenceFormat
    digest: Digest
    """Of the stored envelope or bundle, so that the trail can name it."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something found beside the image that proves nothing, and why."""

    reason: Reason
    detail: str
    """For a person; never a response body."""
    digest: Digest | None = None
    predicate_type: str | None = None
    """As claimed: nothing vouches for it."""
    signer_hint: str | None = None
    """The key the envelope claims, ``sha256:<hex>`` where it could be read: unverified."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known about one image digest in one repository."""

    image: ImageReference
    """By digest, without a tag."""
    statements: tuple[Statement, ...]
    rejected: tuple[Rejected, ...] = ()
    platforms: tuple[Digest, ...] = ()
    """The platform manifests, where the digest names an index."""
    unread: tuple[str, ...] = ()
    """For a person: what lies beside the image and could not be read. While there is any,
    nobody knows that a failed test or a withdrawn approval is not in it."""

    def of_kind(self, kind: StatementKind) -> tuple[Statement, ...]:
        """Return the verified statements of one kind, in the order found."""
        return tuple(statement for statement in self.statements if statement.kind is kind)


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Evidence that could not be fetched. Never the same as evidence that is not there."""

    image: ImageReference
    detail: str
    """For a person: host and cause, never a response body."""


@dataclass(frozen=True, slots=True)
class UnresolvedTag:
    """A tag where a digest is needed, and what it names just now, where known."""

    image: ImageReference
    current: Digest | None = None


Gathered = Evidence | Unavailable | UnresolvedTag
