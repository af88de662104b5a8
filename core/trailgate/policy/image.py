"""One image under one rule: which requirements its evidence meets, and which not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from trailgate.model.assessment import Question
from trailgate.model.decision import Check, CheckResult
from trailgate.model.evidence import (
    ChangeRecord,
    DeploymentApproval,
    Evidence,
    Provenance,
    Statement,
    StatementKind,
    TestResult,
)
from trailgate.model.review import Reviewed
from trailgate.policy import change, compiled, deployment, provenance, review, tests
from trailgate.policy.compiled import Rule, Signers
from trailgate.policy.failure import Failure
from trailgate.policy.statements import Sorted, absence, sort_out, trusted

_PROVENANCE = Check.PROVENANCE
_BUILD_KINDS = (StatementKind.SIGNATURE, StatementKind.PROVENANCE)


@dataclass(frozen=True, slots=True)
class _Case:
    """One image before one rule."""

    rule: Rule
    evidence: Evidence
    found: Sorted
    question: Question

    def absence(self, check: Check, signers: Signers) -> Failure:
        return absence(self.found, check, signers, self.evidence)

    def trusted(self, check: Check, signers: Signers) -> tuple[Statement, ...]:
        return trusted(self.found, check, signers)


@dataclass(slots=True)
class Examination:
    """What one rule makes of one image's evidence."""

    checks: dict[Check, CheckResult] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    counted: list[Statement] = field(default_factory=list)
    """By a signer of the rule, and about what was built; one may be named twice."""
    reviews: list[Reviewed] = field(default_factory=list)
    """By which records the review was decided."""
    deployments: list[DeploymentApproval] = field(default_factory=list)
    """The approvals to deploy that count."""
    self_asserted: bool = False

    def note(self, check: Check, failure: Failure | None) -> None:
        """Enter one check's outcome."""
        if failure is None:
            self.checks[check] = CheckResult.MET
        else:
            self.checks[check] = CheckResult.NOT_MET
            self.failures.append(failure)


def required(rule: Rule) -> tuple[tuple[Check, Signers], ...]:
    """Return the checks a rule asks for, in the order in which they are reported."""
    parts = (
        (Check.SIGNATURE, rule.signature),
        (Check.PROVENANCE, rule.provenance),
        (Check.REVIEW, rule.review),
        (Check.DEPLOYMENT_APPROVAL, rule.deployment_approval),
        (Check.TESTS, rule.tests),
    )
    return tuple((check, part.signers) for check, part in parts if part is not None)


def examine(rule: Rule, evidence: Evidence, question: Question) -> Examination:
    """Hold an image's evidence against everything that the rule asks."""
    case = _Case(rule, evidence, sort_out(evidence), question)
    result = Examination()
    if rule.signature is not None:
        _signed(case, Check.SIGNATURE, rule.signature.signers, result)
    if rule.provenance is None:
        return result
    signers = rule.provenance.signers
    stories = [_story(case, rule.provenance, item) for item in case.trusted(_PROVENANCE, signers)]
    if not stories:
        result.note(_PROVENANCE, case.absence(_PROVENANCE, signers))
        _without_provenance(case, result)
        return result
    best = min(stories, key=_preference) if len(stories) > 1 else stories[0]
    result.checks |= best.checks
    result.failures += best.failures
    result.counted += best.counted
    result.reviews += best.reviews
    result.deployments += best.deployments
    result.self_asserted = best.self_asserted
    return result


def examine_inherited(rule: Rule, evidence: Evidence, question: Question) -> Examination:
    """Hold the image of an admitted template's pod against the rule.

    Only that the image is signed: freshness, callers and tightened rules bind root
    changes, and must not stop the pods of a running release.
    """
    case = _Case(rule, evidence, sort_out(evidence), question)
    result = Examination()
    if rule.signature is not None:
        _signed(case, Check.SIGNATURE, rule.signature.signers, result)
    elif rule.provenance is not None:
        _signed(case, _PROVENANCE, rule.provenance.signers, result)
    return result


def _signed(case: _Case, check: Check, signers: Signers, result: Examination) -> None:
    statements = case.trusted(check, signers)
    result.counted += statements
    result.note(check, None if statements else case.absence(check, signers))


def _story(case: _Case, wanted: compiled.Provenance, built: Statement) -> Examination:
    """Tell the image's story as one provenance has it: all else must be about its commit."""
    result = Examination()
    assert isinstance(built.predicate, Provenance)  # narrowed by sort_out
    failure = provenance.check(built.predicate, wanted)
    result.note(_PROVENANCE, failure)
    if failure is not None:
        _without_provenance(case, result)
        return result
    result.counted.append(built)
    if case.rule.review is not None or case.rule.deployment_approval is not None:
        _changed(case, built.predicate, result)
    if case.rule.tests is not None:
        _tested(case, case.rule.tests, built.predicate, result)
    return result


def _changed(case: _Case, built: Provenance, result: Examination) -> None:
    """Hold the change records against review and deployment approval."""
    signed = {item.signer.fingerprint for kind in _BUILD_KINDS for item in case.found.get(kind, ())}
    context = change.Context(built, case.rule.build_keys | signed, case.question)
    for bench in _benches(case.rule):
        records = case.trusted(bench.check, bench.wanted.signers)
        if not records:
            result.note(bench.check, case.absence(bench.check, bench.wanted.signers))
            continue
        outcome = change.check(records, bench, context)
        result.note(bench.check, outcome.failure)
        result.self_asserted |= outcome.self_asserted and outcome.failure is None
        if outcome.counted is not None:
            result.counted.append(outcome.counted)
            if bench.check is Check.REVIEW:
                result.reviews.append(Reviewed(outcome.counted, outcome.joined))
            else:
                result.deployments += _deployed(case.rule, outcome.counted, outcome.joined)


def _deployed(
    rule: Rule, statement: Statement, joined: Sequence[Statement]
) -> tuple[DeploymentApproval, ...]:
    record = statement.predicate
    assert isinstance(record, ChangeRecord)  # change.check reads no other
    assert rule.deployment_approval is not None
    others = [one.predicate for one in joined if isinstance(one.predicate, ChangeRecord)]
    return deployment.counted(record, rule.deployment_approval, others)


def _benches(rule: Rule) -> Iterator[change.Bench]:
    if (review_ := rule.review) is not None:
        yield change.Bench(
            Check.REVIEW, review_, lambda one, joined: review.judge(one, review_, joined)
        )
    if (approval := rule.deployment_approval) is not None:
        yield change.Bench(
            Check.DEPLOYMENT_APPROVAL,
            approval,
            lambda one, joined: deployment.judge(one, approval, joined),
        )


def _tested(case: _Case, wanted: compiled.Tests, built: Provenance, result: Examination) -> None:
    statements = case.trusted(Check.TESTS, wanted.signers)
    if not statements:
        result.note(Check.TESTS, case.absence(Check.TESTS, wanted.signers))
        return
    results = [item.predicate for item in statements if isinstance(item.predicate, TestResult)]
    result.note(Check.TESTS, tests.check(results, wanted, built, case.question.at))
    about = {id(item) for item in tests.joined(results, built)}
    result.counted += (item for item in statements if id(item.predicate) in about)


def _without_provenance(case: _Case, result: Examination) -> None:
    """Note other statements as missing or, with nothing to join them to, undetermined."""
    for check, signers in required(case.rule):
        if check in (Check.SIGNATURE, _PROVENANCE):
            continue
        if case.trusted(check, signers):
            result.checks[check] = CheckResult.UNDETERMINED
        else:
            result.note(check, case.absence(check, signers))


def _preference(story: Examination) -> tuple[int, bool, Sequence[str], str]:
    """Order stories: the fewest failures first, then whatever makes the choice stable."""
    digest = story.counted[0].digest.hex if story.counted else ""
    undetermined = sum(item is CheckResult.UNDETERMINED for item in story.checks.values())
    reasons = [failure.reason.value + failure.got for failure in story.failures]
    return len(story.failures) + undetermined, story.self_asserted, reasons, digest
