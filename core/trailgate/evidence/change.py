"""Change records: who wrote, reviewed and approved what is shipped.

A SLSA verification summary (https://slsa.dev/spec/v1.1/verification_summary), which
allows extension fields whose names are URIs; ours holds the people. Any reader of
verification summaries understands the verdict; ours reads the people and judges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any

import msgspec

from trailgate.evidence import source
from trailgate.evidence.errors import RefusedError, malformed
from trailgate.evidence.wire import Moment, ObjectName, Text, convert, utc
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import (
    Approval,
    ApprovalBinding,
    Basis,
    ChangeRecord,
    DeploymentApproval,
    DeploymentTarget,
    Person,
    ReviewedChange,
    SourceRange,
)
from trailgate.model.reason import Reason

TYPE = "https://slsa.dev/verification_summary/v1"
EXTENSION = "https://trailgate.dev/change-record/v1"
TWO_PARTY = "SLSA_SOURCE_TWO_PARTY_REVIEWED"
_MAX_COMMITS = 10_000
_MAX_PEOPLE = 2_000

# One person has one id: a number without leading zeros, or a UUID, under its issuer;
# git e-mails in lower case. A second spelling would be a second person.
_PersonId = Annotated[
    str,
    msgspec.Meta(
        max_length=320,
        pattern=r"\A(?!git:)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?:"
        r"(?:0|[1-9][0-9]{0,19}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z"
        r"|\Agit:[^\s:\x00-\x1f\x7f-\x9fA-Z]+\Z",
    ),
]
_Commits = Annotated[list[ObjectName], msgspec.Meta(max_length=_MAX_COMMITS)]


class _PersonJson(msgspec.Struct):
    id: _PersonId
    login: Text | None = None
    name: Text | None = None
    bot: bool = False

    def person(self) -> Person:
        return Person(self.id, self.login, self.name, self.bot)


_People = Annotated[list[_PersonJson], msgspec.Meta(max_length=_MAX_PEOPLE)]


class _Source(msgspec.Struct):
    uri: Text
    to: ObjectName
    commits: _Commits
    ref: Text | None = None
    start: ObjectName | None = msgspec.field(default=None, name="from")
    tree: ObjectName | None = None


class _Change(msgspec.Struct, rename="camel"):
    uri: Text
    head_commit: ObjectName
    commits: _Commits
    merge_commit: ObjectName | None = None
    merged_by: _PersonJson | None = None
    opened_at: Moment | None = None
    merged_at: Moment | None = None
    committers: _People | None = None
    last_pusher: _PersonJson | None = None


class _Approver(_PersonJson, kw_only=True):
    state: Text
    commit: ObjectName
    at: Moment
    binding: ApprovalBinding
    uri: Text | None = None
    tree: ObjectName | None = None
    change: Text | None = None


class _DeploymentApprover(_PersonJson, kw_only=True):
    environment: Text
    at: Moment
    run: Text | None = None
    state: Text = "APPROVED"


class _Target(msgspec.Struct):
    cluster: Text | None = None
    namespace: Text | None = None


class _BasisDigest(msgspec.Struct):
    sha256: Text


class RecordJson(msgspec.Struct, rename="camel"):
    """The extension field as it is written."""

    basis: Basis
    source: _Source
    changes: Annotated[list[_Change], msgspec.Meta(max_length=_MAX_COMMITS)]
    committers: _People
    approvers: Annotated[list[_Approver], msgspec.Meta(max_length=_MAX_PEOPLE)] = []
    deployment_approvers: Annotated[
        list[_DeploymentApprover], msgspec.Meta(max_length=_MAX_PEOPLE)
    ] = []
    unmapped_authors: _Commits = []
    basis_digest: _BasisDigest | None = None
    target: _Target | None = None
    ticket: Text | None = None


class _Verifier(msgspec.Struct):
    id: Text


class _Predicate(msgspec.Struct, rename="camel"):
    verifier: _Verifier
    verification_result: Text
    verified_levels: Annotated[list[Text], msgspec.Meta(max_length=100)]
    time_verified: Moment | None = None


def read(predicate: Mapping[str, Any]) -> ChangeRecord:
    """Read the predicate.

    Raises ``RefusedError``: ``Malformed``, or ``PredicateMismatch`` for a verification
    summary without our field.
    """
    summary = convert(predicate, _Predicate, "a verification summary")
    if summary.verification_result not in ("PASSED", "FAILED"):
        raise malformed(f"got verificationResult {summary.verification_result[:50]!r}")
    if predicate.get(EXTENSION) is None:
        raise RefusedError(
            Reason.PREDICATE_MISMATCH,
            f"got a verification summary without people, expected the field {EXTENSION}",
        )
    record = convert(predicate[EXTENSION], RecordJson, "a change record")
    people = _unique(item.person() for item in record.committers)
    changes = _changes(record, people)
    return ChangeRecord(
        verifier=summary.verifier.id,
        passed=summary.verification_result == "PASSED",
        levels=tuple(summary.verified_levels),
        basis=record.basis,
        source=_source(record.source),
        changes=changes,
        committers=_unique([*people, *(who for change in changes for who in change.committers)]),
        unmapped_authors=tuple(record.unmapped_authors),
        deployment_approvals=tuple(_deployment(item) for item in record.deployment_approvers),
        target=_target(record.target),
        ticket=record.ticket,
        verified_at=utc(summary.time_verified),
        basis_digest=_basis_digest(record.basis_digest),
    )


def _target(target: _Target | None) -> DeploymentTarget | None:
    return DeploymentTarget(target.cluster, target.namespace) if target else None


def _basis_digest(digest: _BasisDigest | None) -> Digest | None:
    try:
        return Digest(digest.sha256) if digest else None
    except MalformedError as error:
        raise malformed(str(error)) from error


def _source(item: _Source) -> SourceRange:
    if item.to not in item.commits:
        raise malformed("got a change record whose commits lack the commit that it ships")
    if len(set(item.commits)) != len(item.commits):
        raise malformed("got a change record that lists a commit twice")
    if item.start in item.commits:
        raise malformed("got a change record whose range holds its own start")
    try:
        repository, ref = source.split(item.uri)
    except MalformedError as error:
        raise malformed(str(error)) from error
    return SourceRange(
        repository, item.ref or ref, item.to, item.tree, item.start, tuple(item.commits)
    )


def _changes(record: RecordJson, people: tuple[Person, ...]) -> tuple[ReviewedChange, ...]:
    if len({item.uri for item in record.changes}) != len(record.changes):
        raise malformed("got a change record that lists a change twice")
    approvals: dict[str, list[Approval]] = {item.uri: [] for item in record.changes}
    places = _places(record.changes)
    for approver in record.approvers:
        approvals[_approved(approver, approvals, places)].append(_approval(approver))
    return tuple(_change(item, tuple(approvals[item.uri]), people) for item in record.changes)


def _places(changes: list[_Change]) -> dict[str, set[str]]:
    """Which changes each commit belongs to."""
    places: dict[str, set[str]] = {}
    for item in changes:
        for commit in {item.head_commit, item.merge_commit, *item.commits} - {None}:
            places.setdefault(str(commit), set()).add(item.uri)
    return places


def _approved(approver: _Approver, uris: Collection[str], places: dict[str, set[str]]) -> str:
    """Which change an approval belongs to: as it says, else where its commit is."""
    if approver.change is not None:
        found = {approver.change} if approver.change in uris else set()
    elif len(uris) == 1:
        found = set(uris)
    else:
        found = places.get(approver.commit, set())
    if len(found) != 1:
        raise malformed(f"got an approval that belongs to {len(found)} changes, expected one")
    return next(iter(found))


def _change(
    item: _Change, approvals: tuple[Approval, ...], people: tuple[Person, ...]
) -> ReviewedChange:
    """Without committers of its own, a change has all of the record's: the strict reading."""
    if item.committers is not None:
        people = _unique(who.person() for who in item.committers)
    return ReviewedChange(
        uri=item.uri,
        head_commit=item.head_commit,
        commits=tuple(item.commits),
        merge_commit=item.merge_commit,
        merged_by=item.merged_by.person() if item.merged_by else None,
        opened_at=utc(item.opened_at),
        merged_at=utc(item.merged_at),
        approvals=approvals,
        committers=people,
        last_pusher=item.last_pusher.person() if item.last_pusher else None,
    )


def _approval(item: _Approver) -> Approval:
    return Approval(
        person=item.person(),
        state=item.state,
        commit=item.commit,
        at=utc(item.at),
        binding=item.binding,
        uri=item.uri,
        tree=item.tree,
    )


def _deployment(item: _DeploymentApprover) -> DeploymentApproval:
    return DeploymentApproval(
        item.person(), item.environment, utc(item.at), run=item.run, state=item.state
    )


def _unique(people: Iterable[Person]) -> tuple[Person, ...]:
    """Each person once, the first spelling of login and name winning."""
    return tuple({person.id: person for person in reversed(list(people))}.values())[::-1]
