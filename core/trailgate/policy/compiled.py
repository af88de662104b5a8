"""A DeployPolicy ready to decide with: patterns compiled, keys read, nothing optional left open.

Made by ``parse`` alone, so that whatever has one of these types has been checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from trailgate.model.decision import Mode, PolicyReference
from trailgate.model.digest import Digest
from trailgate.model.evidence import PublicKey, Signer
from trailgate.model.image import ImageReference
from trailgate.policy.match import Hosted, Names, Paths


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys trusted for one statement, by fingerprint, with the policy's names for them."""

    names: Mapping[str, str]
    keys: tuple[PublicKey, ...]

    def trust(self, signer: Signer) -> bool:
        """Whether this signer may make the statement."""
        return signer.fingerprint in self.names

    def __str__(self) -> str:
        return " or ".join(
            f'"{name}" (key {fingerprint})' for fingerprint, name in sorted(self.names.items())
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """See ``schema.Signature``."""

    signers: Signers


@dataclass(frozen=True, slots=True)
class Provenance:
    """See ``schema.Provenance`` and ``schema.Source``."""

    signers: Signers
    builders: frozenset[str]
    repositories: Hosted
    refs: Paths | None
    """None: any ref."""
    ref_texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeRequirement:
    """What review and deployment approval ask of the change record itself."""

    signers: Signers
    verifiers: frozenset[str]
    accept_asserted: bool
    allow_self_asserted: bool


@dataclass(frozen=True, slots=True)
class Review(ChangeRequirement):
    """See ``schema.Review``."""

    approvals: int


@dataclass(frozen=True, slots=True)
class DeploymentApproval(ChangeRequirement):
    """See ``schema.DeploymentApproval``."""

    environment: str
    not_committer: bool


@dataclass(frozen=True, slots=True)
class Tests:
    """See ``schema.Tests``."""

    __test__ = False  # not a pytest class

    signers: Signers
    max_age: timedelta | None
    suites: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rule:
    """See ``schema.Rule``; at least one of signature and provenance is there."""

    name: str
    """``rules[0]`` where the policy gives none."""
    images: Hosted
    signature: Signature | None
    provenance: Provenance | None
    review: Review | None
    deployment_approval: DeploymentApproval | None
    tests: Tests | None
    build_keys: frozenset[str]
    """Fingerprints that may sign the image or its provenance."""
    keys: tuple[PublicKey, ...]
    """All keys of all statements, each once, ordered by fingerprint."""


@dataclass(frozen=True, slots=True)
class Callers:
    """See ``schema.Callers``."""

    users: frozenset[str]
    groups: frozenset[str]
    service_accounts: frozenset[tuple[str, str]]
    deny_delete: bool

    def __str__(self) -> str:
        accounts = [f"{namespace}/{name}" for namespace, name in sorted(self.service_accounts)]
        parts = [
            f"{kind} {', '.join(names)}"
            for kind, names in (
                ("service account", accounts),
                ("user", sorted(self.users)),
                ("group", sorted(self.groups)),
            )
            if names
        ]
        return " or ".join(parts)


@dataclass(frozen=True, slots=True)
class ThirdParty:
    """See ``schema.ThirdParty``."""

    image: str
    """Normalised: host and path."""
    digests: frozenset[Digest]
    owner: str
    reason: str
    expiry: datetime


@dataclass(frozen=True, slots=True)
class DeployPolicy:
    """One policy, checked and compiled."""

    reference: PolicyReference
    namespaces: Names
    callers: Callers | None
    rules: tuple[Rule, ...]
    third_party: Mapping[str, tuple[ThirdParty, ...]] = field(default_factory=dict)
    """By normalised host and path."""

    @property
    def name(self) -> str:
        """The object's name."""
        return self.reference.name

    @property
    def mode(self) -> Mode:
        """What a negative verdict does."""
        return self.reference.mode

    def covers(self, namespace: str) -> bool:
        """Whether the policy is for this namespace. What cannot be matched is covered."""
        try:
            return self.namespaces.match(namespace)
        except TypeError:  # not a string: somebody's mistake must not switch a policy off
            return True

    def rule_for(self, image: ImageReference) -> Rule | None:
        """Find the first rule whose patterns match; it alone decides on the image."""
        for rule in self.rules:
            if rule.images.match_image(image):
                return rule
        return None
