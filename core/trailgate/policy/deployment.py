"""Deployment approval: somebody let this change go to an environment."""

from __future__ import annotations

from collections.abc import Sequence

from trailgate.model.decision import Check
from trailgate.model.evidence import ChangeRecord, Person
from trailgate.model.reason import Reason
from trailgate.model.review import (
    authors,
    is_anonymous,
    is_independent,
    latest_refusals,
    relevant,
)
from trailgate.policy.compiled import DeploymentApproval
from trailgate.policy.failure import Failure, people


def judge(
    record: ChangeRecord, wanted: DeploymentApproval, joined: Sequence[ChangeRecord]
) -> Failure | None:
    """Hold one record's deployment approvers against the requirement."""
    expected = f"an approval to deploy to {wanted.environment}"
    written: dict[str, Person] = {}
    if wanted.not_committer:
        expected += " by somebody who did not write the change"
        written = {person.id: person for person in record.committers}
        for change in record.changes:
            written |= authors(record, change)
        unknown = record.unmapped_authors or [p for p in written.values() if not p.by_forge]
        unnamed = any(is_anonymous(record, change) for change in relevant(record))
        if unknown or unnamed or not written:
            return _failure(
                Reason.UNKNOWN_AUTHOR, "authors the forge does not know", "every author known"
            )
    refusals = latest_refusals(
        (item.environment, item.person.id, item.state, item.at.timestamp())
        for other in joined
        for item in other.deployment_approvals
    )
    given = [
        item
        for item in record.deployment_approvals
        if item.environment == wanted.environment
        and item.state == "APPROVED"
        and refusals.get((item.environment, item.person.id), float("-inf")) < item.at.timestamp()
    ]
    if any(is_independent(item.person, written) for item in given):
        return None
    who = people(item.person for item in given)
    got = f"approval by {who}" if who else f"no approval to deploy to {wanted.environment}"
    return _failure(Reason.DEPLOYMENT_APPROVAL_MISSING, got, expected)


def _failure(reason: Reason, got: str, expected: str) -> Failure:
    return Failure(reason, got, expected, Check.DEPLOYMENT_APPROVAL)
