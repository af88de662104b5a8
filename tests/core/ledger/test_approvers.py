"""What the gate counts and what the record tells of approvals are one thing."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.policy import builders as b
from tests.core.policy.test_properties import _policies, _records, _signers, _worlds
from trailgate.ledger.changes import Place, change_fields
from trailgate.ledger.form import Null, Roster
from trailgate.model.decision import Check, CheckResult
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
