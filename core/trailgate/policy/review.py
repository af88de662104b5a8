"""Independent review: somebody who didn't write it approved what is shipped.

Holds the people of one change record against a policy, and says what is wrong with
them. Who counts as what is ``trailgate.model.review``'s to say: the ledger asks it too.
"""

from __future__ import annotations

from collections.abc import Sequence

from trailgate.model import review as people_of
from trailgate.model.decision import Check
from trailgate.model.evidence import ChangeRecord
from trailgate.model.reason import Reason
from trailgate.policy.compiled import Review
from trailgate.policy.failure import Failure, listed, people, short


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
    shipped = people_of.to_approve(source)
    if source.to not in shipped:
        return _gap(f"a range that does not list its last commit {short(source.to)}")
    failure = _unknown_author(record)
    if failure is not None:
        return failure
    refusals = people_of.withdrawn((record, *joined))
    for commit in shipped:
        failure = _commit(commit, record, wanted, refusals)
        if failure is not None:
            return failure
    if not record.passed:
        return _failure(
            Reason.REVIEW_MISSING,
            f"a verdict other than PASSED by {record.verifier}",
            "verificationResult PASSED",
        )
    return None


def _unknown_author(record: ChangeRecord) -> Failure | None:
    unmapped = people_of.unmapped(record)
    if unmapped:
        return _unknown(f"no account for the author of {listed(map(short, unmapped))}")
    for change in people_of.relevant(record):
        if people_of.is_anonymous(record, change):
            return _unknown(f"no author of {change.uri}")
        written = people_of.authors(record, change)
        strangers = [person for person in written.values() if not person.by_forge]
        if strangers:
            return _unknown(f"authors known by e-mail only: {people(strangers)}")
    return None


def _commit(
    commit: str, record: ChangeRecord, wanted: Review, refusals: people_of.Refusals
) -> Failure | None:
    """Count the independent people who approved one commit."""
    if not people_of.covering(commit, record):
        return _gap(f"{short(commit)}, which came by no reviewed change")
    weighed = people_of.weigh(commit, record, refusals)
    good = len({approval.person.id for approval in weighed.good})
    return None if good >= wanted.approvals else _short_of(commit, record, wanted, weighed)


def _short_of(
    commit: str, record: ChangeRecord, wanted: Review, found: people_of.Weighed
) -> Failure:
    """Say why the approvals of a commit are too few."""
    good = len({approval.person.id for approval in found.good})
    of = f"{short(commit)} ({listed(one.uri for one in people_of.covering(commit, record))})"
    expected = f"{wanted.approvals} independent approval{'s' * (wanted.approvals > 1)} of {of}"
    if found.stale:
        who = people(item.person for item in found.stale)
        at = listed(short(item.commit) for item in found.stale)
        return _failure(Reason.REVIEW_STALE, f"approval by {who} of {at}", expected)
    if found.dependent:
        who = people(item.person for item in found.dependent)
        return _failure(
            Reason.REVIEW_NOT_INDEPENDENT,
            f"approval by {who}, who wrote or pushed it, is a bot, or is unknown to the forge",
            expected,
        )
    if good or commit == record.source.to:
        return _failure(Reason.REVIEW_MISSING, f"{good or 'no'} approval", expected)
    return _gap(f"{of}, which nobody approved")


def _gap(got: str) -> Failure:
    return _failure(Reason.REVIEW_GAP, got, "every commit of the range in an approved change")


def _unknown(got: str) -> Failure:
    return _failure(Reason.UNKNOWN_AUTHOR, got, "every author known to the forge")


def _failure(reason: Reason, got: str, expected: str) -> Failure:
    return Failure(reason, got, expected, Check.REVIEW)
