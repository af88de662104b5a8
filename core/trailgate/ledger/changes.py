"""What this admission's own evidence says: who committed, approved and tested *this change*.

**An approval is only of what it covered.** ``images[]`` repeats each image's evidence;
``change`` is filled from the images that are new in this admission, and only from
evidence that passed, that is about the source that was built and this place, and that
covers all of it. Whatever falls short is null with a reason, and stays visible under
its image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trailgate.ledger.form import Null, Roster, known, stamp
from trailgate.ledger.images import absence, digest_of, person_of, text, time_of
from trailgate.model.decision import Check, CheckResult, ImageVerdict
from trailgate.model.evidence import (
    ChangeRecord,
    DeploymentApproval,
    Person,
    Provenance,
    Statement,
    TestResult,
)
from trailgate.model.reason import Absence
from trailgate.model.review import approvers, deployers, relevant

CHANGE_FIELDS = (
    "uri",
    "ticket",
    "opened",
    "merged",
    "basis",
    "committers",
    "unmappedAuthors",
    "lastPusher",
    "approvers",
    "deploymentApprovers",
    "tests",
)
"""The members of ``change`` beside ``class``: all there, or null with a reason."""

_FAILED = (CheckResult.NOT_MET, CheckResult.UNDETERMINED)


@dataclass(frozen=True, slots=True)
class Place:
    """Where this admission takes place, to compare with a change record's target."""

    cluster_uid: str
    cluster_name: str | None
    namespace: str


def change_fields(changed: Sequence[ImageVerdict], place: Place, roster: Roster) -> dict[str, Any]:
    """Tell what the change's own evidence says: ``CHANGE_FIELDS``, values or nulls.

    ``changed`` are the images that are new in this admission. None: only configuration
    changed, which nothing attests, so nobody approved it. Several: one change only
    where all of them tell the same one.
    """
    if not changed:
        return dict.fromkeys(CHANGE_FIELDS, Null(Absence.CONFIGURATION_NOT_ATTESTED))
    told = [
        _own_change(verdict, place, roster)
        | {"deploymentApprovers": _deployment_approvers(verdict, place, roster)}
        for verdict in changed
    ]
    fields = told[0]
    if any(other != fields for other in told[1:]):
        fields = dict.fromkeys(CHANGE_FIELDS, Null(Absence.SEVERAL_CHANGES))
    return fields | {"tests": _change_tests(changed)}


def _own_change(verdict: ImageVerdict, place: Place, roster: Roster) -> dict[str, Any]:
    if digest_of(verdict) is None:  # what was looked at may not be what is pulled
        return dict.fromkeys(CHANGE_FIELDS, Null(absence(verdict, Check.REVIEW)))
    records = _records(verdict.statements)
    own = [record for record in records if _is_about(record, verdict, place)]
    if not own:
        why = Absence.NOT_VERIFIED if records else absence(verdict, Check.REVIEW)
        return dict.fromkeys(CHANGE_FIELDS, Null(why))
    read = [(one, joined) for one, joined in _read_for_review(verdict) if one in own]
    told = [
        _tell(record, joined, roster)
        for record, joined in read or [(one, _of_same_build(one, records)) for one in own]
    ]
    if any(other != told[0] for other in told[1:]):
        return dict.fromkeys(CHANGE_FIELDS, Null(Absence.SEVERAL_CHANGES))
    return told[0]


def _read_for_review(
    verdict: ImageVerdict,
) -> Iterator[tuple[ChangeRecord, Sequence[ChangeRecord]]]:
    """Yield the records that reviews were decided by, each with what it was held against.

    They tell the story: a record that only let something be deployed may know less.
    """
    for one in verdict.reviews:
        for record in _records([one.statement]):
            yield record, _records(one.joined)


def _of_same_build(record: ChangeRecord, all_: Sequence[ChangeRecord]) -> list[ChangeRecord]:
    place = (record.source.repository, record.source.to)
    return [one for one in all_ if (one.source.repository, one.source.to) == place]


def _records(statements: Iterable[Statement]) -> list[ChangeRecord]:
    return [one.predicate for one in statements if isinstance(one.predicate, ChangeRecord)]


def _is_about(record: ChangeRecord, verdict: ImageVerdict, place: Place) -> bool:
    """Whether a record passed, is of the source that was built, and of this place."""
    builds = [one.predicate for one in verdict.statements if isinstance(one.predicate, Provenance)]
    source, target = record.source, record.target
    joined = all((b.repository, b.commit) == (source.repository, source.to) for b in builds)
    here = target is None or (
        target.cluster in (None, place.cluster_uid, place.cluster_name)
        and target.namespace in (None, place.namespace)
    )
    return record.passed and joined and here


def _tell(record: ChangeRecord, joined: Sequence[ChangeRecord], roster: Roster) -> dict[str, Any]:
    changes = relevant(record)
    one = changes[0] if len(changes) == 1 else None
    why = Absence.SEVERAL_CHANGES if changes else Absence.NOT_STATED
    committers = _each((*record.committers, *(p for c in record.changes for p in c.committers)))
    return {
        "uri": Null(why) if one is None else roster.text(one.uri),
        "ticket": text(record.ticket, roster),
        "opened": Null(why) if one is None else time_of(one.opened_at),
        "merged": Null(why) if one is None else time_of(one.merged_at),
        "basis": record.basis.value,
        "committers": [roster.person(person) for person in committers] or Null(Absence.NOT_STATED),
        "unmappedAuthors": list(record.unmapped_authors),
        "lastPusher": Null(why) if one is None else person_of(one.last_pusher, roster),
        "approvers": _approvers(record, joined, roster),
    }


def _deployment_approvers(verdict: ImageVerdict, place: Place, roster: Roster) -> Any:
    """List who let it be deployed: those whom the policies count, and nobody else.

    Where none asks, whoever approved and didn't take it back, by any record of this change
    (``trailgate.model.review``: gate and record read it alike).
    """
    if digest_of(verdict) is None:
        return Null(absence(verdict, Check.DEPLOYMENT_APPROVAL))
    records = _records(verdict.statements)
    own = [record for record in records if _is_about(record, verdict, place)]
    found: Iterable[DeploymentApproval] = verdict.deployments
    failed = verdict.checks.get(Check.DEPLOYMENT_APPROVAL) in _FAILED
    if not found and not failed:
        read = [*records, *(one for _, joined in _read_for_review(verdict) for one in joined)]
        found = (one for record in own for one in deployers(record, _of_same_build(record, read)))
    told = [
        roster.person(one.person) | {"environment": one.environment, "at": stamp(one.at)}
        for one in found
    ]
    unique = [one for n, one in enumerate(told) if one not in told[:n]]
    if unique:
        return unique
    given = any(o.state == "APPROVED" for record in records for o in record.deployment_approvals)
    if not records:
        return Null(absence(verdict, Check.DEPLOYMENT_APPROVAL))
    return Null(Absence.NOT_VERIFIED if given or not own else Absence.NOT_STATED)


def _each(people: Iterable[Person]) -> list[Person]:
    return list({person.id: person for person in people}.values())


def _approvers(record: ChangeRecord, joined: Sequence[ChangeRecord], roster: Roster) -> Any:
    """List who approved what shipped; null unless every shipped commit is approved.

    Those that the policy's review counts (``trailgate.model.review``), and nobody else:
    one approved request of two is not an approval of the release, one's own approval is
    none. What falls short stays visible under the image.
    """
    if not any(change.approvals for change in record.changes):
        return Null(Absence.NOT_FOUND)
    found = approvers(record, joined)
    if found is None:
        return Null(Absence.NOT_VERIFIED)
    return [
        roster.person(approval.person)
        | {
            "at": stamp(approval.at),
            "commit": approval.commit,
            "binding": approval.binding.value,
        }
        for approval in found
    ]


def _change_tests(changed: Sequence[ImageVerdict]) -> Any:
    """List the test runs of the commits that were built, if each changed image has one."""
    found: list[dict[str, Any]] = []
    for verdict in changed:
        own = [one for one in verdict.statements if _is_own_test(one, verdict)]
        if digest_of(verdict) is None:
            return Null(absence(verdict, Check.TESTS))
        if not own:
            others = any(isinstance(one.predicate, TestResult) for one in verdict.statements)
            return Null(Absence.NOT_VERIFIED if others else absence(verdict, Check.TESTS))
        found += [entry for entry in map(_brief, own) if entry not in found]
    return found


def _is_own_test(statement: Statement, verdict: ImageVerdict) -> bool:
    tests = statement.predicate
    commits = {
        one.predicate.commit for one in verdict.statements if isinstance(one.predicate, Provenance)
    }
    return isinstance(tests, TestResult) and commits == {tests.commit}


def _brief(statement: Statement) -> dict[str, Any]:
    tests = statement.predicate
    assert isinstance(tests, TestResult)
    return {
        "digest": str(statement.digest),
        "commit": known(tests.commit),
        "verdict": tests.verdict.value,
        "run": known(tests.run),
        "failed": known(tests.failed),
        "skipped": known(tests.skipped),
        "finishedAt": time_of(tests.finished_at),
    }
