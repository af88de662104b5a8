"""Who reviewed what is shipped: the one reading of a change record's people.

The gate decides by it and the record tells by it, so that they can't say two things of
one change: where the review is met there are approvers, and whoever stands as one was
counted. docs/explanation/independent-review.md says the same in prose. Pure; people are
compared by id alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from trailgate.model.evidence import (
    Approval,
    ApprovalBinding,
    ChangeRecord,
    DeploymentApproval,
    Person,
    ReviewedChange,
    SourceRange,
    Statement,
)

Refusals = Mapping[tuple[str, str], float]
"""(subject, person) → when that person last said something other than yes."""


_NOBODY: Mapping[str, Person] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A change record that a review was decided by, and all that it was held against."""

    statement: Statement
    joined: tuple[Statement, ...]
    """All change records of the same build by the policy's signers, itself among them."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """The approvals of one commit that nobody took back, by what they are worth."""

    good: tuple[Approval, ...] = ()
    """By independent people, of what is shipped."""
    stale: tuple[Approval, ...] = ()
    """By independent people, of something else."""
    dependent: tuple[Approval, ...] = ()
    """By whoever wrote or pushed it, by bots, by people whom the forge doesn't know."""


def approvers(
    record: ChangeRecord, joined: Iterable[ChangeRecord] = ()
) -> tuple[Approval, ...] | None:
    """Select the approvals that count; None unless every shipped commit has one.

    Not None exactly where a review that wants one approval is met by the record's people.
    One approval of each person and commit is told, the last. ``joined`` are the other
    records of the same build: what somebody took back in one is taken back in all.
    """
    commits = to_approve(record.source)
    if record.source.to not in commits or _has_unknown_author(record):
        return None
    refusals = withdrawn((record, *joined))
    found: dict[tuple[str, str], Approval] = {}
    for commit in commits:
        good = weigh(commit, record, refusals).good
        if not good:
            return None
        for one in good:
            known = found.setdefault((one.person.id, one.commit), one)
            if one.at > known.at:
                found[one.person.id, one.commit] = one
    return tuple(found.values())


def to_approve(source: SourceRange) -> tuple[str, ...]:
    """List the commits that need an approval, the last first; of a baseline, only that one.

    Where a range doesn't list its last commit, that one isn't in it: what comes after
    is not covered, whatever was approved.
    """
    if source.start is None or source.to not in source.commits:
        return (source.to,) if source.start is None else source.commits
    return (source.to, *(commit for commit in source.commits if commit != source.to))


def claimed(change: ReviewedChange) -> frozenset[str]:
    """List the commits that a reviewed change says it brought."""
    merged = (change.merge_commit,) if change.merge_commit else ()
    return frozenset((*change.commits, change.head_commit, *merged))


def relevant(record: ChangeRecord) -> list[ReviewedChange]:
    """List the changes that brought something that is shipped."""
    commits = to_approve(record.source)
    return [change for change in record.changes if not claimed(change).isdisjoint(commits)]


def authors(record: ChangeRecord, change: ReviewedChange) -> dict[str, Person]:
    """Everybody whose work a change is, by id: whoever of them approves, approves himself.

    Somebody whom the record names, but none of its changes, counts as an author of each.
    """
    own = list(change.committers)
    if own:
        placed = {person.id for item in record.changes for person in item.committers}
        own += [person for person in record.committers if person.id not in placed]
    else:
        own += record.committers
    if change.last_pusher is not None:
        own.append(change.last_pusher)
    return {person.id: person for person in own}


def is_anonymous(record: ChangeRecord, change: ReviewedChange) -> bool:
    """Whether nobody is named who wrote a change; who pushed it says nothing of that."""
    return not change.committers and not record.committers


def unmapped(record: ChangeRecord) -> tuple[str, ...]:
    """List the commits whose author the forge could not name, of those that matter."""
    if record.source.start is not None:
        return record.unmapped_authors
    ours = frozenset((record.source.to,)).union(*map(claimed, record.changes))
    return tuple(commit for commit in record.unmapped_authors if commit in ours)


def is_independent(person: Person, others: Mapping[str, Person]) -> bool:
    """Whether a forge vouches that this is a person, and none of the others.

    Ids of two forges can't be compared: somebody may have one of each. Two ports of a
    host are two forges.
    """
    if person.bot or not person.by_forge or (person.login or "").endswith("[bot]"):
        return False
    return person.id not in others and all(
        other.issuer == person.issuer for other in others.values()
    )


def latest_refusals(
    verdicts: Iterable[tuple[str, str, str, float]],
) -> dict[tuple[str, str], float]:
    """Map (subject, person) to when that person last said something other than yes.

    Takes (subject, person id, state, time); comments are neither yes nor no.
    """
    refusals: dict[tuple[str, str], float] = {}
    for subject, person, state, at in verdicts:
        if state not in ("APPROVED", "COMMENTED", "PENDING"):
            known = refusals.get((subject, person))
            refusals[subject, person] = at if known is None else max(known, at)
    return refusals


def withdrawn(records: Iterable[ChangeRecord]) -> Refusals:
    """Say who took back what in any of these records, by the change's URI."""
    return latest_refusals(
        (change.uri, approval.person.id, approval.state, approval.at.timestamp())
        for record in records
        for change in record.changes
        for approval in change.approvals
        if approval.state != "APPROVED"
    )


def deployers(
    record: ChangeRecord,
    joined: Iterable[ChangeRecord] = (),
    environment: str | None = None,
    others: Mapping[str, Person] = _NOBODY,
) -> tuple[DeploymentApproval, ...]:
    """Select the approvals to deploy that count: by a person, and not taken back.

    ``environment`` is the one that is asked for (None: each), ``others`` are those who may
    not approve, by id. ``joined`` are the other records of the same build: what somebody
    took back in one is taken back in all.
    """
    return tuple(
        one for one in standing(record, joined, environment) if is_independent(one.person, others)
    )


def standing(
    record: ChangeRecord, joined: Iterable[ChangeRecord], environment: str | None
) -> tuple[DeploymentApproval, ...]:
    """Select the approvals to deploy that nobody took back, by whomever they are."""
    refusals = latest_refusals(
        (one.environment, one.person.id, one.state, one.at.timestamp())
        for other in (record, *joined)
        for one in other.deployment_approvals
    )
    return tuple(
        one
        for one in record.deployment_approvals
        if one.state == "APPROVED"
        and environment in (None, one.environment)
        and refusals.get((one.environment, one.person.id), float("-inf")) < one.at.timestamp()
    )


def given(record: ChangeRecord) -> tuple[Approval, ...]:
    """Select the approvals that nobody took back in this record, whatever they are worth."""
    refusals = withdrawn([record])
    return tuple(
        approval
        for change in record.changes
        for approval in change.approvals
        if approval.state == "APPROVED" and not _is_refused(approval, change, refusals)
    )


def weigh(commit: str, record: ChangeRecord, refusals: Refusals) -> Weighed:
    """Weigh the approvals of one shipped commit, in the changes that brought it."""
    good: list[Approval] = []
    stale: list[Approval] = []
    dependent: list[Approval] = []
    for change in covering(commit, record):
        written = authors(record, change)
        for approval in change.approvals:
            if approval.state != "APPROVED" or _is_refused(approval, change, refusals):
                continue
            if not is_independent(approval.person, written):
                dependent.append(approval)
            elif _covers(approval, change, commit, record.source):
                good.append(approval)
            else:
                stale.append(approval)
    return Weighed(tuple(good), tuple(stale), tuple(dependent))


def covering(commit: str, record: ChangeRecord) -> Sequence[ReviewedChange]:
    """List the changes that brought a commit."""
    return [change for change in record.changes if commit in claimed(change)]


def _has_unknown_author(record: ChangeRecord) -> bool:
    return bool(unmapped(record)) or any(
        is_anonymous(record, change)
        or not all(person.by_forge for person in authors(record, change).values())
        for change in relevant(record)
    )


def _is_refused(approval: Approval, change: ReviewedChange, refusals: Refusals) -> bool:
    refused = refusals.get((change.uri, approval.person.id))
    return refused is not None and refused >= approval.at.timestamp()


def _covers(approval: Approval, change: ReviewedChange, commit: str, source: SourceRange) -> bool:
    """Whether an approval was given to what this commit ships.

    An approval of a head that is itself shipped covers the commits below it; a merge,
    squash or rebase only where the forge tied what it made to the approved head;
    another commit only by the same tree.
    """
    if approval.commit == commit:
        return True
    shipped = to_approve(source)
    match approval.binding:
        case ApprovalBinding.COMMIT:
            fresh = approval.commit == change.head_commit and change.head_commit in shipped
            return fresh and commit != change.merge_commit
        case ApprovalBinding.FORGE_MERGE:
            return approval.commit == change.head_commit and change.merge_commit in shipped
        case ApprovalBinding.TREE:
            same = source.tree is not None and approval.tree == source.tree
            return same and source.to in claimed(change)
