"""Independent review: who may approve what, commit by commit."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.policy import builders as b
from trailgate.model.evidence import ApprovalBinding, Basis, Person

BASIS_BOT = Person("github:9009", "renovate[bot]")
FLAGGED_BOT = Person("github:9010", "ci", bot=True)
GIT_BOB = Person("git:bob@acme.example", name="Bob")
GITLAB_BOB = Person("gitlab.example:7", "bob")
EARLIER = b.NOW - timedelta(hours=5)
LATER = b.NOW - timedelta(hours=1)


def reasons(*, wanted=None, others=(), **fields):
    """The reasons against one change record, under a policy that asks for review alone."""
    review = {"signers": b.signers("review")} | (wanted or {})
    policy = b.policy(rules=[b.rule(review=review, deploymentApproval=None, tests=None)])
    extra = [b.statement(other) for other in others]
    given = b.evidence(*extra, change=b.statement(b.record(**fields)))
    decision = b.verdict(given, policies=[policy])
    assert decision.allowed == (not decision.findings)
    return b.reasons(decision)


def with_approvals(*approvals, **fields):
    return reasons(changes=(b.reviewed(approvals=approvals, **fields),))


@pytest.mark.parametrize("person", [b.ALICE, BASIS_BOT, FLAGGED_BOT, GIT_BOB, GITLAB_BOB])
def test_these_never_approve(person):
    assert with_approvals(b.approval(person)) == ["ReviewNotIndependent"]


def test_a_login_or_name_makes_nobody_somebody_else():
    renamed = replace(b.ALICE, login="bob", name="Bob")
    assert with_approvals(b.approval(renamed)) == ["ReviewNotIndependent"]


@pytest.mark.parametrize(
    ("author", "approver"),
    [
        ("git.shop.example:3000:7", "git.shop.example:1001"),
        ("git.shop.example:1001", "git.shop.example:443:1001"),
        ("git.shop.example:443:1001", "git.shop.example:3000:7"),
    ],
)
def test_two_ports_of_a_host_are_two_forges(author, approver):
    """One human may have an account at each."""
    authors = (Person(author, "alice"),)
    change = b.reviewed(
        committers=authors, last_pusher=None, approvals=(b.approval(Person(approver, "alice")),)
    )
    assert reasons(committers=authors, changes=(change,)) == ["ReviewNotIndependent"]
    known = b.approval(Person(author.rpartition(":")[0] + ":8", "bob"))
    same = replace(change, approvals=(known,))
    assert reasons(committers=authors, changes=(same,)) == []


def test_who_pushed_is_not_who_wrote():
    pushed = b.reviewed(committers=(), last_pusher=b.CAROL)
    assert reasons(committers=(), changes=(pushed,)) == ["UnknownAuthor"]


def test_the_last_pusher_does_not_approve():
    assert with_approvals(b.approval(), last_pusher=b.BOB) == ["ReviewNotIndependent"]


def test_a_co_author_does_not_approve():
    assert with_approvals(b.approval(), committers=(b.ALICE, b.BOB)) == ["ReviewNotIndependent"]


def test_an_author_whom_only_the_record_names_does_not_approve():
    assert reasons(committers=(b.ALICE, b.BOB)) == ["ReviewNotIndependent"]


def test_the_record_names_the_authors_where_the_change_does_not():
    silent = b.reviewed(committers=(), last_pusher=None)
    assert reasons(changes=(silent,)) == []
    assert reasons(changes=(silent,), committers=(b.BOB,)) == ["ReviewNotIndependent"]


def test_a_change_without_any_author_is_by_somebody_unknown():
    silent = b.reviewed(committers=(), last_pusher=None)
    assert reasons(changes=(silent,), committers=()) == ["UnknownAuthor"]


def test_an_author_known_by_e_mail_alone_is_unknown():
    assert with_approvals(b.approval(), committers=(b.ALICE, GIT_BOB)) == ["UnknownAuthor"]


def test_one_independent_approval_beside_others_is_enough():
    assert with_approvals(b.approval(b.ALICE), b.approval(), b.approval(commit=b.OLDER)) == []


def test_two_approvals_are_two_people():
    two = {"approvals": 2}
    again = b.approval(at=LATER)
    once = (b.reviewed(approvals=(b.approval(), again)),)
    assert reasons(wanted=two, changes=once) == ["ReviewMissing"]
    both = (b.reviewed(approvals=(b.approval(), b.approval(b.CAROL))),)
    assert reasons(wanted=two, changes=both) == []


@pytest.mark.parametrize("state", ["CHANGES_REQUESTED", "DISMISSED", "something new"])
@pytest.mark.parametrize(("at", "cancels"), [(LATER, True), (None, True), (EARLIER, False)])
def test_a_later_no_takes_a_yes_back(state, at, cancels):
    yes = b.approval()
    no = replace(yes, state=state, at=at or yes.at)
    assert with_approvals(yes, no) == (["ReviewMissing"] if cancels else [])
    assert with_approvals(no, yes) == (["ReviewMissing"] if cancels else [])


def test_the_last_no_is_the_one_that_counts():
    no = b.approval(state="CHANGES_REQUESTED")
    early, late = replace(no, at=EARLIER), replace(no, at=LATER)
    assert with_approvals(early, b.approval(), late) == ["ReviewMissing"]
    assert with_approvals(late, b.approval(), early) == ["ReviewMissing"]
    assert with_approvals(late, early, b.approval(at=b.NOW)) == []


def test_a_comment_takes_nothing_back():
    yes = b.approval()
    assert with_approvals(yes, replace(yes, state="COMMENTED", at=LATER)) == []


def test_somebody_elses_no_takes_nothing_back():
    no = b.approval(b.CAROL, state="CHANGES_REQUESTED", at=LATER)
    assert with_approvals(b.approval(), no) == []


def test_a_no_in_another_record_of_the_same_commit_counts():
    """A record from before the dismissal must not outlive it."""
    dismissed = b.record(changes=(b.reviewed(approvals=(b.approval(state="DISMISSED"),)),))
    assert reasons(others=[dismissed]) == ["ReviewMissing"]


@pytest.mark.parametrize("state", ["COMMENTED", "PENDING", "approved", "CHANGES_REQUESTED"])
def test_only_approved_approves(state):
    assert with_approvals(b.approval(state=state)) == ["ReviewMissing"]


# --- what an approval was given to ------------------------------------------------


def shipped(to, commits, change, *, start=b.BASE, tree=b.TREE):
    """Ship a range, with a provenance of its last commit."""
    record = b.record(
        source=b.source(to=to, commits=commits, start=start, tree=tree), changes=change
    )
    policy = b.policy(
        rules=[b.rule(review={"signers": b.signers("review")}, deploymentApproval=None, tests=None)]
    )
    given = b.evidence(change=b.statement(record), provenance=b.statement(b.provenance(commit=to)))
    return b.reasons(b.verdict(given, policies=[policy]))


def merged(binding, **fields):
    approval = b.approval(binding=binding, tree=fields.pop("tree", None))
    whole = {"merge_commit": b.MERGE, "approvals": (approval,)} | fields
    return (b.reviewed(**whole),)


def test_a_squash_counts_where_the_forge_ties_it_to_the_approved_head():
    assert shipped(b.MERGE, (b.MERGE,), merged(ApprovalBinding.FORGE_MERGE)) == []


def test_a_squash_does_not_count_by_an_approval_of_the_head_alone():
    assert shipped(b.MERGE, (b.MERGE,), merged(ApprovalBinding.COMMIT)) == ["ReviewStale"]


def test_a_squash_among_the_commits_does_not_count_by_an_approval_of_the_head_alone():
    change = merged(ApprovalBinding.COMMIT, merge_commit=None, commits=(b.HEAD, b.MERGE))
    assert shipped(b.MERGE, (b.MERGE,), change) == ["ReviewStale"]


def test_a_merge_tied_to_another_head_does_not_count():
    change = merged(ApprovalBinding.FORGE_MERGE, head_commit=b.OTHER)
    assert shipped(b.MERGE, (b.MERGE,), change) == ["ReviewStale"]


def test_a_merge_that_is_not_shipped_ties_nothing():
    change = merged(ApprovalBinding.FORGE_MERGE, merge_commit=b.OTHER, commits=(b.MERGE,))
    assert shipped(b.MERGE, (b.MERGE,), change) == ["ReviewStale"]


def test_a_merge_commit_itself_needs_the_forges_tie():
    commits = (b.HEAD, b.MERGE)
    assert shipped(b.MERGE, commits, merged(ApprovalBinding.FORGE_MERGE)) == []
    assert shipped(b.MERGE, commits, merged(ApprovalBinding.COMMIT)) == ["ReviewStale"]


def test_another_commit_of_the_same_tree_counts():
    assert shipped(b.MERGE, (b.MERGE,), merged(ApprovalBinding.TREE, tree=b.TREE)) == []


@pytest.mark.parametrize(("theirs", "ours"), [(b.OTHER, b.TREE), (None, b.TREE), (None, None)])
def test_another_tree_does_not_count(theirs, ours):
    change = merged(ApprovalBinding.TREE, tree=theirs)
    assert shipped(b.MERGE, (b.MERGE,), change, tree=ours) == ["ReviewStale"]


def test_the_tree_of_the_last_change_says_nothing_about_an_earlier_one():
    earlier = b.reviewed(
        uri="https://github.com/acme/web/pull/41",
        head_commit=b.OLDER,
        commits=(b.OLDER,),
        merge_commit=b.OTHER,
        approvals=(b.approval(commit=b.OLDER, binding=ApprovalBinding.TREE, tree=b.TREE),),
    )
    assert shipped(b.HEAD, (b.OTHER, b.HEAD), (earlier, b.reviewed())) == ["ReviewStale"]


def test_an_approval_of_the_head_covers_the_commits_below_it():
    assert shipped(b.HEAD, (b.OLDER, b.HEAD), (b.reviewed(commits=(b.OLDER, b.HEAD)),)) == []


def test_an_approval_of_a_commit_below_does_not_cover_the_head():
    change = b.reviewed(commits=(b.OLDER, b.HEAD), approvals=(b.approval(commit=b.OLDER),))
    assert shipped(b.HEAD, (b.OLDER, b.HEAD), (change,)) == ["ReviewStale"]


# --- ranges ----------------------------------------------------------------------


def earlier(**fields):
    whole = {
        "uri": "https://github.com/acme/web/pull/41",
        "head_commit": b.OLDER,
        "commits": (b.OLDER,),
        "committers": (b.BOB,),
        "last_pusher": b.BOB,
        "approvals": (b.approval(b.ALICE, b.OLDER),),
    }
    return b.reviewed(**(whole | fields))


def test_two_people_may_review_each_other():
    assert (
        reasons(
            source=b.source(commits=(b.OLDER, b.HEAD)),
            changes=(earlier(), b.reviewed()),
            committers=(b.ALICE, b.BOB),
        )
        == []
    )


@pytest.mark.parametrize(
    ("approvals", "reason"),
    [
        ((), "ReviewGap"),
        ((b.approval(b.BOB, b.OLDER),), "ReviewNotIndependent"),
        ((b.approval(b.ALICE, b.OTHER),), "ReviewStale"),
    ],
)
def test_every_change_of_the_range_needs_its_approval(approvals, reason):
    assert reasons(
        source=b.source(commits=(b.OLDER, b.HEAD)),
        changes=(earlier(approvals=approvals), b.reviewed()),
        committers=(b.ALICE, b.BOB),
    ) == [reason]


def test_a_direct_push_is_a_gap():
    assert reasons(source=b.source(commits=(b.OTHER, b.HEAD))) == ["ReviewGap"]


@pytest.mark.parametrize("commits", [(), (b.OTHER,)])
def test_a_range_that_does_not_list_its_last_commit_is_a_gap(commits):
    assert reasons(source=b.source(commits=commits)) == ["ReviewGap"]


def test_a_range_without_its_last_commit_is_a_gap_even_if_all_it_lists_is_approved():
    change = b.reviewed(commits=(b.OLDER, b.HEAD))
    assert reasons(source=b.source(commits=(b.OLDER,)), changes=(change,)) == ["ReviewGap"]


def test_no_change_at_all_is_a_missing_review():
    assert reasons(changes=()) == ["ReviewMissing"]


def test_a_baseline_needs_an_approval_only_of_what_is_on_top():
    baseline = b.source(start=None, commits=(b.OTHER, b.HEAD))
    assert reasons(source=baseline) == []
    assert reasons(source=baseline, changes=(b.reviewed(approvals=()),)) == ["ReviewMissing"]
    assert reasons(source=baseline, changes=(earlier(),)) == ["ReviewGap"]


def test_an_old_unknown_author_does_not_spoil_a_baseline():
    baseline = b.source(start=None, commits=(b.OTHER, b.HEAD))
    assert reasons(source=baseline, unmapped_authors=(b.OTHER,)) == []
    assert reasons(source=baseline, unmapped_authors=(b.HEAD,)) == ["UnknownAuthor"]
    assert reasons(unmapped_authors=(b.OTHER,)) == ["UnknownAuthor"]


def test_a_verdict_that_is_not_passed_is_no_review():
    assert reasons(passed=False) == ["ReviewMissing"]


def test_the_level_is_written_and_never_required():
    assert reasons(levels=()) == []


def test_an_asserted_record_counts_where_the_policy_says_so():
    assert reasons(basis=Basis.ASSERTED) == ["ReviewAsserted"]
    assert reasons(basis=Basis.ASSERTED, wanted={"basis": "Asserted"}) == []


def test_a_person_of_git_never_satisfies_even_where_asserted_records_do():
    asserted = {"basis": "Asserted"}
    changes = (b.reviewed(approvals=(b.approval(GIT_BOB),)),)
    assert reasons(basis=Basis.ASSERTED, wanted=asserted, changes=changes) == [
        "ReviewNotIndependent"
    ]
