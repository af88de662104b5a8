"""Which verified statements may speak for a requirement, and why there are none.

A statement speaks only for its own kind, in the form that kind has, by a signer that
the policy names for it. Everything else is as if it were not there, except that the
reason says what was there instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trailgate.model.decision import Check
from trailgate.model.evidence import (
    ChangeRecord,
    Evidence,
    Provenance,
    Rejected,
    SimpleSignature,
    Statement,
    StatementKind,
    TestResult,
)
from trailgate.model.reason import Reason
from trailgate.policy.compiled import Signers
from trailgate.policy.failure import Failure, listed

Sorted = Mapping[StatementKind, Sequence[Statement]]

_FORM: dict[StatementKind, type] = {
    StatementKind.SIGNATURE: SimpleSignature,
    StatementKind.PROVENANCE: Provenance,
    StatementKind.TESTS: TestResult,
    StatementKind.CHANGE: ChangeRecord,
}
#: The predicate types of each kind; a simple signature's own type stands for one.
TYPES: dict[StatementKind, tuple[str, ...]] = {
    StatementKind.SIGNATURE: (
        "https://sigstore.dev/cosign/sign/v1",
        "cosign container image signature",
    ),
    StatementKind.PROVENANCE: ("https://slsa.dev/provenance/v1",),
    StatementKind.TESTS: ("https://in-toto.io/attestation/test-result/v0.1",),
    StatementKind.CHANGE: ("https://slsa.dev/verification_summary/v1",),
}
_KINDS = {name: kind for kind, names in TYPES.items() for name in names}
_NEEDED = {
    Check.SIGNATURE: StatementKind.SIGNATURE,
    Check.PROVENANCE: StatementKind.PROVENANCE,
    Check.REVIEW: StatementKind.CHANGE,
    Check.DEPLOYMENT_APPROVAL: StatementKind.CHANGE,
    Check.TESTS: StatementKind.TESTS,
}
_MISSING = {
    Check.SIGNATURE: (Reason.SIGNATURE_MISSING, "signature"),
    Check.PROVENANCE: (Reason.PROVENANCE_MISSING, "provenance"),
    Check.REVIEW: (Reason.REVIEW_MISSING, "change record"),
    Check.DEPLOYMENT_APPROVAL: (Reason.DEPLOYMENT_APPROVAL_MISSING, "change record"),
    Check.TESTS: (Reason.TESTS_MISSING, "test result"),
}
# What says most about why a statement of the right kind did not count comes first.
_TELLING = (
    Reason.SIGNATURE_INVALID,
    Reason.SIGNER_MISMATCH,
    Reason.EVIDENCE_MISMATCH,
    Reason.PREDICATE_MISMATCH,
    Reason.MALFORMED,
    Reason.EVIDENCE_UNAVAILABLE,
)


def sort_out(evidence: Evidence) -> Sorted:
    """Sort the statements by kind; one that has not its kind's form and type is left out."""
    found: dict[StatementKind, list[Statement]] = {}
    for statement in evidence.statements:
        kind = statement.kind
        if isinstance(statement.predicate, _FORM[kind]) and statement.predicate_type in TYPES[kind]:
            found.setdefault(kind, []).append(statement)
    return found


def trusted(found: Sorted, check: Check, signers: Signers) -> tuple[Statement, ...]:
    """Return the statements that one of the signers made."""
    names = signers.names
    return tuple(item for item in found.get(_NEEDED[check], ()) if item.signer.fingerprint in names)


def absence(found: Sorted, check: Check, signers: Signers, evidence: Evidence) -> Failure:
    """Say why no statement counts: another signer, one that did not verify, or none."""
    kind = _NEEDED[check]
    missing, noun = _MISSING[check]
    expected = f"{noun} by {signers}"
    others = found.get(kind, ())
    if others:
        got = f"{noun} by {listed(str(item.signer) for item in others)}"
        return Failure(Reason.SIGNER_MISMATCH, got, expected, check)
    rejected = _telling(evidence.rejected, kind)
    if rejected is not None:
        return Failure(rejected.reason, _said(rejected, noun), expected, check)
    return Failure(missing, f"no {noun}", expected, check)


def _telling(rejected: Sequence[Rejected], kind: StatementKind) -> Rejected | None:
    relevant = [item for item in rejected if item.reason in _TELLING and _concerns(item, kind)]
    if not relevant:
        return None
    return min(relevant, key=_how_telling)


def _how_telling(item: Rejected) -> tuple[int, str, str, str]:
    claims = item.predicate_type or "", item.signer_hint or ""
    return _TELLING.index(item.reason), item.detail, *claims


def _concerns(item: Rejected, kind: StatementKind) -> bool:
    """Whether it claims to be of this kind; what claims no known kind stands for a signature."""
    claimed = _KINDS.get(item.predicate_type or "")
    return claimed is kind or (claimed is None and kind is StatementKind.SIGNATURE)


def _said(item: Rejected, noun: str) -> str:
    if item.reason is Reason.SIGNER_MISMATCH and item.signer_hint:
        return f"{noun} that claims key {item.signer_hint}"
    if item.reason is Reason.PREDICATE_MISMATCH and item.predicate_type:
        return f"only {item.predicate_type}, which is no {noun}"
    return f"{noun} that proves nothing: {item.detail}"
