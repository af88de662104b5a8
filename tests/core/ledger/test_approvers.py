"""What the gate counts and what the record tells of approvals are one thing."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.policy import builders as b
from tests.core.policy.test_properties import _policies, _records, _signers, _worlds
from trailgate.ledger.changes import Place, change_fields
from trailgate.ledger.form import Null, Roster
from trailgate.model.decision import Check, CheckResult
from trailgate.model.evidence import DeploymentApproval, Person
from trailgate.model.reason import Absence
from trailgate.model.review import approvers
from trailgate.policy import review
from trailgate.policy.compiled import Review

PLACE = Place("uid", "c1", "shop")
REVIEW_ONLY = {"deploymentApproval": None, "tests": None}
EARLIER, LATER = b.NOW - timedelta(hours=5), b.NOW - timedelta(hours=1)


def told(decision):
    """The ids of the approvers that the record has; None where it has none."""
    (verdict,) = decision.images
    roster = Roster()
    found = change_fields([verdict], PLACE, roster)["approvers"]
    if isinstance(found, Null):
        return None
    people = roster.people()
    return {people[entry["person"]]["id"] for entry in found}


def decided(*records, wanted=None, by=None, **rule):
    asked = {"review": {"signers": b.signers("review")} | (wanted or {})} | REVIEW_ONLY | rule
    extra = [b.statement(record, by) for record in records]
    return b.verdict(b.evidence(*extra, change=None), policies=[b.policy(rules=[b.rule(**asked)])])


def record_of(*approvals, **changes):
    return b.record(changes=(b.reviewed(approvals=approvals, **changes),))


def both(decision):
    (verdict,) = decision.images
    return verdict.checks[Check.REVIEW] is CheckResult.MET, told(decision)


def _wanted(approvals):
    (rule,) = b.policy(rules=[b.rule(review={"signers": b.signers("review")})]).rules
    assert isinstance(rule.review, Review)
    return replace(rule.review, approvals=approvals)


@settings(max_examples=600, deadline=None)
@given(_records, st.lists(_records, max_size=2), st.integers(1, 2))
def test_approvers_are_told_exactly_where_one_approval_would_be_enough(record, joined, wanted):
    record = replace(record, passed=True)
    found = approvers(record, joined)
    met = review.judge(record, _wanted(1), [record, *joined]) is None
    assert met == (found is not None)
    if review.judge(record, _wanted(wanted), [record, *joined]) is None:
        assert found is not None
        assert len({one.person.id for one in found}) >= wanted


@settings(max_examples=300, deadline=None)
@given(_records, st.lists(_records, max_size=2))
def test_who_is_told_is_somebody_whom_the_review_counts(record, joined):
    """Without that person's approvals, at least one of the commits is short of one."""
    record = replace(record, passed=True)
    found = approvers(record, joined)
    for person in {one.person.id for one in found or ()}:
        alone = [
            replace(
                change,
                approvals=tuple(
                    one
                    for one in change.approvals
                    if one.person.id == person or one.state != "APPROVED"
                ),
            )
            for change in record.changes
        ]
        only = replace(record, changes=tuple(alone))
        mine = {one for one in found if one.person.id == person}
        counted = approvers(only, [record, *joined])
        stripped = replace(
            record,
            changes=tuple(replace(one, approvals=()) for one in record.changes),
        )
        assert approvers(stripped, joined) is None
        assert counted is None or set(counted) <= mine


@settings(max_examples=400, deadline=None)
@given(_worlds, _policies, st.lists(st.tuples(_records, _signers), max_size=2))
def test_where_the_review_is_met_the_record_has_approvers(world, policy, more):
    statements = [*world, *(b.statement(record, by) for record, by in more)]
    given_ = replace(b.evidence(), statements=tuple(statements))
    decision = b.verdict(given_, policies=[policy])
    if not decision.images:
        return
    (verdict,) = decision.images
    if verdict.checks[Check.REVIEW] is CheckResult.MET:
        assert told(decision)
    elif verdict.reviews:
        for one in verdict.reviews:
            joined = [item.predicate for item in one.joined]
            counted = {a.person.id for a in approvers(one.statement.predicate, joined) or ()}
            assert (told(decision) or set()) <= counted


def test_a_no_before_the_yes_in_the_other_order_is_a_yes_for_both():
    yes = b.approval()
    no = replace(yes, state="CHANGES_REQUESTED", at=EARLIER)
    assert both(decided(record_of(no, yes))) == (True, {"github:2002"})
    assert both(decided(record_of(yes, replace(no, at=LATER)))) == (False, None)
    assert both(decided(record_of(yes, replace(no, at=yes.at)))) == (False, None)


def test_a_later_approval_of_another_commit_takes_nothing_away():
    yes = b.approval()
    assert both(decided(record_of(yes, b.approval(commit=b.OTHER, at=LATER)))) == (
        True,
        {"github:2002"},
    )


def test_what_was_taken_back_in_one_record_is_taken_back_in_the_other_for_both():
    dismissed = record_of(b.approval(state="DISMISSED", at=LATER))
    assert both(decided(record_of(b.approval()), dismissed)) == (False, None)


def test_what_was_taken_back_under_one_address_is_taken_back_wherever_it_stands():
    refused = b.reviewed(approvals=(b.approval(state="DISMISSED", at=LATER),), commits=(b.HEAD,))
    record = b.record(changes=(b.reviewed(), refused))
    assert both(decided(record)) == (False, None)


def test_a_range_without_its_last_commit_has_no_approvers():
    record = b.record(
        source=b.source(commits=(b.OLDER,)), changes=(b.reviewed(commits=(b.OLDER, b.HEAD)),)
    )
    assert both(decided(record)) == (False, None)


def test_a_change_by_somebody_unknown_has_no_approvers():
    assert both(decided(b.record(unmapped_authors=(b.HEAD,)))) == (False, None)


def test_another_record_for_the_deployment_takes_no_approver_away():
    """The review's record tells the story, the other one who let it be deployed."""
    deployed = replace(record_of(), ticket="OPS-1")
    decision = b.verdict(
        b.evidence(b.statement(deployed, "deployer")),
        policies=[
            b.policy(
                rules=[
                    b.rule(
                        deploymentApproval={
                            "signers": b.signers("deployer"),
                            "environment": "production",
                        }
                    )
                ]
            )
        ],
    )
    assert both(decision) == (True, {"github:2002"})
    fields = change_fields(list(decision.images), PLACE, Roster())
    assert len(fields["deploymentApprovers"]) == 1
    assert fields["basis"] == "forge-api"


# Deployment approval


YES = DeploymentApproval(b.CAROL, "production", b.NOW - timedelta(hours=2))
NO = replace(YES, state="REJECTED")


def deployed(*records, wanted=None, more=(), **rule):
    """Decide by the deployment approval alone; (whether it is met, who is told)."""
    asked = {"signers": b.signers("review"), "environment": "production"} | (wanted or {})
    rules = {"review": None, "tests": None, "deploymentApproval": asked} | rule
    extra = [b.statement(record) for record in records]
    policies = [b.policy(rules=[b.rule(**rules)]), *more]
    (verdict,) = b.verdict(b.evidence(*extra, change=None), policies=policies).images
    roster = Roster()
    found = change_fields([verdict], PLACE, roster)["deploymentApprovers"]
    met = verdict.checks[Check.DEPLOYMENT_APPROVAL] is CheckResult.MET
    if isinstance(found, Null):
        return met, found.reason
    people = roster.people()
    return met, {(people[one["person"]]["id"], one["environment"]) for one in found}


def deploying(*approvals, **changes):
    return b.record(deployment_approvals=approvals, **changes)


CAROL = {("github:3003", "production")}


def test_who_let_it_be_deployed_is_told_where_the_gate_counts_it():
    assert deployed(deploying(YES)) == (True, CAROL)
    assert deployed(deploying(YES, passed=False)) == (True, CAROL)


@pytest.mark.parametrize("state", ["REJECTED", "DISMISSED"])
def test_what_was_taken_back_is_told_by_neither(state):
    later, earlier = (replace(YES, state=state, at=at) for at in (LATER, EARLIER))
    assert deployed(deploying(YES, later)) == (False, Absence.NOT_VERIFIED)
    assert deployed(deploying(YES, replace(YES, state=state))) == (False, Absence.NOT_VERIFIED)
    assert deployed(deploying(earlier, YES)) == (True, CAROL)


@pytest.mark.parametrize("ticket", [f"OPS-{number}" for number in range(6)])
@pytest.mark.parametrize("asked", [True, False])
def test_what_was_taken_back_in_another_record_is_told_by_neither(ticket, asked):
    """Whichever of the two the policies go by: the ticket moves their digests."""
    rule = {} if asked else {"deploymentApproval": None, "review": {"signers": b.signers("review")}}
    no = replace(NO, at=LATER)
    met, who = deployed(deploying(YES, ticket=ticket), deploying(no), **rule)
    assert not met
    assert who in (Absence.NOT_VERIFIED, Absence.NOT_STATED)


@pytest.mark.parametrize("person", [b.ALICE, Person("github:9", "ci", bot=True)])
def test_whom_the_gate_does_not_count_is_not_told(person):
    given = deploying(replace(YES, person=person))
    assert deployed(given) == (False, Absence.NOT_VERIFIED)
    both_of_them = deploying(replace(YES, person=person), YES)
    assert deployed(both_of_them) == (True, CAROL)


def test_a_committer_is_told_where_the_policy_counts_committers():
    given = deploying(replace(YES, person=b.ALICE))
    met, who = deployed(given, wanted={"notCommitter": False})
    assert met
    assert who == {(b.ALICE.id, "production")}


def test_another_environment_is_not_this_one():
    assert deployed(deploying(replace(YES, environment="staging"))) == (
        False, Absence.NOT_VERIFIED,
    )  # fmt: skip


def test_where_no_policy_asks_what_stands_is_told_and_what_was_taken_back_is_not():
    """The record is there because its review is asked for."""
    free = {"deploymentApproval": None, "review": {"signers": b.signers("review")}}
    assert deployed(deploying(YES), **free) == (False, CAROL)
    later = replace(NO, at=LATER)
    assert deployed(deploying(YES, later), **free) == (False, Absence.NOT_VERIFIED)
    assert deployed(deploying(), **free) == (False, Absence.NOT_STATED)
    assert deployed(deploying(NO), **free) == (False, Absence.NOT_STATED)
    staging = replace(YES, environment="staging")
    assert deployed(deploying(YES, staging), **free)[1] == CAROL | {("github:3003", "staging")}


def test_two_policies_tell_whom_either_counts():
    staging = {"signers": b.signers("review"), "environment": "staging"}
    rule = b.rule(review=None, tests=None, deploymentApproval=staging)
    other = b.policy("other", rules=[rule])
    both_of_them = deploying(YES, replace(YES, environment="staging"))
    assert deployed(both_of_them, more=[other]) == (True, CAROL | {("github:3003", "staging")})
    assert deployed(deploying(YES), more=[other]) == (False, CAROL)


_deployments = st.builds(
    DeploymentApproval,
    st.sampled_from([b.ALICE, b.BOB, b.CAROL, Person("git:bob@acme.example")]),
    st.sampled_from(["production", "staging"]),
    st.integers(0, 4).map(lambda hours: b.NOW - timedelta(hours=hours)),
    st.sampled_from(["APPROVED", "REJECTED", "DISMISSED"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(_deployments, max_size=4), min_size=1, max_size=3), st.booleans())
def test_deployers_are_told_exactly_where_the_gate_has_one(world, strict):
    records = [deploying(*approvals) for approvals in world]
    met, who = deployed(*records, wanted={"notCommitter": strict})
    assert met == isinstance(who, set)
