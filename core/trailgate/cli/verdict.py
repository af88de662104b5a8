"""How ``trailgate verify`` says what it found: as JSON, and for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from trailgate.cli.output import emit_fields, emit_table, visible
from trailgate.model.artifact import Attached
from trailgate.model.decision import Check, CheckResult, Decision
from trailgate.model.evidence import (
    ChangeRecord,
    Evidence,
    Predicate,
    Provenance,
    Rejected,
    Statement,
    TestResult,
)
from trailgate.model.image import ImageReference
from trailgate.model.reason import RETRYABLE
from trailgate.model.review import given
from trailgate.policy.compiled import DeployPolicy, Rule, ThirdParty

#: What a single image can be asked; the caller and the configuration are the gate's.
CHECKS = tuple(check for check in Check if check not in (Check.CALLER, Check.CONFIGURATION))
_SHORT = len("sha256:") + 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """One policy's answer."""

    policy: DeployPolicy
    rule: Rule | None
    evidence: Evidence | None
    """None where the policy has no key for the image: nothing was looked at."""
    decision: Decision

    @property
    def holds(self) -> bool:
        """Whether nothing is against the image, in whatever mode the policy is."""
        return not self.decision.findings

    @property
    def undetermined(self) -> bool:
        """Whether all that is against it is that something could not be fetched."""
        findings = self.decision.findings
        return bool(findings) and all(f.retryable or f.reason in RETRYABLE for f in findings)

    @property
    def word(self) -> str:
        """``holds``, ``does not hold`` or ``undetermined``."""
        if self.holds:
            return "holds"
        return "undetermined" if self.undetermined else "does not hold"

    @property
    def listing(self) -> ThirdParty | None:
        """The entry by which the image is let in as third party: the one that lasts longest."""
        (image,) = self.decision.images
        if not image.third_party or image.image is None:
            return None
        entries = (self.policy.third_party or {}).get(image.image.name, ())
        naming = [entry for entry in entries if image.image.digest in entry.digests]
        return max(naming, key=lambda entry: entry.expiry, default=None)

    @property
    def counted(self) -> frozenset[Statement]:
        """The statements by signers that the rule trusts."""
        return frozenset(s for image in self.decision.images for s in image.statements)

    @property
    def checks(self) -> dict[Check, CheckResult]:
        """The image's own checks, in a fixed order."""
        (image,) = self.decision.images
        return {check: image.checks[check] for check in CHECKS}


def describe(
    image: ImageReference, attached: Attached | None, verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """Say everything as plain JSON."""
    return {
        "image": str(image),
        "digest": None if attached is None else str(attached.image.digest),
        "platforms": [] if attached is None else [str(p) for p in attached.platforms],
        "skipped": [] if attached is None else list(attached.skipped),
        "policies": [_policy(verdict) for verdict in verdicts],
    }


def print_table(
    image: ImageReference, attached: Attached | None, verdicts: Sequence[Verdict]
) -> None:
    """Say it for a person: one section per policy."""
    digest = None if attached is None else attached.image.digest
    emit_fields({"image": str(image), "digest": digest})
    for verdict in verdicts:
        click.echo()
        _print_policy(verdict)
    for text in () if attached is None else attached.skipped:
        click.echo(f"not read: {visible(text)}")


def _policy(verdict: Verdict) -> dict[str, Any]:
    evidence = verdict.evidence
    return {
        "policy": verdict.policy.name,
        "digest": str(verdict.policy.reference.digest),
        "mode": verdict.policy.mode.value,
        "rule": None if verdict.rule is None else verdict.rule.name,
        "thirdParty": _listing(verdict.listing),
        "verdict": verdict.word,
        "checks": {check.value: result.value for check, result in verdict.checks.items()},
        "findings": [
            {
                "reason": finding.reason.value,
                "check": None if finding.check is None else finding.check.value,
                "got": finding.got,
                "expected": finding.expected,
            }
            for finding in verdict.decision.findings
        ],
        "statements": [
            _statement(one, verdict) for one in (evidence.statements if evidence else ())
        ],
        "rejected": [
            {
                "reason": rejected.reason.value,
                "detail": rejected.detail,
                "predicateType": rejected.predicate_type,
                "digest": None if rejected.digest is None else str(rejected.digest),
            }
            for rejected in (evidence.rejected if evidence else ())
        ],
    }


def _statement(statement: Statement, verdict: Verdict) -> dict[str, Any]:
    return {
        "kind": statement.kind.value,
        "counted": statement in verdict.counted,
        "signer": statement.signer.fingerprint,
        "predicateType": statement.predicate_type,
        "format": statement.format.value,
        "digest": str(statement.digest),
        "says": gist(statement.predicate),
    }


def _listing(entry: ThirdParty | None) -> dict[str, str] | None:
    if entry is None:
        return None
    return {"owner": entry.owner, "reason": entry.reason, "expiry": _time(entry.expiry)}


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print_policy(verdict: Verdict) -> None:
    rule = "no rule for this image" if verdict.rule is None else f"rule {verdict.rule.name}"
    if (listed := verdict.listing) is not None:
        rule = "third party"
    click.echo(
        f"DeployPolicy {verdict.policy.name} ({verdict.policy.mode.value}, {rule}): {verdict.word}"
    )
    if listed is not None:
        told = visible(f"{listed.reason} ({listed.owner})")
        click.echo(f"let in by digest, without evidence, until {_time(listed.expiry)}: {told}")
        return
    findings = verdict.decision.findings
    rows = []
    for check, result in verdict.checks.items():
        found = [finding for finding in findings if finding.check is check]
        rows.append({"check": check.value, "result": result.value, "reason": _reasons(found)})
    emit_table(("check", "result", "reason"), rows)
    for finding in findings:
        click.echo(
            f"- {finding.reason.value}\n"
            f"    got      {visible(finding.got)}\n    expected {visible(finding.expected)}"
        )
    if verdict.evidence is not None:
        _print_evidence(verdict, verdict.evidence)


def _print_evidence(verdict: Verdict, evidence: Evidence) -> None:
    click.echo()
    if not evidence.statements and not evidence.rejected:
        click.echo("nothing is attached to this image")
        return
    names = _names(verdict.rule)
    rows = [
        {
            "statement": statement.kind.value,
            "signed by": names.get(statement.signer.fingerprint)
            or statement.signer.fingerprint[:_SHORT],
            "counts": "yes" if statement in verdict.counted else "no",
            "says": "; ".join(gist(statement.predicate).values()),
        }
        for statement in evidence.statements
    ]
    rows += [_rejected(rejected) for rejected in evidence.rejected]
    emit_table(("statement", "signed by", "counts", "says"), rows)


def _rejected(rejected: Rejected) -> dict[str, str]:
    return {
        "statement": "?" if rejected.predicate_type is None else f"{rejected.predicate_type}?",
        "signed by": (rejected.signer_hint or "?")[:_SHORT],
        "counts": "no",
        "says": f"{rejected.reason.value}: {rejected.detail}",
    }


def _names(rule: Rule | None) -> dict[str, str]:
    """Give the keys the names that the rule has for them."""
    if rule is None:
        return {}
    parts = (rule.signature, rule.provenance, rule.review, rule.deployment_approval, rule.tests)
    return {
        fingerprint: name
        for part in parts
        if part is not None
        for fingerprint, name in part.signers.names.items()
    }


def _reasons(findings: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(finding.reason.value for finding in findings))


def gist(predicate: Predicate) -> dict[str, str]:
    """Put the gist of a statement into words."""
    match predicate:
        case Provenance():
            return {
                "source": f"{predicate.repository}@{predicate.commit}",
                "builder": predicate.builder,
            }
        case TestResult():
            counts = "" if predicate.run is None else f", {predicate.run} run"
            failed = "" if predicate.failed is None else f", {predicate.failed} failed"
            return {
                "result": f"{predicate.verdict.value}{counts}{failed}",
                "commit": predicate.commit or "no commit",
            }
        case ChangeRecord():
            approvers = {approval.person.id for approval in given(predicate)}
            return {
                "basis": predicate.basis.value,
                "commit": predicate.source.to,
                "committers": f"by {_people(p.id for p in predicate.committers)}",
                "approvers": f"approved by {_people(approvers)}",
            }
        case _:
            return {"signature": "the image is signed"}


def _people(ids: Any) -> str:
    return ", ".join(sorted(ids)) or "nobody"
