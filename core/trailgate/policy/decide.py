"""The decision: a request, what was gathered, the policies → allowed or not, and why.

Pure, and worked out anew every time: verified evidence is cached elsewhere, a verdict
never. Allow needs a complete proof for every image under every policy that covers the
namespace; whatever is missing, unreadable or not understood is a reason against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from trailgate.model.admission import ContainerImage
from trailgate.model.assessment import ChangeClass, Question
from trailgate.model.decision import Check, CheckResult, Decision, Finding, ImageVerdict, Mode
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import (
    DeploymentApproval,
    Evidence,
    Gathered,
    Statement,
    Unavailable,
    UnresolvedTag,
)
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason
from trailgate.model.review import Reviewed
from trailgate.policy import caller, thirdparty, unread
from trailgate.policy.compiled import DeployPolicy, Rule
from trailgate.policy.failure import Failure, listed
from trailgate.policy.image import Examination, examine, examine_inherited, required
from trailgate.policy.material import covers

_VERIFIED = (ChangeClass.ROOT, ChangeClass.CHILD)
# From what an auditor must see first to what says nothing.
_WORST = (
    CheckResult.NOT_MET,
    CheckResult.UNDETERMINED,
    CheckResult.NOT_ATTESTED,
    CheckResult.MET,
    CheckResult.NOT_REQUIRED,
)
_RANK = {result: rank for rank, result in enumerate(_WORST)}
_NOTHING_ASKED: dict[Check, CheckResult] = dict.fromkeys(Check, CheckResult.NOT_REQUIRED)
_NOTHING_ASKED_OF_IMAGE: dict[Check, CheckResult] = {
    check: result
    for check, result in _NOTHING_ASKED.items()
    if check not in (Check.CALLER, Check.CONFIGURATION)
}


def decide(
    question: Question, gathered: Mapping[str, Gathered], policies: Sequence[DeployPolicy]
) -> Decision:
    """Decide one request under all policies that cover its namespace.

    ``gathered`` has what was found for each image, by its string in the spec; an
    image that a policy has a rule for and that is not in it counts as unavailable,
    or is left undetermined where ``refuses_caller``. Allowed unless a policy that
    enforces has something against it.
    """
    matching = covers(policies, question.namespace)
    settled = not gathered and bool(question.images) and refuses_caller(question, matching)
    findings: list[Finding] = []
    checks = _NOTHING_ASKED.copy()
    for policy in matching:
        failures = _about_request(policy, question, checks)
        findings += (
            _finding(_without_a_look(item) if settled else item, policy) for item in failures
        )
    verify = bool(matching) and question.change_class in _VERIFIED
    if matching and question.change_class is ChangeClass.ROOT:
        checks[Check.CONFIGURATION] = CheckResult.NOT_ATTESTED
    verdicts: list[ImageVerdict] = []
    for text, containers in _uses(question.images).items():
        subject = _Subject(text, containers, _parse(text), gathered.get(text), question, settled)
        verdict = _verdict(subject, matching if verify else ())
        verdicts.append(verdict)
        findings += verdict.findings
        for check, result in verdict.checks.items():
            _worsen(checks, check, result)
    return Decision(
        allowed=not any(finding.mode is Mode.ENFORCE for finding in findings),
        findings=tuple(findings),
        images=tuple(verdicts),
        checks=checks,
        policies=tuple(policy.reference for policy in matching),
    )


def refuses_caller(question: Question, policies: Sequence[DeployPolicy]) -> bool:
    """Whether a policy denies this caller, whatever is known of the images.

    Then nobody needs to look at them, and somebody who may change nothing can't keep
    the gate busy with images that take long to look at.
    """
    return question.change_class is ChangeClass.ROOT and any(
        policy.reference.mode is Mode.ENFORCE
        and policy.callers is not None
        and caller.check(question.caller, policy.callers) is not None
        for policy in covers(policies, question.namespace)
    )


def _without_a_look(failure: Failure) -> Failure:
    if failure.check is not Check.CALLER:
        return failure
    return replace(failure, got=f"{failure.got}; the images were not looked at")


@dataclass(slots=True)
class _Subject:
    """One image string of the request, with what is known about it."""

    text: str
    containers: tuple[ContainerImage, ...]
    image: ImageReference | None
    gathered: Gathered | None
    question: Question
    settled: bool
    """Nobody looked for evidence: the caller alone is enough to deny."""
    findings: list[Finding] = field(default_factory=list)
    statements: dict[tuple[str, str], Statement] = field(default_factory=dict)
    """By digest and signer: one that was found in two places is one."""
    reviews: list[Reviewed] = field(default_factory=list)
    deployments: dict[DeploymentApproval, None] = field(default_factory=dict)
    third_party: bool = False
    self_asserted: bool = False

    @property
    def inherited(self) -> bool:
        """Whether it is a child's image from its owner's admitted template."""
        return (
            self.question.change_class is ChangeClass.CHILD and self.text in self.question.inherited
        )


def _about_request(
    policy: DeployPolicy, question: Question, checks: dict[Check, CheckResult]
) -> Iterable[Failure]:
    """Check what is not about one image: the caller, and that there are images at all."""
    wanted, kind = policy.callers, question.change_class
    if wanted is not None and (
        kind is ChangeClass.ROOT or (kind is ChangeClass.DELETE and wanted.deny_delete)
    ):
        hold = caller.check if kind is ChangeClass.ROOT else caller.check_delete
        failure = hold(question.caller, wanted)
        _worsen(checks, Check.CALLER, CheckResult.NOT_MET if failure else CheckResult.MET)
        if failure:
            yield failure
    if kind in _VERIFIED and not question.images:
        yield Failure(Reason.NO_IMAGES_FOUND, "no image", "at least one image to verify")


def _verdict(subject: _Subject, policies: Sequence[DeployPolicy]) -> ImageVerdict:
    checks = _NOTHING_ASKED_OF_IMAGE.copy()
    for policy in policies:
        rule = policy.rule_for(subject.image) if subject.image else None
        result = _examine(subject, policy, rule)
        for check, outcome in result.checks.items():
            _worsen(checks, check, outcome)
        subject.self_asserted |= result.self_asserted
        for statement in result.counted:
            subject.statements[statement.digest.hex, statement.signer.fingerprint] = statement
        subject.reviews += (one for one in result.reviews if one not in subject.reviews)
        subject.deployments |= dict.fromkeys(result.deployments)
        subject.findings += (
            _finding(failure, policy, rule, subject.text) for failure in result.failures
        )
    evidence = subject.gathered
    return ImageVerdict(
        containers=subject.containers,
        image=subject.image,
        statements=tuple(sorted(subject.statements.values(), key=_by_kind)),
        platforms=evidence.platforms if isinstance(evidence, Evidence) else (),
        checks=checks,
        findings=tuple(subject.findings),
        reviews=tuple(subject.reviews),
        deployments=tuple(subject.deployments),
        third_party=subject.third_party,
        self_asserted=subject.self_asserted,
    )


def _examine(subject: _Subject, policy: DeployPolicy, rule: Rule | None) -> Examination:
    """Hold one image against one policy, from what needs no evidence to what does."""
    image, question = subject.image, subject.question
    if image is None:
        return _unproven(
            Failure(
                Reason.MALFORMED,
                f"image {subject.text[:200]!r}",
                "host/path[:tag]@sha256:<64 hex digits>",
            )
        )
    listing = thirdparty.find(
        policy, image, None if subject.inherited else question.at, ageless=subject.inherited
    )
    if listing.admitted:
        subject.third_party = True
        return Examination()
    if rule is None:
        return _unproven(_uncovered(policy, image, listing))
    if image.digest is None:
        return _by_tag(subject, rule)
    return _by_digest(subject, rule)


def _by_tag(subject: _Subject, rule: Rule) -> Examination:
    """Examine what a tag names now. It never passes: it is checked now and pulled later."""
    gathered, image = subject.gathered, subject.image
    assert image is not None  # checked by _examine
    current = gathered.current if isinstance(gathered, UnresolvedTag) else None
    if isinstance(gathered, Evidence):
        current = gathered.image.digest
    failure = Failure(
        Reason.DIGEST_REQUIRED,
        f"tag {image.tag}" if image.tag else "neither tag nor digest",
        f"{image.name}@{current}" if current else f"{image.name}@sha256:<digest>",
    )
    if isinstance(gathered, Evidence) and gathered.image.name == image.name:
        result = _on_evidence(subject, rule, gathered)
    else:
        result = _undetermined(rule)
    result.failures.insert(0, failure)
    return result


def _by_digest(subject: _Subject, rule: Rule) -> Examination:
    gathered, image = subject.gathered, subject.image
    assert image is not None  # checked by _examine
    match gathered:
        case Evidence() if gathered.image.digest == image.digest and (
            gathered.image.name == image.name
        ):
            return _on_evidence(subject, rule, gathered)
        case UnresolvedTag() if gathered.current is not None and gathered.current != image.digest:
            failure = Failure(
                Reason.SIGNATURE_MISSING,
                f"a tag that has moved from {image.digest} to {gathered.current}",
                f"evidence for {image.digest}",
                Check.SIGNATURE,
                gathered.current,
            )
            return _unproven(failure)
        case None if subject.settled:
            return _undetermined(rule)
        case Unavailable():
            detail = gathered.detail
        case Evidence():
            detail = f"evidence of {gathered.image} was given for {image}"
        case _:
            detail = "nothing was gathered for this image"
    result = _undetermined(rule)
    result.failures.append(
        Failure(Reason.EVIDENCE_UNAVAILABLE, detail, "evidence that can be read")
    )
    return result


def _on_evidence(subject: _Subject, rule: Rule, evidence: Evidence) -> Examination:
    if subject.inherited:
        return examine_inherited(rule, evidence, subject.question)
    result = examine(rule, evidence, subject.question)
    unread.hold(result, evidence)
    return result


def _uncovered(policy: DeployPolicy, image: ImageReference, listing: thirdparty.Listing) -> Failure:
    if listing.needs_digest:
        return Failure(
            Reason.DIGEST_REQUIRED,
            f"tag {image.tag}" if image.tag else "neither tag nor digest",
            f"{image.name}@sha256:<digest>, one of those listed as third party",
        )
    if listing.why:
        return Failure(Reason.NO_POLICY_FOR_IMAGE, listing.why, "a rule or a valid listing")
    texts = [text for rule in policy.rules for text in rule.images.texts]
    expected = f"an image of {listed(texts)}" if texts else "no image at all"
    return Failure(Reason.NO_POLICY_FOR_IMAGE, f"{image.name}, which no rule covers", expected)


def _unproven(failure: Failure) -> Examination:
    """Report an image that nothing could prove: for an auditor it is not signed."""
    return Examination({Check.SIGNATURE: CheckResult.NOT_MET}, [failure])


def _undetermined(rule: Rule) -> Examination:
    return Examination({check: CheckResult.UNDETERMINED for check, _ in required(rule)})


def _finding(
    failure: Failure, policy: DeployPolicy, rule: Rule | None = None, image: str | None = None
) -> Finding:
    return Finding(
        reason=failure.reason,
        got=failure.got,
        expected=failure.expected,
        policy=policy.name,
        rule=rule.name if rule else None,
        image=image,
        check=failure.check,
        mode=policy.mode,
        moved_to=failure.moved_to,
        permanent=failure.permanent,
    )


def _by_kind(statement: Statement) -> tuple[str, str]:
    return statement.kind, statement.digest.hex


def _worsen(checks: dict[Check, CheckResult], check: Check, result: CheckResult) -> None:
    if result is not CheckResult.NOT_REQUIRED and _RANK[result] < _RANK[checks[check]]:
        checks[check] = result


def _uses(images: Iterable[ContainerImage]) -> dict[str, tuple[ContainerImage, ...]]:
    """Group the uses of each image string, in the order of first use."""
    uses: dict[str, tuple[ContainerImage, ...]] = {}
    for item in images:
        uses[item.image] = (*uses.get(item.image, ()), item)
    return uses


@lru_cache(maxsize=4096)
def _parse(text: str) -> ImageReference | None:
    try:
        return ImageReference.parse(text)
    except MalformedError:
        return None
