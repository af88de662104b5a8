"""The change record as a statement: whose word it is, about what, on what basis.

Review and deployment approval both read it; before either looks at the people in it,
the record must be joined to what was built, and be the word of somebody other than
the build.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trailgate.model.assessment import Question
from trailgate.model.decision import Check
from trailgate.model.evidence import Basis, ChangeRecord, Provenance, Statement
from trailgate.model.reason import Reason
from trailgate.policy.compiled import ChangeRequirement
from trailgate.policy.failure import Failure, listed, short

#: Judges the people of one record; gets all joined records too, for what they withdraw.
Judge = Callable[[ChangeRecord, Sequence[ChangeRecord]], Failure | None]


@dataclass(frozen=True, slots=True)
class Context:
    """What a change record is held against."""

    provenance: Provenance
    build_keys: frozenset[str]
    """Fingerprints that may sign the build by the policy, or did sign it in fact."""
    question: Question


@dataclass(frozen=True, slots=True)
class Bench:
    """Which check the records are read for, what it asks of them, and who judges their people."""

    check: Check
    wanted: ChangeRequirement
    judge: Judge


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the change records of one image amount to."""

    failure: Failure | None
    counted: Statement | None
    """The record that decided, where it was admissible."""
    joined: tuple[Statement, ...] = ()
    """It and all others that it was held against, in a stable order."""
    self_asserted: bool = False


@dataclass(frozen=True, slots=True)
class _Attempt:
    stage: int
    """How far the record came: the one that came furthest explains a denial."""
    failure: Failure | None
    statement: Statement
    self_asserted: bool


_PEOPLE = 5


def check(statements: Sequence[Statement], bench: Bench, context: Context) -> Outcome:
    """Find a record, all by trusted signers, that satisfies; else the one that came closest."""
    joined = tuple(
        statement
        for statement in sorted(statements, key=_name)
        if isinstance(statement.predicate, ChangeRecord)
        and _join(statement.predicate, context, bench.check) is None
    )
    attempts = [_attempt(statement, bench, context, joined) for statement in statements]
    best = min(attempts, key=_preference) if len(attempts) > 1 else attempts[0]
    counted = best.statement if best.stage == _PEOPLE else None
    return Outcome(best.failure, counted, joined, self_asserted=best.self_asserted)


def _name(statement: Statement) -> tuple[str, str]:
    return statement.digest.hex, statement.signer.fingerprint


def _preference(attempt: _Attempt) -> tuple[bool, bool, int, str, str]:
    failure = attempt.failure
    return (
        failure is not None,
        attempt.self_asserted,
        -attempt.stage,
        failure.reason if failure else "",
        attempt.statement.digest.hex,
    )


def _attempt(
    statement: Statement, bench: Bench, context: Context, joined: Sequence[Statement]
) -> _Attempt:
    record = statement.predicate
    assert isinstance(record, ChangeRecord)  # narrowed by statements.sort_out
    wanted, which = bench.wanted, bench.check
    self_asserted = statement.signer.fingerprint in context.build_keys

    def obstacles() -> Iterator[Failure | None]:
        yield _verifier(record, wanted, which)
        yield _join(record, context, which)
        yield _target(record, context.question, which)
        yield _independent(statement, wanted, which) if self_asserted else None
        yield _basis(record, wanted, which)
        others = [one.predicate for one in joined if isinstance(one.predicate, ChangeRecord)]
        yield bench.judge(record, others)

    for stage, failure in enumerate(obstacles()):
        if failure is not None:
            return _Attempt(stage, failure, statement, self_asserted)
    return _Attempt(_PEOPLE, None, statement, self_asserted)


def _verifier(record: ChangeRecord, wanted: ChangeRequirement, which: Check) -> Failure | None:
    if not wanted.verifiers or record.verifier in wanted.verifiers:
        return None
    return Failure(
        Reason.SIGNER_MISMATCH,
        f"verifier {record.verifier}",
        f"verifier {listed(wanted.verifiers)}",
        which,
    )


def _join(record: ChangeRecord, context: Context, which: Check) -> Failure | None:
    built, source = context.provenance, record.source
    if source.repository == built.repository and source.to == built.commit:
        return None
    return Failure(
        Reason.EVIDENCE_MISMATCH,
        f"a change record of {source.repository} at {short(source.to)}",
        f"{built.repository} at {short(built.commit)}, as the provenance says",
        which,
    )


def _target(record: ChangeRecord, question: Question, which: Check) -> Failure | None:
    target = record.target
    if target is None:
        return None
    for noun, named, actual in (
        ("namespace", target.namespace, question.namespace),
        ("cluster", target.cluster, question.cluster),
    ):
        if named is not None and named != actual:
            return Failure(
                Reason.EVIDENCE_MISMATCH,
                f"a change record for {noun} {named}",
                f"one for {noun} {actual}" if actual else f"one without a {noun}",
                which,
            )
    return None


def _independent(statement: Statement, wanted: ChangeRequirement, which: Check) -> Failure | None:
    if wanted.allow_self_asserted:
        return None
    reason = (
        Reason.REVIEW_NOT_INDEPENDENT
        if which is Check.REVIEW
        else Reason.DEPLOYMENT_APPROVAL_MISSING
    )
    return Failure(
        reason,
        f"a change record by {statement.signer}, which also signs the build",
        "one by a key that signs no build (or selfAsserted: Allow)",
        which,
    )


def _basis(record: ChangeRecord, wanted: ChangeRequirement, which: Check) -> Failure | None:
    if wanted.accept_asserted or record.basis is Basis.FORGE_API:
        return None
    reason = Reason.REVIEW_ASSERTED if which is Check.REVIEW else Reason.DEPLOYMENT_APPROVAL_MISSING
    return Failure(
        reason,
        "a change record that somebody typed (basis asserted)",
        "one read from the forge's API (or basis: Asserted)",
        which,
    )
