"""What must hold of every decision, whatever the evidence."""

import random
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.policy import builders as b
from trailgate.model.assessment import ChangeClass
from trailgate.model.decision import Check, CheckResult, Mode
from trailgate.model.evidence import (
    ApprovalBinding,
    Basis,
    Person,
    Rejected,
    SimpleSignature,
    TestVerdict,
)
from trailgate.model.reason import Reason

MANY = settings(max_examples=150, deadline=None)
_commits = st.sampled_from([b.HEAD, b.OLDER, b.OTHER, b.MERGE])
_people = st.sampled_from([b.ALICE, b.BOB, b.CAROL, Person("git:bob@acme.example")])
_repositories = st.sampled_from([b.SOURCE, "https://github.com/acme/other"])
_times = st.integers(0, 6).map(lambda hours: b.NOW - timedelta(hours=hours))
_signers = st.sampled_from(["build", "review", "stranger"])

_approvals = st.builds(
    b.approval,
    _people,
    _commits,
    state=st.sampled_from(["APPROVED", "APPROVED", "CHANGES_REQUESTED", "DISMISSED", "COMMENTED"]),
    at=_times,
    binding=st.sampled_from(ApprovalBinding),
)
_changes = st.builds(
    b.reviewed,
    head_commit=_commits,
    commits=st.lists(_commits, min_size=1, max_size=3).map(tuple),
    merge_commit=st.none() | _commits,
    approvals=st.lists(_approvals, max_size=3).map(tuple),
    committers=st.lists(_people, max_size=2).map(tuple),
    last_pusher=st.none() | _people,
)
_records = st.builds(
    b.record,
    passed=st.booleans(),
    basis=st.sampled_from(Basis),
    source=st.builds(
        b.source,
        to=_commits,
        start=st.none() | st.just(b.BASE),
        commits=st.lists(_commits, max_size=3).map(tuple),
        repository=_repositories,
    ),
    changes=st.lists(_changes, max_size=2).map(tuple),
    committers=st.lists(_people, max_size=2).map(tuple),
    unmapped_authors=st.sampled_from([(), (b.HEAD,)]),
)
_provenances = st.builds(
    b.provenance,
    commit=_commits,
    repository=_repositories,
    builder=st.sampled_from([b.BUILDER, "laptop"]),
)
_results = st.builds(
    b.result,
    commit=st.none() | _commits,
    repository=st.none() | _repositories,
    verdict=st.sampled_from(TestVerdict),
    run=st.none() | st.integers(0, 3),
    failed=st.none() | st.integers(0, 1),
    suites=st.sampled_from([(), ("unit",), ("integration",)]),
)
_signatures = st.just(SimpleSignature())
_any = st.one_of(_records, _provenances, _results, _signatures)
_good = list(b.evidence().statements)
_statements = st.builds(b.statement, _any, _signers) | st.sampled_from(_good)
# What is needed, perhaps without one of it, among noise: so that both verdicts are frequent.
_worlds = st.builds(
    lambda without, noise: [*(s for i, s in enumerate(_good) if i != without), *noise],
    st.integers(0, 7),
    st.lists(_statements, max_size=3),
)
_reasons = st.sampled_from(
    [Reason.SIGNATURE_INVALID, Reason.SIGNER_MISMATCH, Reason.PREDICATE_MISMATCH, Reason.MALFORMED]
)
_rejected = st.builds(
    Rejected,
    _reasons,
    st.sampled_from(["a", "b"]),
    predicate_type=st.sampled_from([None, b.SIGN, b.SLSA, b.TEST, b.VSA, "other"]),
)
_rules = st.fixed_dictionaries(
    {},
    optional={
        "signature": st.none(),
        "deploymentApproval": st.none(),
        "tests": st.none() | st.just({"signers": b.signers("build"), "suites": ["unit"]}),
        "review": st.sampled_from(
            [
                None,
                {"signers": b.signers("review"), "approvals": 2},
                {"signers": b.signers("review", "build"), "selfAsserted": "Allow"},
                {"signers": b.signers("review"), "basis": "Asserted"},
            ]
        ),
    },
)
_policies = st.builds(
    lambda name, rule, **spec: b.policy(name, rules=[b.rule(**rule)], **spec),
    st.sampled_from(["a", "b", "c"]),
    _rules,
    mode=st.sampled_from(["Audit", "Enforce"]),
    namespaces=st.sampled_from([["shop"], ["*"], ["other"]]),
)
_asked = st.builds(
    b.question,
    change_class=st.sampled_from([ChangeClass.ROOT, ChangeClass.CHILD]),
    inherited=st.sampled_from([frozenset(), frozenset({b.IMAGE})]),
)


def decide(statements, policies, ask, rejected=()):
    given_ = replace(b.evidence(), statements=tuple(statements), rejected=tuple(rejected))
    return b.verdict(given_, policies=policies, ask=ask)


@MANY
@given(_worlds, st.lists(_rejected, max_size=3), _policies, _asked, st.randoms())
def test_order_never_matters(world, rejected, policy, ask, shuffler: random.Random):
    first = decide(world, [policy], ask, rejected)
    world, rejected = list(world), list(rejected)
    shuffler.shuffle(world)
    shuffler.shuffle(rejected)
    assert decide(world, [policy], ask, rejected) == first


@MANY
@given(_worlds, _policies, _policies, _asked)
def test_another_policy_never_turns_a_denial_into_a_yes(world, policy, other, ask):
    if not decide(world, [policy], ask).allowed:
        assert not decide(world, [policy, other], ask).allowed
        assert not decide(world, [other, policy], ask).allowed


@MANY
@given(_worlds, st.lists(_rejected, max_size=4), _policies, _asked)
def test_what_does_not_verify_never_changes_the_verdict(world, rejected, policy, ask):
    bare, more = decide(world, [policy], ask), decide(world, [policy], ask, rejected)
    assert bare.allowed == more.allowed
    assert bare.checks == more.checks
    assert bare.images[0].statements == more.images[0].statements


@MANY
@given(_worlds, st.lists(st.builds(b.statement, _any, st.just("mallory")), max_size=4), _policies)
def test_what_strangers_sign_never_changes_the_verdict(world, strangers, policy):
    """They may change which reason is given, never what is decided."""
    ask = b.question()
    assert (
        decide(world, [policy], ask).allowed == decide([*world, *strangers], [policy], ask).allowed
    )


_NEEDED_KIND = {
    Check.SIGNATURE: "signature",
    Check.PROVENANCE: "provenance",
    Check.REVIEW: "change",
    Check.DEPLOYMENT_APPROVAL: "change",
    Check.TESTS: "tests",
}


@MANY
@given(_worlds, _statements, _policies)
def test_only_a_missing_statement_turns_a_denial_into_a_yes(world, extra, policy):
    """One more statement helps only with the check that it is for, by a signer that it has.

    A provenance is what everything else is joined to: with another one the others may fit.
    """
    ask = b.question()
    before, after = decide(world, [policy], ask), decide([*world, extra], [policy], ask)
    if before.allowed or not after.allowed:
        return
    assert extra in after.images[0].statements
    if extra.kind.value != "provenance":
        cured = {
            check
            for check, result in after.images[0].checks.items()
            if result is CheckResult.MET and before.images[0].checks[check] is not CheckResult.MET
        }
        assert {_NEEDED_KIND[check] for check in cured} == {extra.kind.value}


@MANY
@given(_worlds, _policies, _asked)
def test_allowed_is_said_only_with_every_check_met(world, policy, ask):
    decision = decide(world, [policy], ask)
    if decision.policies and decision.enforced and decision.allowed:
        assert set(decision.checks.values()) <= {
            CheckResult.MET,
            CheckResult.NOT_REQUIRED,
            CheckResult.NOT_ATTESTED,
        }
        assert decision.findings == ()
        assert decision.images[0].statements


@MANY
@given(_worlds, _policies, _asked)
def test_the_mode_changes_what_is_done_and_not_what_is_found(world, policy, ask):
    audit = replace(policy, reference=replace(policy.reference, mode=Mode.AUDIT))
    enforce = replace(policy, reference=replace(policy.reference, mode=Mode.ENFORCE))
    found, denied = decide(world, [audit], ask), decide(world, [enforce], ask)
    assert found.allowed
    assert found.checks == denied.checks
    assert b.reasons(found) == b.reasons(denied)
    assert denied.allowed == (not denied.findings)


@MANY
@given(_worlds)
def test_the_same_question_has_the_same_answer(world):
    policy = b.policy()
    assert decide(world, [policy], b.question()) == decide(world, [policy], b.question())
