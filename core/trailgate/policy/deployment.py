"""Deployment approval: somebody let this change go to an environment."""

from __future__ import annotations

from collections.abc import Sequence

from trailgate.model.decision import Check
from trailgate.model.evidence import ChangeRecord, DeploymentApproval, Person
from trailgate.model.reason import Reason
from trailgate.model.review import authors, deployers, is_anonymous, relevant, standing
from trailgate.policy import compiled
from trailgate.policy.failure import Failure, people


def judge(
    record: ChangeRecord, wanted: compiled.DeploymentApproval, joined: Sequence[ChangeRecord]
) -> Failure | None:
    """Hold one record's deployment approvers against the requirement."""
    expected = f"an approval to deploy to {wanted.environment}"
    written = _barred(record, wanted)
    if wanted.not_committer:
        expected += " by somebody who did not write the change"
        unknown = record.unmapped_authors or [p for p in written.values() if not p.by_forge]
        unnamed = any(is_anonymous(record, change) for change in relevant(record))
        if unknown or unnamed or not written:
            return _failure(
                Reason.UNKNOWN_AUTHOR, "authors the forge does not know", "every author known"
            )
    if deployers(record, joined, wanted.environment, written):
        return None
    who = people(one.person for one in standing(record, joined, wanted.environment))
    got = f"approval by {who}" if who else f"no approval to deploy to {wanted.environment}"
    return _failure(Reason.DEPLOYMENT_APPROVAL_MISSING, got, expected)


def counted(
    record: ChangeRecord, wanted: compiled.DeploymentApproval, joined: Sequence[ChangeRecord]
) -> tuple[DeploymentApproval, ...]:
    """Select the approvals by which ``judge`` has nothing against a record; else none."""
    if judge(record, wanted, joined) is not None:
        return ()
    return deployers(record, joined, wanted.environment, _barred(record, wanted))


def _barred(record: ChangeRecord, wanted: compiled.DeploymentApproval) -> dict[str, Person]:
    """Give those who may not approve, by id: whoever wrote any of it, where that is asked."""
    if not wanted.not_committer:
        return {}
    written = {person.id: person for person in record.committers}
    for change in record.changes:
        written |= authors(record, change)
    return written


def _failure(reason: Reason, got: str, expected: str) -> Failure:
    return Failure(reason, got, expected, Check.DEPLOYMENT_APPROVAL)
