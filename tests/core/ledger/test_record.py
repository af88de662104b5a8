"""The record of an admission, attacked: can an auditor be misled by it?"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ledger import example_records as ex
from trailgate.ledger import record as rec
from trailgate.ledger.form import MAX_CLAIM, committed_size
from trailgate.model.admission import Caller, ContainerClass, ContainerImage, Kind, Operation
from trailgate.model.assessment import ChangeClass
from trailgate.model.canonical import canonical
from trailgate.model.decision import Check, CheckResult, Finding, ImageVerdict, Mode
from trailgate.model.evidence import (
    ApprovalBinding,
    Basis,
    DeploymentApproval,
    DeploymentTarget,
    Person,
    ReviewedChange,
    TestVerdict,
)
from trailgate.model.image import ImageReference
from trailgate.model.reason import Absence, Reason

CHANGE = ("uri", "ticket", "opened", "merged", "basis", "committers", "unmappedAuthors")
CHANGE += ("lastPusher", "approvers", "deploymentApprovers", "tests")


def claim_of(assessment, context=ex.CONTEXT):
    claim = rec.admitted(assessment, context)
    assert rec.check_form(claim) == ()
    return claim


def released(found: ImageVerdict):
    """A claim of an UPDATE that brings this one image."""
    image = found.containers[0].image
    return claim_of(
        ex.assess(
            ex.deployment({"web": ex.image_of("web", "1.0")}, 3),
            ex.deployment({"web": image}, 4),
            (found,),
            delta=("/spec/template/spec/containers/0/image",),
        )
    )


def released_with(**changes):
    """The same with another change record."""
    record = ex.change_record("web", "1.1", **changes)
    return released(ex.with_predicates(ex.verdict("web", "1.1"), change=record))


def who(claim, references):
    return [claim["people"][one["person"]]["id"] for one in references]


def why(claim, pointer):
    value = claim
    for step in pointer.split("/")[1:]:
        value = value[int(step)] if step.isdigit() else value[step]
    assert value is None
    return claim["absent"][pointer]


# --- what a full record says --------------------------------------------------


def test_the_four_questions_are_answered():
    claim = claim_of(ex.release())
    change = claim["change"]
    assert change["class"] == "standard"
    assert who(claim, change["committers"]) == ["github:1001"]
    assert who(claim, change["approvers"]) == ["github:1002"]
    assert who(claim, change["deploymentApprovers"]) == ["github:1003"]
    assert [test["verdict"] for test in change["tests"]] == ["PASSED"]
    assert claim["texts"][change["uri"]["text"]].endswith("/acme/web/pull/41")
    assert claim["texts"][change["ticket"]["text"]] == "PAY-1234"
    assert change["basis"] == "forge-api"
    assert claim["decidedAt"] == "2026-11-23T13:06:00.250000Z"
    assert claim["object"]["generation"] == 4
    assert claim["images"][0]["digest"] == str(ex.sha("web 1.1"))
    assert claim["previous"]["images"][0]["digest"] == str(ex.sha("web 1.0"))
    assert claim["checks"]["review"] == "met"
    assert claim["checks"]["configuration"] == "not-attested"
    assert claim["policies"] == [
        {
            "name": "production",
            "generation": 7,
            "digest": str(ex.sha("policy production")),
            "mode": "Enforce",
        }
    ]


def test_times_are_utc_whatever_zone_they_came_in():
    at = datetime(2026, 11, 23, 15, 6, tzinfo=timezone(timedelta(hours=2)))
    claim = claim_of(replace(ex.release(), decided_at=at))
    assert claim["decidedAt"] == "2026-11-23T13:06:00.000000Z"


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        rec.admitted(replace(ex.release(), decided_at=datetime(2026, 1, 1)), ex.CONTEXT)  # noqa: DTZ001


# --- an approval is only of what it covered ------------------------------------


def test_a_configuration_change_inherits_nobody():
    claim = claim_of(ex.configuration_only())
    assert claim["change"]["class"] == "configuration"
    for field in CHANGE:
        assert why(claim, f"/change/{field}") == "ConfigurationNotAttested"
    assert claim["images"][0]["changed"] is False
    assert claim["images"][0]["changes"][0]["requests"][0]["approvals"]  # the image's own stays


def test_a_configuration_change_does_not_claim_the_image_s_review_as_its_own():
    claim = claim_of(ex.configuration_only())
    own = {check: claim["checks"][check] for check in ("review", "tests", "deploymentApproval")}
    assert set(own.values()) == {"not-attested"}
    assert claim["images"][0]["checks"]["review"] == "met"
    assert claim["checks"]["signature"] == "met"


def test_what_was_not_met_stays_not_met_in_a_configuration_change():
    checks = ex.ALL_MET | {Check.REVIEW: CheckResult.NOT_MET}
    assessment = ex.configuration_only()
    decision = replace(assessment.decision, checks=checks)
    claim = claim_of(replace(assessment, decision=decision))
    assert claim["checks"]["review"] == "not-met"


@pytest.mark.parametrize("class_", [ChangeClass.SCALE, ChangeClass.MIRROR])
def test_other_classes_without_new_images_inherit_nobody_either(class_):
    claim = claim_of(replace(ex.configuration_only(), change_class=class_))
    assert claim["requestClass"] == class_.value
    assert why(claim, "/change/approvers") == "ConfigurationNotAttested"


def test_a_deletion_inherits_nobody():
    old = ex.deployment({"web": ex.image_of("web", "1.1")}, 5)
    claim = claim_of(ex.assess(old, None, ()))
    assert claim["operation"] == "DELETE"
    assert why(claim, "/change/approvers") == "ConfigurationNotAttested"
    assert why(claim, "/object/specDigest") == "NotApplicable"
    assert claim["object"]["generation"] == 5
    assert claim["previous"]["images"][0]["digest"] == str(ex.sha("web 1.1"))


def test_a_deletion_brings_no_image_even_where_one_is_listed():
    old = ex.deployment({"web": ex.image_of("web", "1.1")}, 5)
    claim = claim_of(ex.assess(old, None, (ex.verdict("web", "1.1"),), previous=None))
    assert claim["images"][0]["changed"] is False
    assert why(claim, "/change/approvers") == "ConfigurationNotAttested"
    assert why(claim, "/previous") == "NotVerified"


def test_an_update_that_can_t_be_compared_claims_no_approval():
    claim = claim_of(replace(ex.release(), previous=None))
    assert why(claim, "/change/approvers") == "ConfigurationNotAttested"
    assert why(claim, "/previous") == "NotVerified"


def test_configuration_is_never_met_even_if_a_decision_says_so():
    assessment = ex.release()
    checks = dict.fromkeys(Check, CheckResult.MET)
    claim = claim_of(replace(assessment, decision=replace(assessment.decision, checks=checks)))
    assert claim["checks"]["configuration"] == "not-attested"


def test_another_spelling_of_a_digest_that_ran_is_configuration():
    new = ex.verdict("web", "1.1")
    spelled = f"registry.example/acme/web:1.1@{ex.sha('web 1.1')}"
    respelled = replace(new, containers=(replace(new.containers[0], image=spelled),))
    claim = claim_of(
        ex.assess(
            ex.deployment({"web": ex.image_of("web", "1.1")}, 3),
            ex.deployment({"web": spelled}, 4),
            (respelled,),
        )
    )
    assert claim["change"]["class"] == "configuration"


def test_a_create_is_of_new_images():
    claim = claim_of(
        ex.assess(
            None, ex.deployment({"web": ex.image_of("web", "1.1")}, 1), (ex.verdict("web", "1.1"),)
        )
    )
    assert who(claim, claim["change"]["approvers"]) == ["github:1002"]
    assert why(claim, "/previous") == "Baseline"
    assert claim["delta"] == [""]


def test_two_images_with_two_stories_have_no_common_approver():
    claim = claim_of(ex.two_repositories())
    for field in set(CHANGE) - {"tests"}:
        assert why(claim, f"/change/{field}") == "SeveralChanges"
    assert len(claim["change"]["tests"]) == 2
    for image in claim["images"]:
        assert who(claim, image["changes"][0]["requests"][0]["approvals"]) == ["github:1002"]


def test_two_images_of_one_change_have_it():
    source = ex.change_record("web", "1.1")
    tests, built = ex.tests_of("web", "1.1"), ex.provenance("web", "1.1")
    second = ex.with_predicates(
        ex.verdict("api", "2.1"), change=source, tests=tests, provenance=built
    )
    claim = claim_of(
        ex.assess(
            None,
            ex.deployment({"web": ex.image_of("web", "1.1"), "api": ex.image_of("api", "2.1")}, 1),
            (ex.verdict("web", "1.1"), second),
        )
    )
    assert who(claim, claim["change"]["approvers"]) == ["github:1002"]


def test_an_image_without_a_story_beside_one_with_it_is_not_covered_by_it():
    bare = replace(ex.verdict("api", "2.1"), statements=(), checks={})
    claim = claim_of(
        ex.assess(
            None,
            ex.deployment({"web": ex.image_of("web", "1.1"), "api": ex.image_of("api", "2.1")}, 1),
            (ex.verdict("web", "1.1"), bare),
        )
    )
    assert why(claim, "/change/approvers") == "SeveralChanges"
    assert why(claim, "/change/tests") == "NotRequired"


def test_only_the_changed_image_s_story_is_told():
    unchanged = ex.verdict("api", "2.0")
    claim = claim_of(
        ex.assess(
            ex.deployment({"web": ex.image_of("web", "1.0"), "api": ex.image_of("api", "2.0")}, 3),
            ex.deployment({"web": ex.image_of("web", "1.1"), "api": ex.image_of("api", "2.0")}, 4),
            (unchanged, ex.verdict("web", "1.1")),
        )
    )
    assert claim["texts"][claim["change"]["uri"]["text"]].endswith("/acme/web/pull/41")
    assert [image["changed"] for image in claim["images"]] == [False, True]


# --- approvers are those of what shipped ----------------------------------------


def _request(**changes):
    return replace(ex.change_record("web", "1.1").changes[0], **changes)


def _approval(person=ex.BOB, **changes):
    base = ex.change_record("web", "1.1").changes[0].approvals[0]
    return replace(base, person=person, **changes)


@pytest.mark.parametrize(
    ("approvals", "expected"),
    [
        ((_approval(),), ["github:1002"]),
        ((), "NotFound"),
        ((_approval(state="COMMENTED"),), "NotVerified"),
        ((_approval(state="CHANGES_REQUESTED"),), "NotVerified"),
        ((_approval(state="DISMISSED"),), "NotVerified"),
        ((_approval(commit=ex.commit_id("an older head")),), "NotVerified"),
        (
            (_approval(commit=ex.commit_id("older"), binding=ApprovalBinding.COMMIT),),
            "NotVerified",
        ),
        ((_approval(commit="0" * 40, binding=ApprovalBinding.TREE, tree="1" * 40),), "NotVerified"),
        ((_approval(commit="0" * 40, binding=ApprovalBinding.TREE),), "NotVerified"),
        (
            (
                _approval(
                    commit="0" * 40,
                    binding=ApprovalBinding.TREE,
                    tree=ex.commit_id("web 1.1 tree"),
                ),
            ),
            ["github:1002"],
        ),
        ((_approval(), _approval(state="DISMISSED", at=ex.NOW)), "NotVerified"),
        ((_approval(), _approval(state="CHANGES_REQUESTED", at=ex.NOW)), "NotVerified"),
        ((_approval(state="CHANGES_REQUESTED"), _approval(at=ex.NOW)), ["github:1002"]),
        ((_approval(), _approval(state="COMMENTED", at=ex.NOW)), ["github:1002"]),
        ((_approval(), _approval(ex.CAROL)), ["github:1002", "github:1003"]),
        ((_approval(), _approval(ex.CAROL, state="COMMENTED")), ["github:1002"]),
    ],
)
def test_who_counts_as_an_approver(approvals, expected):
    claim = released_with(changes=(_request(approvals=approvals),))
    if isinstance(expected, str):
        assert why(claim, "/change/approvers") == expected
    else:
        assert who(claim, claim["change"]["approvers"]) == expected
    told = claim["images"][0]["changes"][0]["requests"][0]["approvals"]
    assert len(told) == len(approvals)  # nothing is hidden under the image


def test_a_tree_approval_covers_the_request_that_ends_in_that_tree_only():
    below = ReviewedChange(
        uri="https://forge.example/acme/web/pull/40",
        head_commit=ex.commit_id("40"),
        commits=(ex.commit_id("40"),),
        approvals=(
            _approval(
                commit="0" * 40, binding=ApprovalBinding.TREE, tree=ex.commit_id("web 1.1 tree")
            ),
        ),
    )
    source = ex.change_record("web", "1.1").source
    source = replace(source, commits=(*source.commits, ex.commit_id("40")))
    claim = released_with(source=source, changes=(_request(), below))
    assert why(claim, "/change/approvers") == "NotVerified"


def _approved_at(commit, *, merge=None, top="head"):
    """A request of two commits, `below` and `head`, approved at one of them, as a commit."""
    below, head = ex.commit_id("below"), ex.commit_id("head")
    merged = ex.commit_id("web 1.1") if merge else None
    shipped = tuple(one for one in (below, head, merged) if one)
    source = replace(
        ex.change_record("web", "1.1").source, commits=shipped, to=merged or ex.commit_id(top)
    )
    request = _request(
        head_commit=head,
        commits=(below, head),
        merge_commit=merged,
        approvals=(_approval(commit=ex.commit_id(commit), binding=ApprovalBinding.COMMIT),),
    )
    record = ex.change_record("web", "1.1", source=source, changes=(request,))
    found = ex.with_predicates(ex.verdict("web", "1.1"), change=record, provenance=None)
    return released(found)


def test_an_approval_of_the_shipped_head_covers_the_commits_below_it():
    claim = _approved_at("head")
    assert who(claim, claim["change"]["approvers"]) == ["github:1002"]


@pytest.mark.parametrize(
    "approved", ["below", "an older head that was not shipped"], ids=["an older one", "a lost one"]
)
def test_an_approval_of_an_older_commit_does_not_cover_the_head(approved):
    assert why(_approved_at(approved), "/change/approvers") == "NotVerified"


def test_an_approval_of_the_head_as_a_commit_does_not_cover_what_a_merge_made_of_it():
    assert why(_approved_at("head", merge=True), "/change/approvers") == "NotVerified"


def test_an_approval_of_a_head_that_is_not_shipped_covers_nothing_but_itself():
    below, head = ex.commit_id("below"), ex.commit_id("head")
    source = replace(ex.change_record("web", "1.1").source, commits=(below,), to=below)
    request = _request(
        head_commit=head,
        commits=(below, head),
        merge_commit=None,
        approvals=(_approval(commit=head, binding=ApprovalBinding.COMMIT),),
    )
    record = ex.change_record("web", "1.1", source=source, changes=(request,))
    found = ex.with_predicates(ex.verdict("web", "1.1"), change=record, provenance=None)
    assert why(released(found), "/change/approvers") == "NotVerified"


@pytest.mark.parametrize("binding", ApprovalBinding)
def test_an_approval_of_the_only_shipped_commit_covers_it_however_it_is_bound(binding):
    top = ex.commit_id("web 1.1")
    source = replace(ex.change_record("web", "1.1").source, commits=(top,))
    request = _request(commits=(top,), approvals=(_approval(commit=top, binding=binding),))
    claim = released_with(source=source, changes=(request,))
    assert who(claim, claim["change"]["approvers"]) == ["github:1002"]


def test_a_forge_merge_needs_a_merge():
    unmerged = _request(merge_commit=None)
    claim = released_with(changes=(unmerged,))
    assert why(claim, "/change/approvers") == "NotVerified"


def test_one_approved_request_of_two_is_no_approval_of_the_release():
    other = ReviewedChange(
        uri="https://forge.example/acme/web/pull/42",
        head_commit=ex.commit_id("42"),
        commits=(ex.commit_id("42"),),
    )
    source = ex.change_record("web", "1.1").source
    source = replace(source, commits=(*source.commits, ex.commit_id("42")))
    claim = released_with(source=source, changes=(_request(), other))
    assert why(claim, "/change/approvers") == "NotVerified"
    assert why(claim, "/change/uri") == "SeveralChanges"
    assert len(claim["images"][0]["changes"][0]["requests"]) == 2


def test_a_commit_that_no_request_brought_is_no_approved_one():
    source = ex.change_record("web", "1.1").source
    claim = released_with(source=replace(source, commits=(*source.commits, "f" * 40)))
    assert why(claim, "/change/approvers") == "NotVerified"


def test_of_a_baseline_only_the_top_has_to_be_approved():
    source = ex.change_record("web", "1.1").source
    claim = released_with(source=replace(source, start=None, commits=(source.to, "f" * 40)))
    assert who(claim, claim["change"]["approvers"]) == ["github:1002"]
    assert why(claim, "/images/0/changes/0/source/from") == "Baseline"


@pytest.mark.parametrize(
    "changes",
    [
        {"passed": False},
        {"target": DeploymentTarget(cluster="staging-eu")},
        {"target": DeploymentTarget(namespace="other")},
        {"source": replace(ex.change_record("web", "1.1").source, to="e" * 40)},
        {
            "source": replace(
                ex.change_record("web", "1.1").source, repository="https://evil.example/x"
            )
        },
    ],
    ids=["failed", "other cluster", "other namespace", "other commit", "other repository"],
)
def test_a_record_that_is_not_of_this_build_or_place_approves_nothing(changes):
    claim = released_with(**changes)
    for field in set(CHANGE) - {"tests"}:
        assert why(claim, f"/change/{field}") == "NotVerified"
    assert claim["images"][0]["changes"]  # still told, under the image


@pytest.mark.parametrize(
    "target",
    [
        DeploymentTarget(cluster="prod-eu"),
        DeploymentTarget(cluster=ex.CONTEXT.cluster.uid, namespace="shop"),
        DeploymentTarget(),
    ],
)
def test_a_record_of_this_place_counts(target):
    claim = released_with(target=target)
    assert who(claim, claim["change"]["approvers"]) == ["github:1002"]


def test_two_records_that_disagree_tell_no_common_story():
    verdict = ex.verdict("web", "1.1")
    other = ex.change_record("web", "1.1", committers=(ex.CAROL,))
    second = replace(verdict.statements[-1], predicate=other, digest=ex.sha("another"))
    claim = released(replace(verdict, statements=(*verdict.statements, second)))
    assert why(claim, "/change/committers") == "SeveralChanges"


@pytest.mark.parametrize("person", [ex.ALICE, ex.RELEASE_BOT], ids=["the author", "a bot"])
def test_whom_the_review_would_not_count_is_no_approver_and_shows_under_the_image(person):
    claim = released_with(changes=(_request(approvals=(_approval(person),)),))
    assert why(claim, "/change/approvers") == "NotVerified"
    told = claim["images"][0]["changes"][0]["requests"][0]["approvals"][0]
    assert who(claim, [told]) == [person.id]


def test_a_bot_shows_as_a_bot_and_the_issuer_in_clear():
    claim = released_with(changes=(_request(approvals=(_approval(ex.RELEASE_BOT),)),))
    told = claim["images"][0]["changes"][0]["requests"][0]["approvals"][0]
    approver = claim["people"][told["person"]]
    assert approver["bot"] is True
    assert approver["issuer"] == "github"


def test_client_typed_records_say_so():
    assert released_with(basis=Basis.ASSERTED)["change"]["basis"] == "asserted"


def test_authors_that_nobody_could_name_are_told_beside_the_committers():
    claim = released_with(unmapped_authors=("a" * 40,))
    assert claim["change"]["unmappedAuthors"] == ["a" * 40]


def test_self_asserted_is_told():
    claim = released(replace(ex.verdict("web", "1.1"), self_asserted=True))
    assert claim["selfAsserted"] is True
    assert claim_of(ex.release())["selfAsserted"] is False


def test_a_rejected_deployment_approval_is_none():
    refusal = DeploymentApproval(ex.CAROL, "production", ex.NOW, state="REJECTED")
    claim = released_with(deployment_approvals=(refusal,))
    assert why(claim, "/change/deploymentApprovers") == "NotStated"
    assert claim["images"][0]["changes"][0]["deploymentApprovals"][0]["state"] == "REJECTED"


# --- tests are those of what was built -------------------------------------------


def test_tests_of_another_commit_are_not_this_change_s():
    other = ex.tests_of("web", "1.1", commit="d" * 40)
    claim = released(ex.with_predicates(ex.verdict("web", "1.1"), tests=other))
    assert why(claim, "/change/tests") == "NotVerified"
    assert claim["images"][0]["tests"][0]["commit"] == "d" * 40


def test_tests_without_provenance_are_not_joined_to_anything():
    claim = released(ex.with_predicates(ex.verdict("web", "1.1"), provenance=None))
    assert why(claim, "/change/tests") == "NotVerified"


def test_failed_tests_are_told_as_failed():
    failed = ex.tests_of("web", "1.1", verdict=TestVerdict.FAILED, failed=2)
    claim = released(ex.with_predicates(ex.verdict("web", "1.1"), tests=failed))
    assert claim["change"]["tests"][0]["verdict"] == "FAILED"
    assert claim["change"]["tests"][0]["failed"] == 2


# --- Audit mode never looks enforced, a tag never like a digest -------------------


def test_an_audited_change_says_that_nothing_was_enforced():
    claim = claim_of(ex.audit_mode())
    assert claim["outcome"] == "admitted"
    assert claim["enforced"] is False
    assert claim["checks"]["signature"] == "not-met"
    assert {one["mode"] for one in claim["reasons"]} == {"Audit"}
    assert [one["reason"] for one in claim["reasons"]] == ["DigestRequired", "CallerNotAllowed"]
    assert claim["reasons"][0]["image"] == 0
    assert why(claim, "/reasons/1/image") == "NotApplicable"


def test_a_namespace_without_policy_is_neither_enforced_nor_met():
    assessment = ex.release()
    decision = replace(assessment.decision, policies=(), checks={})
    claim = claim_of(replace(assessment, decision=decision))
    assert claim["enforced"] is False
    assert claim["policies"] == []
    expected = dict.fromkeys((check.value for check in Check), "not-required")
    assert claim["checks"] == expected | {"configuration": "not-attested"}


def test_a_check_that_a_policy_forgot_is_undetermined_not_passed():
    assessment = ex.release()
    checks = {check: result for check, result in ex.ALL_MET.items() if check is not Check.TESTS}
    claim = claim_of(replace(assessment, decision=replace(assessment.decision, checks=checks)))
    assert claim["checks"]["tests"] == "undetermined"


def test_an_enforcing_policy_that_passed_does_not_hide_the_auditing_one_that_failed():
    finding = Finding(Reason.REVIEW_MISSING, "", "", "staging", check=Check.REVIEW, mode=Mode.AUDIT)
    claim = claim_of(
        ex.assess(
            None,
            ex.deployment({"web": ex.image_of("web", "1.1")}, 1),
            (ex.verdict("web", "1.1"),),
            policies=(ex.policy(), ex.policy("staging", Mode.AUDIT)),
            findings=(finding,),
            checks=ex.ALL_MET | {Check.REVIEW: CheckResult.NOT_MET},
        )
    )
    assert claim["enforced"] is True
    assert claim["checks"]["review"] == "not-met"
    assert claim["reasons"][0]["mode"] == "Audit"
    assert claim["reasons"][0]["policy"] == "staging"


def _by_tag() -> ImageVerdict:
    """A tag in Audit mode, with all the evidence of what the tag named just then."""
    tag = "registry.example/acme/web:1.1"
    found = ex.verdict("web", "1.1")
    return replace(
        found,
        containers=(replace(found.containers[0], image=tag),),
        image=ImageReference.parse(tag),
    )


def test_the_evidence_of_what_a_tag_named_is_not_the_image_s():
    claim = released(_by_tag())
    image = claim["images"][0]
    assert image["reference"] == "registry.example/acme/web:1.1"
    assert why(claim, "/images/0/digest") == "NoDigest"
    for field in ("signatures", "provenance", "tests", "changes"):
        assert why(claim, f"/images/0/{field}") == "NoDigest"
    for field in CHANGE:
        assert why(claim, f"/change/{field}") == "NoDigest"
    assert claim["people"] == []
    assert rec.image_set(claim) is None


def test_a_tag_that_stays_is_configuration():
    found = _by_tag()
    tagged = ex.deployment({"web": found.containers[0].image}, 3)
    claim = claim_of(ex.assess(tagged, {**tagged}, (found,)))
    assert claim["change"]["class"] == "configuration"
    assert why(claim, "/previous/images/0/digest") == "NoDigest"


def test_another_tag_is_a_new_image_without_a_story():
    found = _by_tag()
    before = ex.deployment({"web": "registry.example/acme/web:1.0"}, 3)
    after = ex.deployment({"web": found.containers[0].image}, 4)
    claim = claim_of(ex.assess(before, after, (found,)))
    assert claim["change"]["class"] == "standard"
    assert claim["images"][0]["changed"] is True
    assert why(claim, "/change/approvers") == "NoDigest"


def test_a_tag_that_becomes_a_digest_is_a_new_image():
    before = ex.deployment({"web": "registry.example/acme/web:1.1"}, 3)
    after = ex.deployment({"web": ex.image_of("web", "1.1")}, 4)
    claim = claim_of(ex.assess(before, after, (ex.verdict("web", "1.1"),)))
    assert claim["change"]["class"] == "standard"


def test_where_a_tag_moved_to_is_told():
    assessment = ex.audit_mode()
    moved = replace(
        assessment.decision.findings[0],
        reason=Reason.SIGNATURE_MISSING,
        moved_to=ex.sha("moved"),
    )
    decision = replace(assessment.decision, findings=(moved,))
    claim = claim_of(replace(assessment, decision=decision))
    assert claim["reasons"][0]["movedTo"] == str(ex.sha("moved"))


def test_an_image_that_can_t_be_read_has_no_digest_and_stands_as_written():
    found = ImageVerdict(
        (ContainerImage("web", ContainerClass.INIT, "NOT an image"),),
        None,
        checks={Check.SIGNATURE: CheckResult.NOT_MET},
    )
    claim = released(found)
    assert claim["images"][0]["reference"] == "NOT an image"
    assert claim["images"][0]["containers"] == [{"name": "web", "class": "init"}]
    assert why(claim, "/images/0/digest") == "NotVerified"


# --- why evidence is not there -----------------------------------------------------


@pytest.mark.parametrize(
    ("result", "reason", "expected"),
    [
        (CheckResult.NOT_REQUIRED, None, Absence.NOT_REQUIRED),
        (CheckResult.MET, None, Absence.NOT_REQUIRED),
        (CheckResult.UNDETERMINED, Reason.EVIDENCE_UNAVAILABLE, Absence.UNAVAILABLE),
        (CheckResult.NOT_MET, Reason.REVIEW_MISSING, Absence.NOT_FOUND),
        (CheckResult.NOT_MET, Reason.SIGNER_MISMATCH, Absence.NOT_VERIFIED),
        (CheckResult.NOT_MET, None, Absence.NOT_VERIFIED),
    ],
)
def test_why_an_image_has_no_change_record(result, reason, expected):
    found = replace(ex.verdict("web", "1.1"), checks={Check.REVIEW: result}, findings=())
    if reason is not None:
        finding = Finding(reason, "", "", check=Check.REVIEW, mode=Mode.AUDIT)
        found = replace(found, findings=(finding,))
    claim = released(ex.with_predicates(found, change=None))
    assert why(claim, "/images/0/changes") == expected
    assert why(claim, "/change/approvers") == expected


def test_third_party_images_say_so():
    found = replace(ex.verdict("web", "1.1"), third_party=True, statements=(), checks={})
    claim = released(found)
    assert claim["images"][0]["thirdParty"] is True
    assert why(claim, "/change/approvers") == "NotRequired"


def test_what_a_statement_leaves_out_is_null_with_a_reason():
    bare = ReviewedChange("https://forge.example/x/1", "b" * 40, ("b" * 40,))
    claim = released_with(changes=(bare,), committers=(), ticket=None, verified_at=None)
    for field in ("ticket", "opened", "merged", "committers", "lastPusher"):
        assert why(claim, f"/change/{field}") == "NotStated"
    nowhere = released_with(changes=())
    assert why(nowhere, "/change/uri") == "NotStated"
    assert why(nowhere, "/change/approvers") == "NotFound"


# --- who did it --------------------------------------------------------------------


def as_caller(caller: Caller):
    assessment = ex.configuration_only()
    return claim_of(replace(assessment, request=replace(assessment.request, caller=caller)))


def test_a_service_account_stands_in_clear():
    caller = as_caller(ex.DEPLOYER)["caller"]
    assert caller["user"] == "system:serviceaccount:ci:deployer"
    assert caller["person"] is None
    assert caller["credentialId"].startswith("JTI=")
    assert caller["groups"] == list(ex.DEPLOYER.groups)


def test_a_person_does_not():
    claim = as_caller(ex.LAPTOP)
    caller = claim["caller"]
    assert caller["user"] is None
    assert claim["people"][caller["person"]]["id"] == "kubernetes:dave@acme.example"
    assert caller["groups"][1] == "system:authenticated"
    assert claim["texts"][caller["groups"][0]["text"]] == "acme:payments"
    without = {k: v for k, v in claim.items() if k not in ("people", "texts")}
    for personal in ("dave", "acme:payments", "X509SHA256", "alice", "PAY-1234", "forge.example"):
        assert personal not in json.dumps(without)


def test_impersonation_shows():
    claim = as_caller(replace(ex.DEPLOYER, extra={}))
    assert why(claim, "/caller/credentialId") == "Impersonated"
    claim = as_caller(replace(ex.LAPTOP, extra={}))
    assert why(claim, "/caller/credentialId") == "NotStated"


def test_a_forge_s_user_never_becomes_the_cluster_s():
    namesake = Person("kubernetes:dave@acme.example")
    with pytest.raises(rec.RecordError, match="issuer"):
        released_with(committers=(namesake,))


def test_two_people_are_never_one_and_one_is_never_two():
    renamed = replace(ex.BOB, login="bobby", name=None)
    lookalike = Person("github:10021", login="bob", name="Bob Berg")
    claim = released_with(
        committers=(lookalike,),
        changes=(_request(committers=(), approvals=(_approval(), _approval(renamed, at=ex.NOW))),),
    )
    ids = [person["id"] for person in claim["people"]]
    assert sorted(ids) == ["github:1001", "github:1002", "github:10021", "github:1003"]
    approver, committer = claim["change"]["approvers"][0], claim["change"]["committers"][0]
    assert approver["person"] != committer["person"]
    bob = claim["people"][approver["person"]]
    assert (bob["login"], bob["name"]) == ("bob", "Bob Berg")


def test_what_one_statement_knows_of_a_person_adds_to_another_s():
    claim = released_with(
        committers=(Person("github:1002", bot=True),), changes=(_request(merged_by=ex.BOB),)
    )
    bob = next(person for person in claim["people"] if person["id"] == "github:1002")
    assert (bob["login"], bob["bot"]) == ("bob", True)


# --- what must not be recorded as admitted -----------------------------------------


@pytest.mark.parametrize(
    "assessment",
    [
        ex.denied(),
        ex.child(),
        replace(ex.release(), change_class=ChangeClass.NO_DELTA),
        replace(ex.release(), request=replace(ex.release().request, dry_run=True)),
    ],
    ids=["denied", "child", "no-delta", "dry run"],
)
def test_what_was_not_admitted_or_is_not_recorded_has_no_record(assessment):
    with pytest.raises(rec.RecordError):
        rec.admitted(assessment, ex.CONTEXT)


def test_a_decision_that_contradicts_itself_is_not_recorded():
    denied = ex.denied()
    allowed = replace(denied, decision=replace(denied.decision, allowed=True))
    with pytest.raises(rec.RecordError, match="denying"):
        rec.admitted(allowed, ex.CONTEXT)


# --- one change, once ---------------------------------------------------------------


def id_of(assessment):
    return rec.change_id(assessment, ex.CONTEXT.cluster)


def test_a_second_review_of_the_same_change_has_the_same_id():
    first, again = ex.release(), ex.release()
    again.request.old_object["metadata"]["resourceVersion"] = "2001"
    again = replace(again, request=replace(again.request, uid="another"), decided_at=ex.NOW)
    assert id_of(first) == id_of(again)


def test_another_change_has_another_id():
    ids = {
        id_of(ex.release()),
        id_of(ex.release("1.0", "1.2")),
        id_of(ex.configuration_only()),
        rec.change_id(ex.release(), rec.Cluster("another cluster")),
    }
    for name in ("uid", "generation"):
        other = copy.deepcopy(ex.release())
        other.request.object["metadata"][name] = 9 if name == "generation" else "another"
        ids.add(id_of(other))
    assert len(ids) == 6


def test_a_change_that_raises_no_generation_is_told_apart_by_what_it_replaced():
    def relabel(version: str):
        assessment = copy.deepcopy(ex.configuration_only())
        for thing in (assessment.request.object, assessment.request.old_object):
            thing["metadata"]["generation"] = 5
        assessment.request.old_object["metadata"]["resourceVersion"] = version
        return id_of(assessment)

    assert relabel("7") == relabel("7")
    assert relabel("7") != relabel("8")


def test_kinds_without_a_generation_and_objects_without_a_uid_have_ids():
    assessment = copy.deepcopy(ex.configuration_only())
    for thing in (assessment.request.object, assessment.request.old_object):
        del thing["metadata"]["generation"]
        del thing["metadata"]["uid"]
    claim = claim_of(assessment)
    assert why(claim, "/object/generation") == "NotApplicable"
    assert why(claim, "/object/uid") == "NotStated"
    other = replace(assessment, request=replace(assessment.request, uid="another review"))
    assert id_of(assessment) != id_of(other)


def test_a_deletion_is_one_change_however_often_it_is_reviewed():
    old = ex.deployment({"web": ex.image_of("web", "1.1")}, 5)
    first = ex.assess(old, None, ())
    later = ex.assess({**old, "metadata": {**old["metadata"], "generation": 6}}, None, ())
    assert id_of(first) == id_of(later)
    assert id_of(first) != id_of(ex.configuration_only())


def test_a_scale_is_of_what_it_scales():
    assessment = ex.configuration_only()
    request = replace(assessment.request, kind=Kind("autoscaling", "Scale"), subresource="scale")
    claim = claim_of(replace(assessment, request=request, change_class=ChangeClass.SCALE))
    assert (claim["object"]["group"], claim["object"]["kind"]) == ("apps", "Deployment")
    assert claim["subresource"] == "scale"
    assert claim["requestClass"] == "scale"


# --- rollback -----------------------------------------------------------------------


def committed(claim, **more):
    return ex.recorded(claim, rec.Vault(), **more)


def test_images_that_ran_before_make_a_rollback():
    claim = claim_of(ex.release("1.1", "1.0"))
    record = committed(claim, returns_to=4)
    assert record["change"]["class"] == "rollback"
    assert record["change"]["returnsTo"] == 4
    assert claim["change"]["class"] == "standard"  # the gate can't know


def test_a_first_time_is_none():
    record = committed(claim_of(ex.release()))
    assert record["change"]["class"] == "standard"
    assert why(record, "/change/returnsTo") == "NotFound"


def test_a_configuration_change_stays_one():
    record = committed(claim_of(ex.configuration_only()), returns_to=4)
    assert record["change"]["class"] == "configuration"
    assert record["change"]["returnsTo"] == 4


def test_the_image_set_does_not_depend_on_order_or_number_of_containers():
    claim = claim_of(ex.two_repositories())
    turned = {**claim, "images": [*reversed(claim["images"]), claim["images"][0]]}
    assert rec.image_set(claim) == rec.image_set(turned)
    assert rec.image_set(claim) != rec.image_set(claim_of(ex.release()))
    assert rec.image_set({"images": []}) is None


# --- what the recorder adds ----------------------------------------------------------


def test_claim_and_record_differ_in_what_the_recorder_adds_and_the_two_arrays_only():
    claim = claim_of(ex.release())
    record = committed(claim)
    added = {"recordedAt", "spool"}
    assert set(record) - set(claim) == added
    for name in set(claim) - {"people", "texts", "change", "absent"}:
        assert record[name] == claim[name]
    assert {k: v for k, v in record["change"].items() if k != "returnsTo"} == claim["change"]
    assert record["spool"] == {"boot": "6b043a38898260488e75a2e1", "seq": 12, "index": 0}
    assert record["recordedAt"] == "2026-11-23T13:06:00.290000Z"
    assert set(record["absent"]) - set(claim["absent"]) == {"/change/returnsTo"}


def test_what_the_recorder_itself_says_has_no_spool_position():
    gap = rec.gap(ex.CONTEXT, ex.NOW, rec.GapCause.BATCHES_MISSING, boot="abcdefgh", first_seq=3)
    record, _ = rec.commit(gap, rec.Vault(), recorded_at=ex.NOW, position=None)
    assert why(record, "/spool") == "NotApplicable"
    assert rec.check_form(record) == ()


def test_the_claim_is_not_changed_by_committing():
    claim = claim_of(ex.release())
    before = copy.deepcopy(claim)
    committed(claim, returns_to=3)
    assert claim == before


def _broken(change):
    claim = claim_of(ex.release())
    change(claim)
    return claim


def _deep():
    value = []
    for _ in range(900):
        value = [value]
    return value


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["person", "text", "id", "class", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(member=st.sampled_from(sorted(ex.claims()["admitted"])), value=_JSON)
def test_no_claim_crashes_the_recorder(member, value):
    claim = claim_of(ex.release()) | {member: value}
    try:
        record = committed(claim)
    except rec.RecordError:
        return
    assert rec.check_form(record) == ()


@pytest.mark.parametrize(
    "claim",
    [
        {},
        _broken(lambda claim: claim.update(schema="trailgate.dev/record/v2")),
        _broken(lambda claim: claim.update(recordedAt="2026-11-23T13:06:00.000000Z")),
        _broken(lambda claim: claim.update(spool=None)),
        _broken(lambda claim: claim["absent"].clear()),
        _broken(lambda claim: claim["absent"].update({"/caller/user": "NotApplicable"})),
        _broken(lambda claim: claim["absent"].update({"/caller/person": "JustBecause"})),
        _broken(lambda claim: claim["people"].append(dict(claim["people"][0]))),
        _broken(lambda claim: claim["people"].pop()),
        _broken(lambda claim: claim["texts"].pop()),
        _broken(lambda claim: claim["texts"].append("nobody refers to it")),
        _broken(lambda claim: claim.update(people={})),
        _broken(lambda claim: claim["change"].update(lastPusher={"person": -1})),
        _broken(lambda claim: claim["people"][0].pop("id")),
        _broken(lambda claim: claim["people"][0].update(id=1001)),
        _broken(lambda claim: claim["people"][0].update(email="alice@acme.example")),
        _broken(lambda claim: claim["people"][0].update(bot="no")),
        _broken(lambda claim: claim.update(texts=[*claim["texts"][:-1], 7])),
        _broken(lambda claim: claim.pop("shortened")),
        _broken(lambda claim: claim.update(kind="attested")),
        _broken(lambda claim: claim.pop("change")),
        _broken(lambda claim: claim["change"].update(returnsTo=3)),
        _broken(lambda claim: claim["change"].pop("class")),
        _broken(lambda claim: claim.update(enforced=0.5)),
        _broken(lambda claim: claim.update(environment="\ud800")),
        _broken(lambda claim: claim.update(environment=_deep())),
    ],
)
def test_a_claim_of_another_form_is_not_recorded(claim):
    with pytest.raises(rec.RecordError):
        rec.commit(claim, rec.Vault(), recorded_at=ex.NOW, position=None)


# --- size ------------------------------------------------------------------------------


def test_a_long_list_is_cut_and_said_to_be():
    pointers = tuple(f"/spec/template/spec/containers/0/env/{n}/value" for n in range(5_000))
    claim = claim_of(replace(ex.configuration_only(), delta=pointers))
    cut = claim["shortened"]["/delta"]
    assert claim["delta"] == list(pointers[: len(claim["delta"])])
    assert cut["length"] == 5_000
    assert 0 < len(claim["delta"]) < 5_000
    assert cut["digest"] == str(rec_fingerprint(list(pointers)))
    assert len(rec.encode(committed(claim))) <= rec.MAX_RECORD


def rec_fingerprint(value):
    from trailgate.model.canonical import fingerprint

    return fingerprint(value)


def test_a_range_of_thousands_of_commits_is_cut_and_its_people_stay():
    commits = tuple(ex.commit_id(str(n)) for n in range(8_000))
    source = replace(ex.change_record("web", "1.1").source, commits=commits)
    claim = released_with(source=source)
    assert claim["shortened"]["/images/0/changes/0/source/commits"]["length"] == 8_000
    assert who(claim, claim["change"]["committers"]) == ["github:1001"]


def test_a_long_string_in_clear_is_cut_and_said_to_be():
    long = "registry.example/" + "x" * 5_000
    found = ImageVerdict((ContainerImage("web", ContainerClass.CONTAINER, long),), None)
    claim = released(found)
    assert claim["images"][0]["reference"] == long[:200]
    assert claim["shortened"]["/images/0/reference"]["length"] == len(long)


def test_a_small_claim_is_not_cut():
    for claim in ex.claims().values():
        assert claim["shortened"] == {}


def test_roles_are_never_cut_a_claim_with_too_many_people_is_refused():
    people = tuple(Person(f"github:{n}", login=f"user{n}") for n in range(2_000))
    with pytest.raises(rec.RecordTooLargeError, match="2000 people"):
        released_with(committers=people)


def test_a_hundred_people_fit():
    people = tuple(Person(f"github:{n}", login=f"user{n}") for n in range(100))
    claim = released_with(committers=people)
    assert len(claim["change"]["committers"]) == 101
    assert len(rec.encode(committed(claim))) <= rec.MAX_RECORD


def test_a_text_too_long_for_the_spool_is_refused():
    with pytest.raises(rec.RecordTooLargeError):
        released_with(ticket="x" * (MAX_CLAIM + 1))


def test_a_record_above_the_limit_is_never_encoded():
    assert rec.MAX_RECORD == 65_535  # 16 bits: what an entry bundle of tlog-tiles can count
    record = committed(claim_of(ex.release()))
    room = rec.MAX_RECORD - len(canonical(record | {"environment": ""}))
    assert len(rec.encode(record | {"environment": "x" * room})) == rec.MAX_RECORD
    with pytest.raises(rec.RecordTooLargeError):
        rec.encode(record | {"environment": "x" * (room + 1)})


def test_a_string_of_the_longest_length_is_not_cut():
    context = replace(ex.CONTEXT, environment="e" * 512)
    assert claim_of(ex.release(), context)["environment"] == "e" * 512
    longer = claim_of(ex.release(), replace(ex.CONTEXT, environment="e" * 513))
    assert longer["environment"] == "e" * 200
    assert set(longer["shortened"]) == {"/environment"}


_NAMES = st.text(max_size=40)


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(1, 10**9), unique=True, max_size=30),
    login=_NAMES,
    name=_NAMES,
    ticket=_NAMES,
    groups=st.lists(_NAMES, max_size=10),
)
def test_whatever_is_recorded_fits_its_estimate_has_reasons_and_hides_people(
    ids, login, name, ticket, groups
):
    people = tuple(Person(f"github:{n}", login=login or None, name=name or None) for n in ids)
    assessment = ex.release()
    caller = replace(ex.LAPTOP, groups=tuple(groups))
    record = ex.change_record("web", "1.1", committers=people, ticket=ticket)
    found = ex.with_predicates(ex.verdict("web", "1.1"), change=record)
    assessment = replace(
        assessment,
        request=replace(assessment.request, caller=caller),
        decision=replace(assessment.decision, images=(found,)),
    )
    claim = claim_of(assessment)
    encoded = rec.encode(committed(claim))
    assert len(encoded) <= committed_size(claim)
    assert rec.check_form(json.loads(encoded)) == ()
    assert b"github:" not in encoded
    assert b"dave" not in encoded


# --- the other kinds -----------------------------------------------------------------------


def test_denials_are_added_up_by_user_namespace_reason_and_minute():
    refusals = rec.Refusals()
    minute = datetime(2026, 11, 23, 13, 6, tzinfo=UTC)
    for second in (1, 2, 59, 61):
        at = minute + timedelta(seconds=second)
        assert refusals.add(replace(ex.denied(), decided_at=at)) == 0
    other = replace(ex.denied(), decided_at=minute)
    refusals.add(replace(other, request=replace(other.request, namespace="elsewhere")))
    refusals.add(replace(other, request=replace(other.request, caller=ex.DEPLOYER)))
    groups, dropped = refusals.take()
    assert [group.count for group in groups] == [3, 1, 1, 1]
    assert dropped == 0
    assert len(refusals) == 0
    assert groups[0].first_at == minute + timedelta(seconds=1)
    assert groups[0].last_at == minute + timedelta(seconds=59)
    claim = rec.refused(groups[0], ex.CONTEXT)
    assert rec.check_form(claim) == ()
    assert claim["outcome"] == "refused"
    assert claim["reason"] == "SignatureMissing"
    assert claim["reasons"] == ["CallerNotAllowed", "SignatureMissing"]
    assert claim["count"] == 3
    assert claim["images"][0]["digest"] == str(ex.sha("unsigned 0"))
    assert claim["allImages"] is True


def test_what_was_allowed_or_a_dry_run_is_no_refusal():
    refusals = rec.Refusals()
    refusals.add(ex.release())
    refusals.add(replace(ex.denied(), request=replace(ex.denied().request, dry_run=True)))
    assert refusals.take() == ((), 0)


def test_a_full_queue_counts_what_it_drops_and_keeps_counting_what_it_has():
    refusals = rec.Refusals(limit=1)
    other = replace(ex.denied(), request=replace(ex.denied().request, namespace="elsewhere"))
    added = [refusals.add(one) for one in (ex.denied(), other, ex.denied(), other)]
    assert added == [0, 1, 0, 1]
    groups, dropped = refusals.take()
    assert ([group.count for group in groups], dropped) == ([2], 2)
    assert refusals.take() == ((), 0)


def test_more_groups_than_are_taken_come_first_the_next_time():
    refusals = rec.Refusals()
    request = ex.denied().request
    for namespace in ("shop", "elsewhere"):
        refusals.add(replace(ex.denied(), request=replace(request, namespace=namespace)))
    groups, _ = refusals.take(limit=1)
    assert [group.namespace for group in groups] == ["shop"]
    refusals.add(replace(ex.denied(), request=replace(request, namespace="later")))
    groups, _ = refusals.take()
    assert [group.namespace for group in groups] == ["elsewhere", "later"]


def test_what_nobody_could_decide_is_counted_like_any_other_refusal():
    refusals, request = rec.Refusals(limit=2), ex.denied().request
    policies = ex.denied().decision.policies
    for _ in range(2):
        assert refusals.add_undecided(request, Reason.SPOOL_FULL, ex.NOW, policies) == 0
    assert refusals.add_undecided(request, Reason.INTERNAL, ex.NOW) == 0
    assert refusals.add_undecided(request, Reason.MALFORMED, ex.NOW) == 1
    dry = replace(request, dry_run=True)
    assert refusals.add_undecided(dry, Reason.MALFORMED, ex.NOW) == 0
    groups, dropped = refusals.take()
    claims = [rec.refused(group, ex.CONTEXT) for group in groups]
    assert [rec.check_form(claim) for claim in claims] == [(), ()]
    told = [(claim["reason"], claim["reasons"], claim["count"]) for claim in claims]
    assert told == [("SpoolFull", ["SpoolFull"], 2), ("Internal", ["Internal"], 1)]
    assert [len(claim["policies"]) for claim in claims] == [len(policies), 0]
    assert dropped == 1


def test_more_images_than_a_group_tells_are_said_to_be_more():
    refusals = rec.Refusals()
    for number in range(40):
        found = replace(ex.denied().decision.images[0], image=None)
        use = replace(found.containers[0], image=f"image {number}")
        decision = replace(ex.denied().decision, images=(replace(found, containers=(use,)),))
        refusals.add(replace(ex.denied(), decision=decision))
    (group,), _ = refusals.take()
    assert (len(group.images), group.all_images, group.count) == (32, False, 40)


def test_a_refused_image_that_was_fine_is_not_among_the_refused():
    denied = ex.denied()
    images = (*denied.decision.images, ex.verdict("web", "1.1"))
    refusals = rec.Refusals()
    refusals.add(replace(denied, decision=replace(denied.decision, images=images)))
    (group,), _ = refusals.take()
    assert [image for image, _ in group.images] == [ex.image_of("unsigned", "0")]


def test_a_denial_without_a_finding_is_internal():
    denied = ex.denied()
    refusals = rec.Refusals()
    refusals.add(replace(denied, decision=replace(denied.decision, findings=())))
    assert refusals.take()[0][0].reason is Reason.INTERNAL


def test_a_gap_says_what_is_known_of_it_and_why_the_rest_is_not():
    claim = rec.gap(
        ex.CONTEXT, ex.NOW, rec.GapCause.BATCHES_MISSING, boot="b", first_seq=0, last_seq=2, count=3
    )
    assert (claim["cause"], claim["firstSeq"], claim["lastSeq"]) == ("batches-missing", 0, 2)
    assert why(claim, "/since") == "NotFound"
    assert rec.check_form(claim) == ()


def test_control_state_says_who_where_somebody_did_it():
    claim = rec.control_state(
        ex.CONTEXT,
        ex.NOW,
        rec.ControlSubject.LEDGER,
        rec.ControlState.STARTED,
        name="production",
        digest=ex.sha("new"),
        previous=ex.sha("old"),
        caller=ex.LAPTOP,
    )
    assert claim["people"][claim["caller"]["person"]]["login"] == "dave@acme.example"
    assert claim["previousDigest"] == str(ex.sha("old"))
    assert rec.check_form(claim) == ()


def test_erasures_fit_however_many():
    commitments = ["hmac-sha256:" + ex.sha(str(n)).hex for n in range(1_201)]
    claims = rec.erasures(ex.CONTEXT, ex.NOW, commitments)
    assert [len(claim["erased"]) for claim in claims] == [500, 500, 201]
    named = [one["commitment"] for claim in claims for one in claim["erased"]]
    assert named == commitments
    for claim in claims:
        assert len(rec.encode(committed(claim))) <= rec.MAX_RECORD
    assert rec.erasures(ex.CONTEXT, ex.NOW, []) == []


def test_unknown_context_is_null_with_a_reason():
    context = rec.Context(rec.Cluster("uid"), rec.Gate("0.1.0", ex.sha("c")))
    claim = claim_of(ex.release(), context)
    for pointer in ("/cluster/name", "/environment", "/gate/image"):
        assert why(claim, pointer) == "NotStated"


def test_a_connect_is_recorded_as_one():
    assessment = ex.release()
    request = replace(assessment.request, operation=Operation.CONNECT, subresource="exec")
    claim = claim_of(replace(assessment, request=request))
    assert (claim["operation"], claim["subresource"]) == ("CONNECT", "exec")


def test_an_approval_s_link_belongs_to_the_approver():
    claim = released_with(changes=(_request(approvals=(_approval(), _approval(ex.CAROL))),))
    uris = [
        approval["uri"]["text"]
        for approval in claim["images"][0]["changes"][0]["requests"][0]["approvals"]
    ]
    assert uris[0] != uris[1]
    assert claim["texts"][uris[0]] == claim["texts"][uris[1]]
