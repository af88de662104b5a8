"""The decision as a whole: classes of change, several policies, several images."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.policy import builders as b
from tests.core.policy.test_parse import third_party
from trailgate.model.admission import Caller, ContainerClass, ContainerImage
from trailgate.model.assessment import ChangeClass
from trailgate.model.decision import Check, CheckResult, Mode
from trailgate.model.evidence import (
    DeploymentTarget,
    Evidence,
    SimpleSignature,
    StatementKind,
    TestVerdict,
    Unavailable,
    UnresolvedTag,
)
from trailgate.model.image import ImageReference
from trailgate.policy.material import covers, keys_for, registries

NOBODY = Caller("alice")
SIGNED_ONLY = b.evidence(provenance=None, tests=None, change=None)
UNSIGNED = b.evidence(signature=None)
INHERITED = frozenset({b.IMAGE})


CREDENTIAL = "authentication.kubernetes.io/credential-id"
WRITTEN = b.DEPLOYER.extra[CREDENTIAL][0]
FORGED = [
    {},
    *(
        {CREDENTIAL: values}
        for values in (
            (),
            ("",),
            ("x",),
            ("JTI=x",),
            ("X509SHA256=12",),
            (WRITTEN.removeprefix("JTI="),),
            (WRITTEN + "\n",),
            (WRITTEN, WRITTEN),
        )
    ),
]


def child(**fields):
    return b.question(change_class=ChangeClass.CHILD, caller=NOBODY, **fields)


# --- scope ------------------------------------------------------------------------


def test_a_namespace_that_no_policy_covers_is_let_through():
    decision = b.verdict(UNSIGNED, ask=b.question(namespace="other", caller=NOBODY))
    assert decision.allowed
    assert decision.policies == ()
    assert decision.findings == ()
    assert set(decision.checks.values()) == {CheckResult.NOT_REQUIRED}
    assert not decision.enforced


def test_no_policy_at_all_lets_through():
    assert b.verdict(UNSIGNED, policies=[]).allowed


def test_all_policies_that_cover_must_pass():
    lenient = b.policy("lenient", callers=None, rules=[b.rule(tests=None)])
    strict = b.policy("strict", rules=[b.rule(tests={"signers": b.signers("other")})])
    for policies in ([lenient, strict], [strict, lenient]):
        decision = b.verdict(policies=policies)
        assert [(f.policy, f.reason) for f in decision.findings] == [("strict", "SignerMismatch")]
        assert not decision.allowed
        assert decision.checks[Check.TESTS] is CheckResult.NOT_MET
        assert [reference.name for reference in decision.policies] == ["lenient", "strict"]


def test_a_policy_that_only_audits_does_not_soften_one_that_enforces():
    audit = b.policy("audit", mode="Audit")
    enforce = b.policy("enforce")
    decision = b.verdict(UNSIGNED, policies=[audit, enforce])
    assert [(f.policy, f.mode) for f in decision.findings] == [
        ("audit", Mode.AUDIT),
        ("enforce", Mode.ENFORCE),
    ]
    assert [f.policy for f in decision.denying] == ["enforce"]
    assert not decision.allowed


def test_only_what_an_enforcing_policy_has_against_it_denies():
    audit = b.policy("audit", mode="Audit", rules=[])
    decision = b.verdict(policies=[audit, b.policy("enforce")])
    assert b.reasons(decision) == ["NoPolicyForImage"]
    assert decision.allowed
    assert decision.enforced


def test_the_first_rule_that_matches_decides():
    strict = b.rule(name="strict", tests={"signers": b.signers("other")})
    loose = b.rule(name="loose", images=["ghcr.io/**"], tests=None)
    first = b.verdict(policies=[b.policy(rules=[strict, loose])])
    assert [(f.rule, f.reason) for f in first.findings] == [("strict", "SignerMismatch")]
    assert b.verdict(policies=[b.policy(rules=[loose, strict])]).allowed


# --- classes of change --------------------------------------------------------------


@pytest.mark.parametrize(
    "change_class", [ChangeClass.NO_DELTA, ChangeClass.MIRROR, ChangeClass.SCALE]
)
def test_these_ask_nothing(change_class):
    ask = b.question(change_class=change_class, caller=NOBODY)
    decision = b.verdict(UNSIGNED, ask=ask)
    assert decision.allowed
    assert set(decision.checks.values()) == {CheckResult.NOT_REQUIRED}
    assert [reference.name for reference in decision.policies] == ["production"]


def test_a_child_needs_no_caller():
    decision = b.verdict(ask=child(inherited=INHERITED))
    assert decision.allowed
    assert decision.checks[Check.CALLER] is CheckResult.NOT_REQUIRED
    assert decision.checks[Check.CONFIGURATION] is CheckResult.NOT_REQUIRED


def test_an_inherited_image_needs_its_signature_only():
    decision = b.verdict(SIGNED_ONLY, ask=child(inherited=INHERITED))
    assert decision.allowed
    assert decision.checks[Check.SIGNATURE] is CheckResult.MET
    assert decision.checks[Check.TESTS] is CheckResult.NOT_REQUIRED
    assert b.reasons(b.verdict(UNSIGNED, ask=child(inherited=INHERITED))) == ["SignatureMissing"]


def test_an_inherited_image_is_not_signed_by_whoever_may_sign_tests():
    other = b.evidence(signature=b.statement(SimpleSignature(), "review"))
    assert b.reasons(b.verdict(other, ask=child(inherited=INHERITED))) == ["SignerMismatch"]


def test_an_inherited_image_of_a_rule_without_signature_needs_its_provenance():
    policies = [b.policy(rules=[b.rule(signature=None)])]
    bare = b.evidence(signature=None, tests=None, change=None)
    assert b.verdict(bare, ask=child(inherited=INHERITED), policies=policies).allowed
    none = b.evidence(provenance=None)
    decision = b.verdict(none, ask=child(inherited=INHERITED), policies=policies)
    assert b.reasons(decision) == ["ProvenanceMissing"]


def test_an_inherited_image_still_needs_a_digest_and_a_rule():
    tagged = f"{b.REPOSITORY}:v1"
    ask = child(images=(b.container(tagged),), inherited=frozenset({tagged}))
    assert b.reasons(
        b.verdict(UnresolvedTag(ImageReference.parse(tagged)), ask=ask, image=tagged)
    ) == ["DigestRequired"]
    other = f"ghcr.io/acme/other@{b.DIGEST}"
    ask = child(images=(b.container(other),), inherited=frozenset({other}))
    assert b.reasons(b.verdict(ask=ask, image=other)) == ["NoPolicyForImage"]


def test_an_injected_image_is_fully_checked():
    decision = b.verdict(SIGNED_ONLY, ask=child())
    assert b.reasons(decision) == [
        "ProvenanceMissing",
        "ReviewMissing",
        "DeploymentApprovalMissing",
        "TestsMissing",
    ]


def test_being_inherited_means_nothing_for_a_root_change():
    assert not b.verdict(SIGNED_ONLY, ask=b.question(inherited=INHERITED)).allowed


def test_a_release_outlives_its_third_party_listing():
    image = f"redis@{b.DIGEST}"
    listing = third_party(expiry=(b.NOW - timedelta(days=1)).isoformat())
    policies = [b.policy(thirdParty=[listing])]
    images = (b.container(image),)
    running = child(images=images, inherited=frozenset({image}))
    assert b.verdict(ask=running, policies=policies, image=image).allowed
    assert not b.verdict(ask=child(images=images), policies=policies, image=image).allowed


@pytest.mark.parametrize("change_class", [ChangeClass.ROOT, ChangeClass.CHILD])
def test_no_images_are_a_reason_against(change_class):
    ask = b.question(change_class=change_class, images=())
    assert b.reasons(b.verdict(ask=ask)) == ["NoImagesFound"]


def deletion(caller, delete):
    policies = [b.policy(callers={"serviceAccounts": ["ci/deployer"], "delete": delete})]
    ask = b.question(change_class=ChangeClass.DELETE, caller=caller, images=())
    return b.verdict(ask=ask, policies=policies)


def controller(name, credential="JTI=0b9d1c7e-92e4-4b7e-8a53-0d8a6c4f1a02"):
    extra = {"authentication.kubernetes.io/credential-id": (credential,)} if credential else {}
    return Caller(f"system:serviceaccount:kube-system:{name}", extra=extra)


def test_a_deletion_is_recorded_or_denied():
    assert deletion(NOBODY, "Record").allowed
    assert deletion(NOBODY, "Record").checks[Check.CALLER] is CheckResult.NOT_REQUIRED
    assert b.reasons(deletion(NOBODY, "Deny")) == ["CallerNotAllowed"]
    assert deletion(b.DEPLOYER, "Deny").checks[Check.CALLER] is CheckResult.MET


def test_the_clusters_housekeeping_may_delete():
    assert deletion(controller("namespace-controller"), "Deny").allowed
    assert deletion(controller("generic-garbage-collector"), "Deny").allowed
    assert not deletion(controller("namespace-controller", None), "Deny").allowed
    assert not deletion(controller("somebody"), "Deny").allowed


# --- callers -------------------------------------------------------------------------


def by(caller, **callers):
    return b.verdict(policies=[b.policy(callers=callers)], ask=b.question(caller=caller)).allowed


def test_who_is_listed():
    assert by(Caller("alice"), users=["alice"])
    assert not by(Caller("Alice"), users=["alice"])
    assert by(Caller("alice", groups=("ops", "dev")), groups=["ops"])
    assert not by(Caller("ops"), groups=["ops"])
    assert not by(Caller("ci/deployer"), serviceAccounts=["ci/deployer"])
    assert by(b.DEPLOYER, serviceAccounts=["ci/deployer"])
    other = replace(b.DEPLOYER, username="system:serviceaccount:other:deployer")
    assert not by(other, serviceAccounts=["ci/deployer"])


@pytest.mark.parametrize("extra", FORGED)
def test_an_impersonated_service_account_matches_nothing(extra):
    """Impersonation by name sets the account's groups too, so those must not match either."""
    caller = replace(b.DEPLOYER, extra=extra)
    groups = ["system:serviceaccounts:ci", "system:authenticated"]
    assert not by(caller, serviceAccounts=["ci/deployer"])
    assert not by(caller, groups=groups)
    assert by(b.DEPLOYER, groups=groups)
    certificate = replace(b.DEPLOYER, extra={CREDENTIAL: ("X509SHA256=" + "0a" * 32,)})
    assert by(certificate, groups=groups)


# --- images --------------------------------------------------------------------------


def test_every_class_of_container_counts_and_uses_are_grouped():
    uses = tuple(
        ContainerImage(f"c{number}", kind, b.IMAGE) for number, kind in enumerate(ContainerClass)
    )
    bad = f"ghcr.io/acme/other@{b.DIGEST}"
    hidden = ContainerImage("volume", ContainerClass.IMAGE_VOLUME, bad)
    ask = b.question(images=(*uses, hidden))
    decision = b.decide(ask, {b.IMAGE: b.evidence()}, [b.policy()])
    assert b.reasons(decision) == ["NoPolicyForImage"]
    assert [verdict.containers for verdict in decision.images] == [uses, (hidden,)]
    assert decision.images[0].findings == ()
    assert decision.checks[Check.SIGNATURE] is CheckResult.NOT_MET


def test_a_third_party_image_needs_no_evidence():
    image = f"redis@{b.DIGEST}"
    ask = b.question(images=(b.container(image),))
    decision = b.decide(ask, {}, [b.policy(thirdParty=[third_party()])])
    assert decision.allowed
    assert decision.images[0].third_party
    assert decision.images[0].statements == ()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("redis:7", "DigestRequired"),
        (f"redis@{b.OTHER_DIGEST}", "NoPolicyForImage"),
        (f"docker.io/evil/redis@{b.DIGEST}", "NoPolicyForImage"),
        (f"ghcr.io/library/redis@{b.DIGEST}", "NoPolicyForImage"),
    ],
)
def test_a_third_party_listing_is_exact(image, reason):
    policies = [b.policy(thirdParty=[third_party()])]
    assert b.reasons(b.verdict(policies=policies, image=image)) == [reason]


def test_one_policys_third_party_image_is_not_anothers():
    image = f"redis@{b.DIGEST}"
    policies = [b.policy("a", thirdParty=[third_party()]), b.policy("b")]
    decision = b.verdict(policies=policies, image=image)
    assert [(f.policy, f.reason) for f in decision.findings] == [("b", "NoPolicyForImage")]


def test_the_statements_that_counted_are_listed():
    extra = [
        b.statement(SimpleSignature(), "stranger"),
        b.statement(b.provenance(repository="https://github.com/acme/evil")),
        b.statement(b.record(source=b.source(to=b.OTHER, commits=(b.OTHER,)))),
        b.statement(b.result(commit=b.OTHER)),
    ]
    decision = b.verdict(b.evidence(*extra))
    assert decision.allowed
    counted = decision.images[0].statements
    assert set(counted) == set(b.evidence().statements)


def test_a_failing_statement_that_is_about_this_build_is_listed():
    """In Audit mode the trail shows what was found, beside the check that was not met."""
    failed = b.statement(b.result(verdict=TestVerdict.FAILED))
    counted = b.verdict(b.evidence(tests=failed)).images[0].statements
    assert failed in counted


def test_what_is_found_twice_is_listed_once():
    signature = b.statements()["signature"]
    again = replace(signature)
    counted = b.verdict(b.evidence(again)).images[0].statements
    assert [item.kind for item in counted].count(StatementKind.SIGNATURE) == 1


def test_a_statement_in_another_form_than_its_kind_never_counts():
    wrong_form = b.statement(SimpleSignature(), kind=StatementKind.PROVENANCE)
    assert b.reasons(b.verdict(b.evidence(provenance=wrong_form))) == ["ProvenanceMissing"]
    wrong_form = replace(wrong_form, predicate_type=b.SLSA)
    assert b.reasons(b.verdict(b.evidence(provenance=wrong_form))) == ["ProvenanceMissing"]
    wrong_type = b.statement(b.provenance(), predicate_type="https://slsa.dev/provenance/v0.2")
    assert b.reasons(b.verdict(b.evidence(provenance=wrong_type))) == ["ProvenanceMissing"]
    not_a_signature = b.statement(SimpleSignature(), predicate_type=b.SLSA)
    assert b.reasons(b.verdict(b.evidence(signature=not_a_signature))) == ["SignatureMissing"]


def test_platforms_are_passed_on():
    given = replace(b.evidence(), platforms=(b.OTHER_DIGEST,))
    assert b.verdict(given).images[0].platforms == (b.OTHER_DIGEST,)


def test_a_provenance_without_a_ref_does_not_match_a_ref():
    source = {"repositories": [b.SOURCE], "refs": ["refs/**"]}
    policies = [b.policy(rules=[b.rule(source=source)])]
    assert b.verdict(policies=policies).allowed
    bare = b.evidence(provenance=b.statement(b.provenance(ref=None)))
    assert b.reasons(b.verdict(bare, policies=policies)) == ["SourceMismatch"]


# --- stories -------------------------------------------------------------------------


def test_a_rebuild_of_an_unreviewed_commit_does_not_spoil_the_reviewed_one():
    rebuilt = b.statement(b.provenance(commit=b.OTHER))
    for extra in ((rebuilt, b.statements()["provenance"]), (rebuilt,)):
        assert b.verdict(b.evidence(*extra)).allowed


def test_no_story_is_put_together_from_two():
    """Review of one commit and tests of another, with a provenance for each."""
    other = b.statement(b.provenance(commit=b.OTHER))
    tests = b.statement(b.result(commit=b.OTHER))
    decision = b.verdict(b.evidence(other, tests=tests))
    assert not decision.allowed
    assert b.reasons(decision) == ["TestsOtherCommit"]


def test_one_failed_result_denies_whatever_passed():
    failed = b.statement(b.result(verdict=TestVerdict.FAILED, suites=("other",)))
    assert b.reasons(b.verdict(b.evidence(failed))) == ["TestsFailed"]


@pytest.mark.parametrize("failed", [{"verdict": TestVerdict.FAILED, "failed": None}, {"failed": 1}])
def test_a_failed_result_of_no_commit_is_about_this_image(failed):
    nameless = b.statement(b.result(commit=None, repository=None, run=None, **failed))
    decision = b.verdict(b.evidence(nameless))
    assert b.reasons(decision) == ["TestsFailed"]
    assert nameless in decision.images[0].statements


def test_a_failed_result_of_another_commit_is_not_about_this_one():
    assert b.verdict(b.evidence(b.statement(b.result(commit=b.OTHER, failed=1)))).allowed


def test_a_failed_result_by_a_key_that_is_not_trusted_for_tests_says_nothing():
    foreign = b.statement(b.result(commit=None, failed=1), by="somebody")
    assert b.verdict(b.evidence(foreign)).allowed


def test_a_failed_result_of_another_commit_or_signer_does_not_deny():
    other = b.statement(b.result(verdict=TestVerdict.FAILED, commit=b.OTHER))
    stranger = b.statement(b.result(verdict=TestVerdict.FAILED), "stranger")
    assert b.verdict(b.evidence(other, stranger)).allowed


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (DeploymentTarget(), None),
        (DeploymentTarget("c1", "shop"), None),
        (DeploymentTarget(namespace="other"), "EvidenceMismatch"),
        (DeploymentTarget("c2"), "EvidenceMismatch"),
    ],
)
def test_a_record_for_another_place_does_not_count(target, reason):
    policies = [b.policy(rules=[b.rule(deploymentApproval=None)])]
    given = b.evidence(change=b.statement(b.record(target=target)))
    assert b.reasons(b.verdict(given, policies=policies)) == ([reason] if reason else [])


def test_a_record_for_a_cluster_does_not_count_where_the_cluster_is_unknown():
    given = b.evidence(change=b.statement(b.record(target=DeploymentTarget("c1"))))
    decision = b.verdict(given, ask=b.question(cluster=None))
    assert set(b.reasons(decision)) == {"EvidenceMismatch"}


# --- material ------------------------------------------------------------------------


def test_keys_are_those_of_the_rule_that_decides():
    image = ImageReference.parse(b.IMAGE)
    policy = b.policy(rules=[b.rule(), b.rule(name="b", signature={"signers": b.signers("x")})])
    keys = keys_for([policy], image)
    assert {key.fingerprint for key in keys} == {
        b.signer("build").fingerprint,
        b.signer("review").fingerprint,
    }
    assert list(keys) == sorted(keys, key=lambda key: key.fingerprint)
    second = b.policy("b", rules=[b.rule(signature={"signers": b.signers("x")})])
    assert b.signer("x").fingerprint in {k.fingerprint for k in keys_for([policy, second], image)}
    assert keys_for([policy], ImageReference.parse("nginx")) == ()


def test_registries_are_those_that_a_rule_names():
    policy = b.policy(
        rules=[b.rule(images=["ghcr.io/acme/*", "127.0.0.1:5000/**"])], thirdParty=[third_party()]
    )
    assert registries([policy]) == {"ghcr.io", "127.0.0.1:5000"}
    assert registries([]) == frozenset()


def test_policies_cover_by_name_in_a_stable_order():
    policies = [b.policy("b"), b.policy("a", namespaces=["sh*"]), b.policy("c", namespaces=["x"])]
    assert [policy.name for policy in covers(policies, "shop")] == ["a", "b"]


def test_what_was_not_read_may_be_the_failed_test():
    """Whoever may push beside an image can keep it out by a flood, and never let it in."""
    decision = b.verdict(replace(b.evidence(), unread=("3 of 259 referrers", "and another")))
    assert b.reasons(decision) == ["EvidenceUnavailable"]
    (finding,) = decision.findings
    assert finding.got == "attachments that were not read: 3 of 259 referrers (and 1 more)"
    assert not decision.retryable
    for check in (Check.REVIEW, Check.DEPLOYMENT_APPROVAL, Check.TESTS):
        assert decision.checks[check] is CheckResult.UNDETERMINED
    for check in (Check.SIGNATURE, Check.PROVENANCE):
        assert decision.checks[check] is CheckResult.MET


@pytest.mark.parametrize("asked", ["review", "deploymentApproval", "tests"])
def test_each_requirement_that_can_be_refuted_asks_for_all(asked):
    parts = dict.fromkeys(("review", "deploymentApproval", "tests"))
    one = b.policy(rules=[b.rule(**parts | {asked: b.rule()[asked]})])
    assert b.verdict(policies=[one]).allowed
    decision = b.verdict(replace(b.evidence(), unread=("x",)), policies=[one])
    assert b.reasons(decision) == ["EvidenceUnavailable"]


def test_nothing_unread_takes_a_signature_or_a_provenance_away():
    one = b.policy(rules=[b.rule(review=None, deploymentApproval=None, tests=None)])
    assert b.verdict(replace(b.evidence(), unread=("x",)), policies=[one]).allowed


def test_what_is_missing_may_be_among_what_was_not_read():
    unread = replace(b.evidence(signature=None), unread=("x",))
    assert b.reasons(b.verdict(unread)) == ["EvidenceUnavailable", "SignatureMissing"]
    plain = b.policy(rules=[b.rule(review=None, deploymentApproval=None, tests=None)])
    decision = b.verdict(unread, policies=[plain])
    assert b.reasons(decision) == ["EvidenceUnavailable", "SignatureMissing"]


def test_pods_of_a_running_release_do_not_ask_what_was_not_read():
    unread = replace(b.evidence(), unread=("x",))
    assert b.verdict(unread, ask=child(inherited=INHERITED)).allowed
    assert not b.verdict(unread, ask=child()).allowed


def test_what_was_read_is_told_beside_what_was_not():
    failed = b.statement(b.result(verdict=TestVerdict.FAILED))
    decision = b.verdict(replace(b.evidence(failed), unread=("x",)))
    assert b.reasons(decision) == ["TestsFailed", "EvidenceUnavailable"]
    assert decision.checks[Check.TESTS] is CheckResult.NOT_MET


def test_evidence_that_could_not_be_fetched_is_never_a_yes():
    image = ImageReference.parse(b.IMAGE)
    for gathered in (Unavailable(image, "x"), UnresolvedTag(image), Evidence(image, ())):
        for ask in (b.question(), child(), child(inherited=INHERITED)):
            assert not b.verdict(gathered, ask=ask).allowed
