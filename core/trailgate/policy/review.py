"""Independent review: somebody who didn't write it approved what is shipped.

Reads the people of one change record; docs/explanation/independent-review.md says
the same in prose. People are compared by id alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trailgate.model.decision import Check
from trailgate.model.evidence import (
    Approval,
    ApprovalBinding,
    ChangeRecord,
    Person,
    ReviewedChange,
    SourceRange,
)
from trailgate.model.reason import Reason
from trailgate.policy.change import latest_refusals
from trailgate.policy.compiled import Review
from trailgate.policy.failure import Failure, listed, people, short

Refusals = Mapping[tuple[str, str], float]


def judge(record: ChangeRecord, wanted: Review, joined: Sequence[ChangeRecord]) -> Failure | None:
    """Hold one record's people against the requirement.

    ``joined`` are all trusted records of the same commit: what somebody took back in
    one of them is taken back in all.
    """
    if not record.changes:
        return _failure(
            Reason.REVIEW_MISSING, "a change record without a reviewed change", "an approved change"
        )
    source = record.source
    shipped = _shipped(source)
    if source.to not in shipped:
        return _gap(f"a range that does not list its last commit {short(source.to)}")
    claims = {id(change): _claimed(change) for change in record.changes}
    relevant = [c for c in record.changes if not claims[id(c)].isdisjoint(shipped)]
    failure = _unknown_author(record, relevant, frozenset().union(*claims.values()))
    if failure is not None:
        return failure
    refusals = _refusals(joined)
    for commit in (source.to, *(item for item in shipped if item != source.to)):
        covering = [change for change in relevant if commit in claims[id(change)]]
        failure = _commit(commit, covering, record, wanted, refusals)
        if failure is not None:
            return failure
    if not record.passed:
        return _failure(
            Reason.REVIEW_MISSING,
            f"a verdict other than PASSED by {record.verifier}",
            "verificationResult PASSED",
        )
    return None


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


def is_independent(person: Person, others: Mapping[str, Person]) -> bool:
    """Whether a forge vouches that this is a person, and none of the others.

    Ids of two forges can't be compared: somebody may have one of each.
    """
    if person.bot or not person.by_forge or (person.login or "").endswith("[bot]"):
        return False
    issuer = _issuer(person)
    return person.id not in others and all(_issuer(other) == issuer for other in others.values())


def _issuer(person: Person) -> str:
    return person.id.partition(":")[0]


def _shipped(source: SourceRange) -> tuple[str, ...]:
    """Return the commits that need an approval: of a baseline, only what is on top."""
    return (source.to,) if source.start is None else source.commits


def _claimed(change: ReviewedChange) -> frozenset[str]:
    merged = (change.merge_commit,) if change.merge_commit else ()
    return frozenset((*change.commits, change.head_commit, *merged))


def _unknown_author(
    record: ChangeRecord, relevant: Sequence[ReviewedChange], claimed: frozenset[str]
) -> Failure | None:
    unmapped = record.unmapped_authors
    if record.source.start is None:
        unmapped = tuple(item for item in unmapped if item == record.source.to or item in claimed)
    if unmapped:
        return _unknown(f"no account for the author of {listed(map(short, unmapped))}")
    for change in relevant:
        written = authors(record, change)
        if not written:
            return _unknown(f"no author of {change.uri}")
        strangers = [person for person in written.values() if not person.by_forge]
        if strangers:
            return _unknown(f"authors known by e-mail only: {people(strangers)}")
    return None


def _refusals(records: Sequence[ChangeRecord]) -> Refusals:
    return latest_refusals(
        (change.uri, approval.person.id, approval.state, approval.at.timestamp())
        for record in records
        for change in record.changes
        for approval in change.approvals
        if approval.state != "APPROVED"
    )


def _commit(
    commit: str,
    covering: Sequence[ReviewedChange],
    record: ChangeRecord,
    wanted: Review,
    refusals: Refusals,
) -> Failure | None:
    """Count the independent people who approved one commit."""
    if not covering:
        return _gap(f"{short(commit)}, which came by no reviewed change")
    good: set[str] = set()
    stale: list[Approval] = []
    dependent: list[Approval] = []
    for change in covering:
        written = authors(record, change)
        for approval in change.approvals:
            if approval.state != "APPROVED" or _is_refused(approval, change, refusals):
                continue
            if not is_independent(approval.person, written):
                dependent.append(approval)
            elif _covers(approval, change, commit, record.source):
                good.add(approval.person.id)
            else:
                stale.append(approval)
    if len(good) >= wanted.approvals:
        return None
    return _short_of(commit, covering, record, wanted, (good, stale, dependent))


def _short_of(
    commit: str,
    covering: Sequence[ReviewedChange],
    record: ChangeRecord,
    wanted: Review,
    found: tuple[set[str], list[Approval], list[Approval]],
) -> Failure:
    """Say why the approvals of a commit are too few."""
    good, stale, dependent = found
    of = f"{short(commit)} ({listed(change.uri for change in covering)})"
    expected = f"{wanted.approvals} independent approval{'s' * (wanted.approvals > 1)} of {of}"
    if stale:
        who = people(item.person for item in stale)
        at = listed(short(item.commit) for item in stale)
        return _failure(Reason.REVIEW_STALE, f"approval by {who} of {at}", expected)
    if dependent:
        who = people(item.person for item in dependent)
        return _failure(
            Reason.REVIEW_NOT_INDEPENDENT,
            f"approval by {who}, who wrote or pushed it, is a bot, or is unknown to the forge",
            expected,
        )
    if good or commit == record.source.to:
        return _failure(Reason.REVIEW_MISSING, f"{len(good) or 'no'} approval", expected)
    return _gap(f"{of}, which nobody approved")


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
    shipped = _shipped(source)
    match approval.binding:
        case ApprovalBinding.COMMIT:
            fresh = approval.commit == change.head_commit and change.head_commit in shipped
            return fresh and commit != change.merge_commit
        case ApprovalBinding.FORGE_MERGE:
            return approval.commit == change.head_commit and change.merge_commit in shipped
        case ApprovalBinding.TREE:
            same = source.tree is not None and approval.tree == source.tree
            return same and source.to in _claimed(change)


def _gap(got: str) -> Failure:
    return _failure(Reason.REVIEW_GAP, got, "every commit of the range in an approved change")


def _unknown(got: str) -> Failure:
    return _failure(Reason.UNKNOWN_AUTHOR, got, "every author known to the forge")


def _failure(reason: Reason, got: str, expected: str) -> Failure:
    return Failure(reason, got, expected, Check.REVIEW)
