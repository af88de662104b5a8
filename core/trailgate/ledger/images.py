"""Images as a record tells them: each one with the signed statements about it.

This repeats what the statements say, also where it isn't enough, and judges nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trailgate.ledger.form import Null, Roster, known, stamp
from trailgate.model.decision import Check, CheckResult, ImageVerdict
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import (
    Approval,
    ChangeRecord,
    DeploymentApproval,
    Person,
    Provenance,
    ReviewedChange,
    Statement,
    StatementKind,
    TestResult,
)
from trailgate.model.image import ImageReference
from trailgate.model.reason import Absence, Reason

IMAGE_CHECKS = (
    Check.SIGNATURE,
    Check.PROVENANCE,
    Check.REVIEW,
    Check.DEPLOYMENT_APPROVAL,
    Check.TESTS,
)
"""The checks that are asked of each image."""

_CHECK_OF = {
    StatementKind.SIGNATURE: Check.SIGNATURE,
    StatementKind.PROVENANCE: Check.PROVENANCE,
    StatementKind.TESTS: Check.TESTS,
    StatementKind.CHANGE: Check.REVIEW,
}
_NOTHING_THERE = frozenset(
    {
        Reason.SIGNATURE_MISSING,
        Reason.PROVENANCE_MISSING,
        Reason.REVIEW_MISSING,
        Reason.DEPLOYMENT_APPROVAL_MISSING,
        Reason.TESTS_MISSING,
        Reason.NO_POLICY_FOR_IMAGE,
    }
)


def reference_of(verdict: ImageVerdict) -> str:
    """Give the image as the specification writes it."""
    return verdict.containers[0].image if verdict.containers else str(verdict.image)


def digest_in(image: str) -> Digest | None:
    """Give the digest that an image's string pins, if it pins one."""
    try:
        return ImageReference.parse(image).digest
    except MalformedError:
        return None


def image_digest(image: str) -> dict[str, Any]:
    """Tell an image by its string and the digest that this pins."""
    digest = digest_in(image)
    return {
        "reference": image,
        "digest": known(None if digest is None else str(digest), Absence.NO_DIGEST),
    }


def digest_of(verdict: ImageVerdict) -> Digest | None:
    """Give the digest that the specification pins, if it pins one."""
    return verdict.image.digest if verdict.image is not None else None


def absence(verdict: ImageVerdict, check: Check) -> Absence:
    """Say why an image has no evidence that counts for a check."""
    result = verdict.checks.get(check, CheckResult.NOT_REQUIRED)
    if verdict.image is not None and verdict.image.digest is None:
        return Absence.NO_DIGEST
    if result is CheckResult.UNDETERMINED:
        return Absence.UNAVAILABLE
    if result is CheckResult.NOT_MET:
        reasons = {finding.reason for finding in verdict.findings if finding.check is check}
        return Absence.NOT_FOUND if reasons and reasons <= _NOTHING_THERE else Absence.NOT_VERIFIED
    return Absence.NOT_REQUIRED


def image_entry(verdict: ImageVerdict, *, changed: bool, roster: Roster) -> dict[str, Any]:
    """Tell one image and its own evidence; of a tag, none: the tag may name another image."""
    digest = digest_of(verdict)
    why = Absence.NOT_VERIFIED if verdict.image is None else Absence.NO_DIGEST

    def told(kind: StatementKind) -> Any:
        entries = [
            _statement(one, roster)
            for one in verdict.statements
            if one.kind is kind and digest is not None
        ]
        return entries or Null(absence(verdict, _CHECK_OF[kind]))

    return {
        "reference": reference_of(verdict),
        "digest": known(None if digest is None else str(digest), why),
        "platforms": [str(platform) for platform in verdict.platforms],
        "containers": [
            {"name": use.name, "class": use.container_class.value} for use in verdict.containers
        ],
        "changed": changed,
        "thirdParty": verdict.third_party,
        "selfAsserted": verdict.self_asserted,
        "checks": {
            check.value: verdict.checks.get(check, CheckResult.NOT_REQUIRED).value
            for check in IMAGE_CHECKS
        },
        "signatures": told(StatementKind.SIGNATURE),
        "provenance": told(StatementKind.PROVENANCE),
        "tests": told(StatementKind.TESTS),
        "changes": told(StatementKind.CHANGE),
    }


def _statement(statement: Statement, roster: Roster) -> dict[str, Any]:
    head = {
        "signer": statement.signer.fingerprint,
        "format": statement.format.value,
        "digest": str(statement.digest),
    }
    match statement.predicate:
        case Provenance() as provenance:
            return head | _provenance(provenance, roster)
        case TestResult() as tests:
            return head | _tests(tests, roster)
        case ChangeRecord() as change:
            return head | _change_record(change, roster)
        case _:
            return head


def _provenance(provenance: Provenance, roster: Roster) -> dict[str, Any]:
    return {
        "repository": roster.text(provenance.repository),
        "commit": provenance.commit,
        "ref": text(provenance.ref, roster),
        "builder": roster.text(provenance.builder),
        "run": text(provenance.run, roster),
        "startedAt": time_of(provenance.started_at),
        "finishedAt": time_of(provenance.finished_at),
    }


def _tests(tests: TestResult, roster: Roster) -> dict[str, Any]:
    return {
        "verdict": tests.verdict.value,
        "repository": text(tests.repository, roster),
        "commit": known(tests.commit),
        "run": known(tests.run),
        "failed": known(tests.failed),
        "skipped": known(tests.skipped),
        "suites": list(tests.suites),
        "startedAt": time_of(tests.started_at),
        "finishedAt": time_of(tests.finished_at),
        "junitDigest": known(None if tests.junit is None else str(tests.junit)),
        "url": text(tests.url, roster),
    }


def _change_record(record: ChangeRecord, roster: Roster) -> dict[str, Any]:
    source, target = record.source, record.target
    return {
        "verifier": roster.text(record.verifier),
        "passed": record.passed,
        "levels": list(record.levels),
        "basis": record.basis.value,
        "basisDigest": known(None if record.basis_digest is None else str(record.basis_digest)),
        "verifiedAt": time_of(record.verified_at),
        "ticket": text(record.ticket, roster),
        "source": {
            "repository": roster.text(source.repository),
            "ref": text(source.ref, roster),
            "from": known(source.start, Absence.BASELINE),
            "to": source.to,
            "tree": known(source.tree),
            "commits": list(source.commits),
        },
        "requests": [_reviewed(change, roster) for change in record.changes],
        "committers": [roster.person(person) for person in record.committers],
        "unmappedAuthors": list(record.unmapped_authors),
        "deploymentApprovals": [
            _deployment_approval(approval, roster) for approval in record.deployment_approvals
        ],
        "target": Null(Absence.NOT_STATED)
        if target is None
        else {"cluster": known(target.cluster), "namespace": known(target.namespace)},
    }


def _reviewed(change: ReviewedChange, roster: Roster) -> dict[str, Any]:
    return {
        "uri": roster.text(change.uri),
        "headCommit": change.head_commit,
        "mergeCommit": known(change.merge_commit),
        "mergedBy": person_of(change.merged_by, roster),
        "opened": time_of(change.opened_at),
        "merged": time_of(change.merged_at),
        "commits": list(change.commits),
        "committers": [roster.person(person) for person in change.committers],
        "lastPusher": person_of(change.last_pusher, roster),
        "approvals": [_approval(approval, roster) for approval in change.approvals],
    }


def _approval(approval: Approval, roster: Roster) -> dict[str, Any]:
    person = roster.person(approval.person)
    uri = Null(Absence.NOT_STATED) if approval.uri is None else roster.text(approval.uri, person)
    return person | {
        "state": approval.state,
        "at": stamp(approval.at),
        "commit": approval.commit,
        "tree": known(approval.tree),
        "binding": approval.binding.value,
        "uri": uri,
    }


def _deployment_approval(approval: DeploymentApproval, roster: Roster) -> dict[str, Any]:
    person = roster.person(approval.person)
    run = Null(Absence.NOT_STATED) if approval.run is None else roster.text(approval.run, person)
    return person | {
        "state": approval.state,
        "environment": approval.environment,
        "at": stamp(approval.at),
        "run": run,
    }


def text(value: str | None, roster: Roster) -> Any:
    """Refer to a text, or say that it isn't stated."""
    return Null(Absence.NOT_STATED) if value is None else roster.text(value)


def person_of(person: Person | None, roster: Roster) -> Any:
    """Refer to a person, or say that nobody is stated."""
    return Null(Absence.NOT_STATED) if person is None else roster.person(person)


def time_of(moment: datetime | None) -> Any:
    """Give a time, or say that it isn't stated."""
    return Null(Absence.NOT_STATED) if moment is None else stamp(moment)
