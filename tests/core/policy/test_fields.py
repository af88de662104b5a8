"""Each field does what it says: a request that is admitted without it is denied with it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import inspect

from tests.core.policy import builders as b
from tests.core.policy.test_parse import structs, third_party
from trailgate.model.admission import Caller
from trailgate.model.assessment import ChangeClass
from trailgate.model.evidence import Basis, DeploymentApproval, SimpleSignature
from trailgate.policy import schema

ALICE_DEPLOYS = b.record(
    deployment_approvals=(DeploymentApproval(b.ALICE, "production", b.NOW - timedelta(hours=1)),)
)
SELF_SIGNED = b.evidence(change=b.statement(b.record(), "build"))
OLD_TESTS = b.evidence(tests=b.statement(b.result(finished_at=b.NOW - timedelta(hours=25))))
LISTED = f"docker.io/library/redis@{b.DIGEST}"
ANYBODY = Caller("alice", groups=("developers",))


def rule(statement, **fields):
    """Policies that differ in fields of one statement of their rule."""
    return {"rules": [b.rule(**{statement: b.rule()[statement] | fields})]}


def bare(**fields):
    return {"rules": [b.rule(**(dict.fromkeys(["deploymentApproval"]) | fields))]}


def typed(statement, **fields):
    """As ``rule``, with only this statement reading the change record."""
    other = "deploymentApproval" if statement == "review" else "review"
    return {"rules": [b.rule(**{statement: b.rule()[statement] | fields, other: None})]}


def own_key(statement, **fields):
    return typed(statement, signers=b.signers("build", "review"), **fields)


#: Field: spec without (admits), spec with (denies), and the request; evidence or question.
ALTERED = {
    "mode": ({"mode": "Audit"}, {"mode": "Enforce"}, b.evidence(tests=None), {}),
    "namespaces": ({"namespaces": ["other"]}, {"namespaces": ["sh*"]}, b.evidence(tests=None), {}),
    "callers": ({"callers": None}, {}, None, {"caller": ANYBODY}),
    "callers.users": (
        {"callers": {"users": ["alice"]}},
        {"callers": {"users": ["bob"]}},
        None,
        {"caller": ANYBODY},
    ),
    "callers.groups": (
        {"callers": {"groups": ["developers"]}},
        {"callers": {"groups": ["deployers"]}},
        None,
        {"caller": ANYBODY},
    ),
    "callers.serviceAccounts": (
        {"callers": {"serviceAccounts": ["ci/deployer"]}},
        {"callers": {"serviceAccounts": ["shop/other"]}},
        None,
        {},
    ),
    "callers.delete": (
        {"callers": {"users": ["bob"], "delete": "Record"}},
        {"callers": {"users": ["bob"], "delete": "Deny"}},
        None,
        {"caller": ANYBODY, "change_class": ChangeClass.DELETE},
    ),
    "rules": ({}, {"rules": []}, None, {}),
    "rules[0].images": (bare(images=["ghcr.io/acme/*"]), bare(images=["ghcr.io/acme/a"]), None, {}),
    "rules[0].source": (
        bare(source=None, provenance=None, review=None, tests=None),
        bare(review=None, tests=None, source={"repositories": ["https://github.com/acme/a"]}),
        None,
        {},
    ),
    "rules[0].source.repositories": (
        bare(source={"repositories": ["https://github.com/acme/*"]}),
        bare(source={"repositories": ["https://github.com/acme/a"]}),
        None,
        {},
    ),
    "rules[0].source.refs": (
        bare(source={"repositories": [b.SOURCE], "refs": ["refs/heads/*"]}),
        bare(source={"repositories": [b.SOURCE], "refs": ["refs/tags/*"]}),
        None,
        {},
    ),
    "rules[0].signature": (bare(signature=None), bare(), b.evidence(signature=None), {}),
    "rules[0].signature.signers": (
        rule("signature", signers=b.signers("build", "other")),
        rule("signature", signers=b.signers("other")),
        None,
        {},
    ),
    "rules[0].signature.signers[0].key": (
        rule("signature", signers=[{"name": "build", "key": b.pem("build")}]),
        rule("signature", signers=[{"name": "build", "key": b.pem("other")}]),
        None,
        {},
    ),
    "rules[0].provenance": (
        bare(source=None, provenance=None, review=None, tests=None),
        bare(review=None, tests=None),
        b.evidence(provenance=None),
        {},
    ),
    "rules[0].provenance.signers": (
        rule("provenance", signers=b.signers("build", "other")),
        rule("provenance", signers=b.signers("other")),
        None,
        {},
    ),
    "rules[0].provenance.builders": (
        rule("provenance", builders=[]),
        rule("provenance", builders=["other"]),
        None,
        {},
    ),
    "rules[0].review": (bare(review=None), bare(), b.evidence(change=None), {}),
    "rules[0].review.signers": (
        rule("review", signers=b.signers("review", "other")),
        rule("review", signers=b.signers("other")),
        None,
        {},
    ),
    "rules[0].review.verifiers": (
        rule("review", verifiers=[]),
        rule("review", verifiers=["other"]),
        None,
        {},
    ),
    "rules[0].review.basis": (
        typed("review", basis="Asserted"),
        typed("review", basis="ForgeApi"),
        b.evidence(change=b.statement(b.record(basis=Basis.ASSERTED))),
        {},
    ),
    "rules[0].review.selfAsserted": (
        own_key("review", selfAsserted="Allow"),
        own_key("review", selfAsserted="Deny"),
        SELF_SIGNED,
        {},
    ),
    "rules[0].review.approvals": (
        rule("review", approvals=1),
        rule("review", approvals=2),
        None,
        {},
    ),
    "rules[0].deploymentApproval": (
        bare(),
        {},
        b.evidence(change=b.statement(b.record(deployment_approvals=()))),
        {},
    ),
    "rules[0].deploymentApproval.signers": (
        rule("deploymentApproval", signers=b.signers("review", "other")),
        rule("deploymentApproval", signers=b.signers("other")),
        None,
        {},
    ),
    "rules[0].deploymentApproval.verifiers": (
        rule("deploymentApproval", verifiers=[]),
        rule("deploymentApproval", verifiers=["other"]),
        None,
        {},
    ),
    "rules[0].deploymentApproval.basis": (
        typed("deploymentApproval", basis="Asserted"),
        typed("deploymentApproval", basis="ForgeApi"),
        b.evidence(change=b.statement(b.record(basis=Basis.ASSERTED))),
        {},
    ),
    "rules[0].deploymentApproval.selfAsserted": (
        own_key("deploymentApproval", selfAsserted="Allow"),
        own_key("deploymentApproval", selfAsserted="Deny"),
        SELF_SIGNED,
        {},
    ),
    "rules[0].deploymentApproval.environment": (
        rule("deploymentApproval", environment="production"),
        rule("deploymentApproval", environment="staging"),
        None,
        {},
    ),
    "rules[0].deploymentApproval.notCommitter": (
        rule("deploymentApproval", notCommitter=False),
        rule("deploymentApproval", notCommitter=True),
        b.evidence(change=b.statement(ALICE_DEPLOYS)),
        {},
    ),
    "rules[0].tests": (bare(tests=None), bare(), b.evidence(tests=None), {}),
    "rules[0].tests.signers": (
        rule("tests", signers=b.signers("build", "other")),
        rule("tests", signers=b.signers("other")),
        None,
        {},
    ),
    "rules[0].tests.maxAge": (
        rule("tests"),
        rule("tests", maxAge="24h"),
        OLD_TESTS,
        {},
    ),
    "rules[0].tests.suites": (
        rule("tests", suites=["unit"]),
        rule("tests", suites=["unit", "integration"]),
        None,
        {},
    ),
    "thirdParty": ({"thirdParty": [third_party()]}, {"thirdParty": []}, None, {"image": LISTED}),
    "thirdParty[0].image": (
        {"thirdParty": [third_party()]},
        {"thirdParty": [third_party(image="docker.io/library/nginx")]},
        None,
        {"image": LISTED},
    ),
    "thirdParty[0].digests": (
        {"thirdParty": [third_party()]},
        {"thirdParty": [third_party(digests=[str(b.OTHER_DIGEST)])]},
        None,
        {"image": LISTED},
    ),
    "thirdParty[0].expiry": (
        {"thirdParty": [third_party()]},
        {"thirdParty": [third_party(expiry="2026-11-23T14:00:00+02:00")]},
        None,
        {"image": LISTED},
    ),
}

#: Words for people: shown in denials and records, never decided on.
WORDS = {"rules[0].name", "thirdParty[0].owner", "thirdParty[0].reason"} | {
    f"rules[0].{statement}.signers[0].name"
    for statement in ("signature", "provenance", "review", "deploymentApproval", "tests")
}
#: The same type everywhere; tested once.
SAME = {
    f"rules[0].{statement}.signers[0].key"
    for statement in ("provenance", "review", "deploymentApproval", "tests")
}


def ask(spec, evidence, question):
    fields = dict(question)
    image = fields.pop("image", b.IMAGE)
    asked = replace(b.question(images=(b.container(image),)), **fields)
    return b.verdict(evidence, policies=[b.policy(**spec)], ask=asked, image=image)


@pytest.mark.parametrize("field", ALTERED)
def test_without_it_admitted_with_it_denied(field):
    without, with_it, evidence, question = ALTERED[field]
    assert ask(without, evidence, question).allowed
    denied = ask(with_it, evidence, question)
    assert not denied.allowed
    assert denied.denying


def test_every_field_of_the_schema_is_here():
    fields = {
        f"{path}.{field.encode_name}".removeprefix("spec.")
        for path, kind in structs(inspect.type_info(schema.Spec))
        for field in kind.fields
    }
    assert fields == set(ALTERED) | WORDS | SAME


def test_self_asserted_is_said_where_it_is_allowed():
    for statement in ("review", "deploymentApproval"):
        decision = ask(own_key(statement, selfAsserted="Allow"), SELF_SIGNED, {})
        assert decision.allowed
        assert decision.images[0].self_asserted


def test_self_asserted_is_not_said_where_an_independent_key_signed():
    decision = ask(own_key("review", selfAsserted="Allow"), None, {})
    assert decision.allowed
    assert not decision.images[0].self_asserted
    beside = b.evidence(b.statement(b.record(), "build"))
    decision = ask(own_key("review", selfAsserted="Allow"), beside, {})
    assert decision.allowed
    assert not decision.images[0].self_asserted


def test_it_is_the_actual_signer_that_must_be_independent():
    """Two keys may sign reviews, one of which builds: only the one that builds is refused."""
    assert ask(own_key("review"), None, {}).allowed
    assert b.reasons(ask(own_key("review"), SELF_SIGNED, {})) == ["ReviewNotIndependent"]


def test_a_review_key_that_signs_builds_in_fact_is_not_independent():
    """Whatever the policy lists: the image was signed by the key that signed its review."""
    also = b.evidence(b.statement(SimpleSignature(), "review"))
    assert b.reasons(ask(bare(), also, {})) == ["ReviewNotIndependent"]
    also = b.evidence(b.statement(b.provenance(), "review"))
    assert b.reasons(ask(bare(), also, {})) == ["ReviewNotIndependent"]


@pytest.mark.parametrize(
    ("finished", "at", "fresh"),
    [
        (timedelta(hours=24), b.NOW, True),
        (timedelta(hours=24, seconds=1), b.NOW, False),
        (-timedelta(minutes=5), b.NOW, True),
        (-timedelta(minutes=6), b.NOW, False),
        (timedelta(hours=1), None, False),
        (None, b.NOW, False),
    ],
)
def test_what_is_fresh(finished, at, fresh):
    end = None if finished is None else b.NOW - finished
    evidence = b.evidence(tests=b.statement(b.result(finished_at=end)))
    decision = ask(rule("tests", maxAge="24h"), evidence, {"at": at})
    assert decision.allowed is fresh
    assert b.reasons(decision) == ([] if fresh else ["TestsMissing"])


def test_suites_may_come_from_several_runs():
    both_ran = b.evidence(b.statement(b.result(suites=("integration",))))
    assert ask(rule("tests", suites=["unit", "integration"]), both_ran, {}).allowed


def test_an_empty_or_old_run_does_not_bring_its_suites():
    for result in (
        b.result(suites=("integration",), run=0),
        b.result(suites=("integration",), finished_at=b.NOW - timedelta(hours=25)),
    ):
        evidence = b.evidence(b.statement(result))
        wanted = rule("tests", suites=["unit", "integration"], maxAge="24h")
        assert b.reasons(ask(wanted, evidence, {})) == ["TestsMissing"]


def test_a_third_party_listing_without_a_clock_does_not_count():
    spec = {"thirdParty": [third_party()]}
    decision = ask(spec, None, {"image": LISTED, "at": None})
    assert b.reasons(decision) == ["NoPolicyForImage"]
