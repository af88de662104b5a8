"""Each reason code from the smallest change to a request that is admitted."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.policy import builders as b
from trailgate.model.admission import Caller
from trailgate.model.assessment import ChangeClass
from trailgate.model.decision import Check, CheckResult, Decision, Mode
from trailgate.model.evidence import (
    Basis,
    Rejected,
    SimpleSignature,
    TestVerdict,
    Unavailable,
    UnresolvedTag,
)
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason

TAGGED = f"{b.REPOSITORY}:v1"
#: Written by the classification, the webhook, or a crash: never by a policy.
ELSEWHERE = {Reason.OWNER_UNVERIFIED, Reason.SPOOL_FULL, Reason.INTERNAL}


def change(**fields: object) -> Decision:
    """Decide with another change record, under a policy without deployment approval."""
    return reviewed_only(change=b.statement(b.record(**fields)))


def reviewed_only(**statements: object) -> Decision:
    policy = b.policy(rules=[b.rule(deploymentApproval=None)])
    return b.verdict(b.evidence(**statements), policies=[policy])


def approvals(*given: object) -> Decision:
    return change(changes=(b.reviewed(approvals=given),))


def with_tests(**fields: object) -> Decision:
    return b.verdict(b.evidence(tests=b.statement(b.result(**fields))))


def rejected(reason: Reason, **fields: object) -> Rejected:
    return Rejected(reason, "it does not verify", predicate_type=b.SIGN, **fields)


CASES: list[tuple[str, Reason, Check | None, Callable[[], Decision]]] = [
    (
        "a tag",
        Reason.DIGEST_REQUIRED,
        None,
        lambda: b.verdict(UnresolvedTag(ImageReference.parse(TAGGED)), image=TAGGED),
    ),
    (
        "an image that no rule covers",
        Reason.NO_POLICY_FOR_IMAGE,
        None,
        lambda: b.verdict(image=f"ghcr.io/acme/other@{b.DIGEST}"),
    ),
    (
        "no image",
        Reason.NO_IMAGES_FOUND,
        None,
        lambda: b.verdict(ask=b.question(images=())),
    ),
    (
        "no signature",
        Reason.SIGNATURE_MISSING,
        Check.SIGNATURE,
        lambda: b.verdict(b.evidence(signature=None)),
    ),
    (
        "a signature that does not verify",
        Reason.SIGNATURE_INVALID,
        Check.SIGNATURE,
        lambda: b.verdict(
            b.evidence(signature=None, rejected=[rejected(Reason.SIGNATURE_INVALID)])
        ),
    ),
    (
        "a signature by a key that is trusted for something else",
        Reason.SIGNER_MISMATCH,
        Check.SIGNATURE,
        lambda: b.verdict(
            b.evidence(
                signature=b.statement(SimpleSignature(), "ci"), tests=b.statement(b.result(), "ci")
            ),
            policies=[b.policy(rules=[b.rule(tests={"signers": b.signers("ci")})])],
        ),
    ),
    (
        "a signature by a key nobody knows",
        Reason.SIGNER_MISMATCH,
        Check.SIGNATURE,
        lambda: b.verdict(
            b.evidence(
                signature=None,
                rejected=[rejected(Reason.SIGNER_MISMATCH, signer_hint="sha256:00")],
            )
        ),
    ),
    (
        "an SBOM where a signature is needed",
        Reason.PREDICATE_MISMATCH,
        Check.SIGNATURE,
        lambda: b.verdict(
            b.evidence(
                signature=None,
                rejected=[
                    Rejected(
                        Reason.PREDICATE_MISMATCH,
                        "not one of ours",
                        predicate_type="https://cyclonedx.org/bom",
                    )
                ],
            )
        ),
    ),
    (
        "no provenance",
        Reason.PROVENANCE_MISSING,
        Check.PROVENANCE,
        lambda: b.verdict(b.evidence(provenance=None)),
    ),
    (
        "provenance of another repository",
        Reason.SOURCE_MISMATCH,
        Check.PROVENANCE,
        lambda: b.verdict(
            b.evidence(
                provenance=b.statement(b.provenance(repository="https://github.com/acme/evil"))
            )
        ),
    ),
    (
        "another builder",
        Reason.SIGNER_MISMATCH,
        Check.PROVENANCE,
        lambda: b.verdict(b.evidence(provenance=b.statement(b.provenance(builder="laptop")))),
    ),
    (
        "a change record of another commit",
        Reason.EVIDENCE_MISMATCH,
        Check.REVIEW,
        lambda: change(source=b.source(to=b.OTHER, commits=(b.OTHER,))),
    ),
    (
        "a change record of another repository",
        Reason.EVIDENCE_MISMATCH,
        Check.REVIEW,
        lambda: change(source=b.source(repository="https://github.com/acme/other")),
    ),
    (
        "test results of another repository",
        Reason.EVIDENCE_MISMATCH,
        Check.TESTS,
        lambda: with_tests(repository="https://github.com/acme/other"),
    ),
    ("no change record", Reason.REVIEW_MISSING, Check.REVIEW, lambda: reviewed_only(change=None)),
    ("no approval", Reason.REVIEW_MISSING, Check.REVIEW, approvals),
    (
        "self-approved",
        Reason.REVIEW_NOT_INDEPENDENT,
        Check.REVIEW,
        lambda: approvals(b.approval(b.ALICE)),
    ),
    (
        "the review's key is the build's key",
        Reason.REVIEW_NOT_INDEPENDENT,
        Check.REVIEW,
        lambda: b.verdict(
            b.evidence(change=b.statement(b.record(), "build")),
            policies=[
                b.policy(
                    rules=[
                        b.rule(
                            review={"signers": b.signers("review", "build")},
                            deploymentApproval=None,
                        )
                    ]
                )
            ],
        ),
    ),
    (
        "approved before the last push",
        Reason.REVIEW_STALE,
        Check.REVIEW,
        lambda: approvals(b.approval(commit=b.OLDER)),
    ),
    (
        "a typed change record",
        Reason.REVIEW_ASSERTED,
        Check.REVIEW,
        lambda: change(basis=Basis.ASSERTED),
    ),
    (
        "a commit that came by no change",
        Reason.REVIEW_GAP,
        Check.REVIEW,
        lambda: change(source=b.source(commits=(b.OTHER, b.HEAD))),
    ),
    (
        "an author the forge does not know",
        Reason.UNKNOWN_AUTHOR,
        Check.REVIEW,
        lambda: change(unmapped_authors=(b.HEAD,)),
    ),
    (
        "no approval to deploy",
        Reason.DEPLOYMENT_APPROVAL_MISSING,
        Check.DEPLOYMENT_APPROVAL,
        lambda: b.verdict(b.evidence(change=b.statement(b.record(deployment_approvals=())))),
    ),
    (
        "no test result",
        Reason.TESTS_MISSING,
        Check.TESTS,
        lambda: b.verdict(b.evidence(tests=None)),
    ),
    ("no executed test", Reason.TESTS_MISSING, Check.TESTS, lambda: with_tests(run=0)),
    ("an unknown number of tests", Reason.TESTS_MISSING, Check.TESTS, lambda: with_tests(run=None)),
    (
        "a failed test result",
        Reason.TESTS_FAILED,
        Check.TESTS,
        lambda: with_tests(verdict=TestVerdict.FAILED),
    ),
    (
        "a result that says passed and counts a failure",
        Reason.TESTS_FAILED,
        Check.TESTS,
        lambda: with_tests(failed=1),
    ),
    (
        "tests of another commit",
        Reason.TESTS_OTHER_COMMIT,
        Check.TESTS,
        lambda: with_tests(commit=b.OTHER),
    ),
    ("tests of no commit", Reason.TESTS_OTHER_COMMIT, Check.TESTS, lambda: with_tests(commit=None)),
    (
        "somebody else",
        Reason.CALLER_NOT_ALLOWED,
        Check.CALLER,
        lambda: b.verdict(ask=b.question(caller=Caller("laptop"))),
    ),
    (
        "the right account, impersonated",
        Reason.CALLER_NOT_ALLOWED,
        Check.CALLER,
        lambda: b.verdict(ask=b.question(caller=replace(b.DEPLOYER, extra={}))),
    ),
    (
        "a registry that does not answer",
        Reason.EVIDENCE_UNAVAILABLE,
        None,
        lambda: b.verdict(Unavailable(ImageReference.parse(b.IMAGE), "ghcr.io: timed out")),
    ),
    (
        "an image string that is none",
        Reason.MALFORMED,
        None,
        lambda: b.verdict(image="ghcr.io/acme/WEB@sha256:zz"),
    ),
]


@pytest.mark.parametrize(
    ("reason", "check", "altered"),
    [pytest.param(*case[1:], id=f"{case[1].value}: {case[0]}") for case in CASES],
)
def test_the_smallest_change_gives_exactly_this_reason(reason, check, altered):
    decision = altered()
    assert b.reasons(decision) == [reason.value]
    assert not decision.allowed
    finding = decision.findings[0]
    assert finding.check is check
    assert finding.policy == "production"
    assert finding.mode is Mode.ENFORCE
    assert finding.got
    assert finding.expected
    assert (finding.got + finding.expected).isascii()
    if check is not None:
        assert decision.checks[check] is CheckResult.NOT_MET


def test_the_whole_list_of_reasons_is_covered():
    assert {case[1] for case in CASES} | ELSEWHERE == set(Reason)
    assert not {case[1] for case in CASES} & ELSEWHERE


def test_the_unaltered_request_is_admitted():
    decision = b.verdict()
    assert decision.allowed
    assert decision.findings == ()
    assert set(decision.images[0].checks.values()) == {CheckResult.MET}
    assert decision.checks[Check.CALLER] is CheckResult.MET
    assert decision.checks[Check.CONFIGURATION] is CheckResult.NOT_ATTESTED
    assert not decision.images[0].self_asserted
    assert len(decision.images[0].statements) == 4


@pytest.mark.parametrize("mode", ["Audit", "Warn"])
@pytest.mark.parametrize(
    ("reason", "altered"), [pytest.param(case[1], case[3], id=case[0]) for case in CASES]
)
def test_only_enforce_denies(monkeypatch, mode, reason, altered):
    original = b.policy
    monkeypatch.setattr(b, "policy", lambda *args, **kw: original(*args, mode=mode, **kw))
    decision = altered()
    assert b.reasons(decision) == [reason.value]
    assert decision.allowed
    assert not decision.denying
    assert not decision.enforced


def test_unavailable_evidence_leaves_the_checks_undetermined():
    decision = b.verdict(Unavailable(ImageReference.parse(b.IMAGE), "timed out"))
    assert set(decision.images[0].checks.values()) == {CheckResult.UNDETERMINED}
    assert decision.retryable


def test_unavailable_beside_a_denial_is_not_retryable():
    other = f"ghcr.io/acme/other@{b.DIGEST}"
    ask = b.question(images=(b.container(), b.container(other)))
    decision = b.verdict(Unavailable(ImageReference.parse(b.IMAGE), "timed out"), ask=ask)
    assert b.reasons(decision) == ["EvidenceUnavailable", "NoPolicyForImage"]
    assert not decision.retryable


def test_a_moved_tag_is_a_missing_signature_that_says_where_the_tag_went():
    image = f"{b.REPOSITORY}:v1@{b.DIGEST}"
    decision = b.verdict(UnresolvedTag(ImageReference.parse(image), b.OTHER_DIGEST), image=image)
    assert b.reasons(decision) == ["SignatureMissing"]
    assert decision.findings[0].moved_to == b.OTHER_DIGEST


def test_impersonation_is_named():
    caller = replace(b.DEPLOYER, extra={})
    finding = b.verdict(ask=b.question(caller=caller)).findings[0]
    assert "impersonated" in finding.got
    assert "ci/deployer" in finding.expected


def test_an_image_that_was_not_gathered_is_unavailable():
    decision = b.decide(b.question(), {}, [b.policy()])
    assert b.reasons(decision) == ["EvidenceUnavailable"]


def test_evidence_of_another_digest_never_counts():
    other = replace(b.evidence(), image=ImageReference.parse(f"{b.REPOSITORY}@{b.OTHER_DIGEST}"))
    assert b.reasons(b.verdict(other)) == ["EvidenceUnavailable"]


def test_evidence_of_another_repository_never_counts():
    other = replace(b.evidence(), image=ImageReference.parse(f"ghcr.io/acme/other@{b.DIGEST}"))
    assert b.reasons(b.verdict(other)) == ["EvidenceUnavailable"]


def test_nothing_at_all_names_everything_that_is_missing():
    empty = b.evidence(signature=None, provenance=None, tests=None, change=None)
    assert b.reasons(b.verdict(empty)) == [
        "SignatureMissing",
        "ProvenanceMissing",
        "ReviewMissing",
        "DeploymentApprovalMissing",
        "TestsMissing",
    ]


def test_statements_that_cannot_be_joined_are_undetermined_not_met():
    decision = b.verdict(b.evidence(provenance=None))
    assert decision.checks[Check.REVIEW] is CheckResult.UNDETERMINED
    assert decision.checks[Check.TESTS] is CheckResult.UNDETERMINED


def test_a_tag_is_examined_by_what_it_names_and_still_refused():
    ask = b.question(images=(b.container(TAGGED),), change_class=ChangeClass.ROOT)
    decision = b.decide(ask, {TAGGED: b.evidence(tests=None)}, [b.policy(mode="Audit")])
    assert b.reasons(decision) == ["DigestRequired", "TestsMissing"]
    assert str(b.DIGEST) in decision.findings[0].expected
    assert decision.checks[Check.SIGNATURE] is CheckResult.MET


def test_what_the_unverified_claims_is_of_interest_only_where_it_claims_to_be():
    """A broken test result does not explain a missing signature."""
    broken = Rejected(Reason.SIGNATURE_INVALID, "no", predicate_type=b.TEST)
    decision = b.verdict(b.evidence(signature=None, rejected=[broken]))
    assert b.reasons(decision) == ["SignatureMissing"]


def test_expiry_is_told_by_the_third_party_listing():
    listing = {
        "image": "docker.io/library/redis",
        "digests": [str(b.DIGEST)],
        "owner": "platform",
        "reason": "cache",
        "expiry": (b.NOW - timedelta(seconds=1)).isoformat(),
    }
    decision = b.verdict(image=f"redis@{b.DIGEST}", policies=[b.policy(thirdParty=[listing])])
    assert b.reasons(decision) == ["NoPolicyForImage"]
    assert "expired on 2026-11-23T11:59:59Z" in decision.findings[0].got
    assert "platform" in decision.findings[0].got
