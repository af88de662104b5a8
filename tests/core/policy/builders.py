"""The smallest world in which a change is admitted, and ways to alter one thing in it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trailgate.model.admission import Caller, ContainerClass, ContainerImage, Operation
from trailgate.model.assessment import ChangeClass, Question
from trailgate.model.decision import Decision
from trailgate.model.digest import Digest
from trailgate.model.evidence import (
    Approval,
    ApprovalBinding,
    Basis,
    ChangeRecord,
    DeploymentApproval,
    Evidence,
    EvidenceFormat,
    Gathered,
    Person,
    Predicate,
    Provenance,
    ReviewedChange,
    Signer,
    SimpleSignature,
    SourceRange,
    Statement,
    StatementKind,
    TestResult,
    TestVerdict,
)
from trailgate.model.image import ImageReference
from trailgate.model.key import public_key
from trailgate.policy.decide import decide
from trailgate.policy.parse import parse_policy

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = Digest("a" * 64)
OTHER_DIGEST = Digest("b" * 64)
REPOSITORY = "ghcr.io/acme/web"
IMAGE = f"{REPOSITORY}@{DIGEST}"
SOURCE = "https://github.com/acme/web"
BASE, HEAD, OLDER, OTHER = "0" * 40, "1" * 40, "2" * 40, "3" * 40
MERGE, TREE = "4" * 40, "5" * 40
BUILDER = "https://github.com/acme/ci/.github/workflows/build.yml@refs/tags/v1"
VERIFIER = "https://github.com/acme/ci/.github/workflows/change.yml@refs/tags/v1"
ALICE = Person("github:1001", "alice")
BOB = Person("github:2002", "bob")
CAROL = Person("github:3003", "carol")
PULL = "https://github.com/acme/web/pull/42"
DEPLOYER = Caller(
    "system:serviceaccount:ci:deployer",
    groups=("system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"),
    extra={
        "authentication.kubernetes.io/credential-id": ("JTI=0b9d1c7e-92e4-4b7e-8a53-0d8a6c4f1a01",)
    },
)
SIGN = "https://sigstore.dev/cosign/sign/v1"
SLSA = "https://slsa.dev/provenance/v1"
TEST = "https://in-toto.io/attestation/test-result/v0.1"
VSA = "https://slsa.dev/verification_summary/v1"


@cache
def pem(name: str) -> str:
    """A P-256 public key that is always the same for one name."""
    secret = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1
    key = ec.derive_private_key(secret, ec.SECP256R1())
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


@cache
def signer(name: str) -> Signer:
    return Signer(public_key(pem(name).encode()).fingerprint)


def signers(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "key": pem(name)} for name in names]


def document(**changes: Any) -> dict[str, Any]:
    """A policy that asks for everything; ``changes`` replace parts of its spec."""
    spec: dict[str, Any] = {
        "mode": "Enforce",
        "namespaces": ["shop"],
        "callers": {"serviceAccounts": ["ci/deployer"]},
        "rules": [rule()],
    }
    spec |= changes
    return {
        "apiVersion": "trailgate.dev/v1alpha1",
        "kind": "DeployPolicy",
        "metadata": {"name": "production"},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


def rule(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "name": "web",
        "images": [REPOSITORY],
        "source": {"repositories": [SOURCE]},
        "signature": {"signers": signers("build")},
        "provenance": {"signers": signers("build"), "builders": [BUILDER]},
        "review": {"signers": signers("review"), "verifiers": [VERIFIER]},
        "deploymentApproval": {"signers": signers("review"), "environment": "production"},
        "tests": {"signers": signers("build")},
    }
    whole |= changes
    return {key: copy.deepcopy(value) for key, value in whole.items() if value is not None}


def policy(name: str = "production", **changes: Any) -> Any:
    value = document(**changes)
    value["metadata"]["name"] = name
    return parse_policy(value)


def approval(person: Person = BOB, commit: str = HEAD, **changes: Any) -> Approval:
    value = Approval(
        person, "APPROVED", commit, NOW - timedelta(hours=3), ApprovalBinding.COMMIT, PULL + "#1"
    )
    return replace(value, **changes)


def reviewed(**changes: Any) -> ReviewedChange:
    value = ReviewedChange(
        PULL,
        HEAD,
        (HEAD,),
        approvals=(approval(),),
        committers=(ALICE,),
        last_pusher=ALICE,
    )
    return replace(value, **changes)


def source(**changes: Any) -> SourceRange:
    value = SourceRange(SOURCE, "refs/heads/main", HEAD, TREE, BASE, (HEAD,))
    return replace(value, **changes)


def record(**changes: Any) -> ChangeRecord:
    value = ChangeRecord(
        VERIFIER,
        passed=True,
        levels=("SLSA_SOURCE_TWO_PARTY_REVIEWED",),
        basis=Basis.FORGE_API,
        source=source(),
        changes=(reviewed(),),
        committers=(ALICE,),
        deployment_approvals=(
            DeploymentApproval(CAROL, "production", NOW - timedelta(hours=1), "run/1"),
        ),
        verified_at=NOW - timedelta(minutes=30),
    )
    return replace(value, **changes)


def provenance(**changes: Any) -> Provenance:
    value = Provenance(
        SOURCE, HEAD, "refs/heads/main", BUILDER, "https://example.test/build", "run/1"
    )
    return replace(value, **changes)


def result(**changes: Any) -> TestResult:
    value = TestResult(
        TestVerdict.PASSED,
        HEAD,
        SOURCE,
        run=12,
        failed=0,
        skipped=1,
        suites=("unit",),
        started_at=NOW - timedelta(hours=2, minutes=5),
        finished_at=NOW - timedelta(hours=2),
    )
    return replace(value, **changes)


_KINDS: dict[type, tuple[StatementKind, str]] = {
    SimpleSignature: (StatementKind.SIGNATURE, SIGN),
    Provenance: (StatementKind.PROVENANCE, SLSA),
    TestResult: (StatementKind.TESTS, TEST),
    ChangeRecord: (StatementKind.CHANGE, VSA),
}


def statement(predicate: Predicate, by: str | None = None, **changes: Any) -> Statement:
    kind, predicate_type = _KINDS[type(predicate)]
    name = by or ("review" if kind is StatementKind.CHANGE else "build")
    digest = Digest.of(f"{name} {predicate!r}".encode())
    value = Statement(kind, predicate_type, predicate, signer(name), EvidenceFormat.BUNDLE, digest)
    return replace(value, **changes)


def statements(**changes: Any) -> dict[str, Statement | None]:
    """All four, by name; ``None`` leaves one out."""
    whole = {
        "signature": statement(SimpleSignature()),
        "provenance": statement(provenance()),
        "tests": statement(result()),
        "change": statement(record()),
    }
    return whole | changes


def evidence(*extra: Statement, rejected: Any = (), **changes: Any) -> Evidence:
    found = [item for item in statements(**changes).values() if item is not None]
    return Evidence(ImageReference.parse(IMAGE), (*found, *extra), tuple(rejected))


def container(image: str = IMAGE, name: str = "web") -> ContainerImage:
    return ContainerImage(name, ContainerClass.CONTAINER, image)


def question(**changes: Any) -> Question:
    value = Question(
        "shop",
        DEPLOYER,
        ChangeClass.ROOT,
        Operation.CREATE,
        (container(),),
        cluster="c1",
        at=NOW,
    )
    return replace(value, **changes)


def verdict(
    given: Gathered | None = None,
    *,
    policies: Any = None,
    ask: Question | None = None,
    image: str = IMAGE,
) -> Decision:
    """Decide on one image, by default all as it should be."""
    asked = ask or question(images=(container(image),))
    gathered = {image: given if given is not None else evidence()}
    return decide(asked, gathered, [policy()] if policies is None else policies)


def reasons(decision: Decision) -> list[str]:
    return [finding.reason.value for finding in decision.findings]


Alter = Callable[[], Decision]
