"""Deployment approval: given for this environment, by somebody who may."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.policy import builders as b
from trailgate.model.evidence import DeploymentApproval, Person

GIT_CAROL = Person("git:carol@acme.example", name="Carol")
BOT = Person("github:9009", "deploy[bot]")
YES = DeploymentApproval(b.CAROL, "production", b.NOW - timedelta(hours=2))
MISSING = ["DeploymentApprovalMissing"]


def reasons(*approvals, others=(), wanted=None, **fields):
    approval = b.rule()["deploymentApproval"] | (wanted or {})
    policy = b.policy(rules=[b.rule(review=None, tests=None, deploymentApproval=approval)])
    change = b.statement(b.record(deployment_approvals=approvals, **fields))
    extra = [b.statement(b.record(deployment_approvals=other)) for other in others]
    return b.reasons(b.verdict(b.evidence(*extra, change=change), policies=[policy]))


def at(hours):
    return b.NOW - timedelta(hours=hours)


def test_an_approval_for_the_environment_counts():
    assert reasons(YES) == []
    assert reasons(replace(YES, environment="staging")) == MISSING
    assert reasons(replace(YES, environment="Production")) == MISSING


@pytest.mark.parametrize("state", ["REJECTED", "PENDING", "COMMENTED", "approved"])
def test_only_approved_approves(state):
    assert reasons(replace(YES, state=state)) == MISSING


def test_who_pushed_is_not_who_wrote():
    pushed = b.reviewed(committers=(), last_pusher=b.ALICE)
    assert reasons(YES, committers=(), changes=(pushed,)) == ["UnknownAuthor"]


def test_a_later_no_takes_it_back_and_an_earlier_one_does_not():
    no = replace(YES, state="REJECTED")
    for order in (1, -1):
        assert reasons(*(YES, replace(no, at=at(1)))[::order]) == MISSING
        assert reasons(*(YES, no)[::order]) == MISSING
        assert reasons(*(YES, replace(no, at=at(3)))[::order]) == []
        assert reasons(*(replace(no, at=at(3)), YES, replace(no, at=at(1)))[::order]) == MISSING
    assert reasons(YES, others=[(replace(no, at=at(1)),)]) == MISSING


def test_a_no_for_another_environment_or_by_somebody_else_takes_nothing_back():
    assert reasons(YES, replace(YES, state="REJECTED", environment="staging", at=at(1))) == []
    assert reasons(YES, replace(YES, state="REJECTED", person=b.BOB, at=at(1))) == []


@pytest.mark.parametrize("committers_may", [True, False])
@pytest.mark.parametrize("person", [GIT_CAROL, BOT, Person("github:9", "ci", bot=True)])
def test_neither_bots_nor_mail_addresses_approve(person, committers_may):
    given = replace(YES, person=person)
    assert reasons(given, wanted={"notCommitter": not committers_may}) == MISSING


def test_whoever_wrote_any_of_it_does_not_approve():
    earlier = b.reviewed(uri="https://github.com/acme/web/pull/41", committers=(b.CAROL,))
    pushed = b.reviewed(last_pusher=b.CAROL)
    assert reasons(YES, committers=(b.ALICE, b.CAROL)) == MISSING
    assert reasons(YES, changes=(earlier, b.reviewed())) == MISSING
    assert reasons(YES, changes=(pushed,)) == MISSING
    assert reasons(YES, changes=(pushed,), wanted={"notCommitter": False}) == []


def test_authors_must_be_known_to_tell():
    for fields in (
        {"unmapped_authors": (b.HEAD,)},
        {"committers": (b.ALICE, GIT_CAROL)},
        {"committers": (), "changes": ()},
    ):
        assert reasons(YES, **fields) == ["UnknownAuthor"]
        assert reasons(YES, wanted={"notCommitter": False}, **fields) == []


def test_it_does_not_ask_for_a_review():
    assert reasons(YES, passed=False, changes=(b.reviewed(approvals=()),)) == []
