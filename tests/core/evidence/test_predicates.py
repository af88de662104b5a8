"""Every field of every predicate: what is read from it, and what is refused."""

from datetime import UTC, datetime

import pytest

from tests.core.evidence.samples import (
    BASE,
    CHANGE,
    COMMIT,
    HEAD,
    PROVENANCE,
    TESTS,
    TREE,
    Change,
    judge,
    statement_json,
)
from trailgate.evidence import change, provenance, testresult
from trailgate.model.digest import Digest
from trailgate.model.evidence import (
    Approval,
    ApprovalBinding,
    Basis,
    ChangeRecord,
    DeploymentApproval,
    DeploymentTarget,
    Person,
    Provenance,
    Rejected,
    ReviewedChange,
    SourceRange,
    Statement,
    TestResult,
    TestVerdict,
)
from trailgate.model.reason import Reason

EXT = change.EXTENSION
TEXT = testresult.EXTENSION
PT, TT, CT = provenance.TYPE, testresult.TYPE, change.TYPE


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def read(item: Change):
    found = judge(statement_json(item.predicate_type, item.apply()))
    assert isinstance(found, Statement), found
    return found.predicate


def refused(item: Change) -> Rejected:
    found = judge(statement_json(item.predicate_type, item.apply()))
    assert isinstance(found, Rejected), found
    return found


def test_provenance_is_read():
    assert judge(statement_json(PT, PROVENANCE)).predicate == Provenance(
        repository="https://github.com/acme/web",
        commit=COMMIT,
        ref="refs/heads/main",
        builder="https://github.com/acme/web/.github/workflows/release.yml@main",
        build_type="https://actions.github.io/buildtypes/workflow/v1",
        run="https://github.com/acme/web/actions/runs/7/attempts/1",
        started_at=utc(2026, 11, 23, 10, 0),
        finished_at=utc(2026, 11, 23, 10, 5, 0, 123457),
        parameters=(("/workflow/path", '".github/workflows/release.yml"'),),
    )


def test_tests_are_read():
    assert judge(statement_json(TT, TESTS)).predicate == TestResult(
        verdict=TestVerdict.PASSED,
        commit=COMMIT,
        repository="https://github.com/acme/web",
        run=12,
        failed=0,
        skipped=2,
        suites=("pytest",),
        started_at=utc(2026, 11, 23, 10, 0),
        finished_at=utc(2026, 11, 23, 10, 1),
        junit=Digest("cd" * 32),
        url="https://ci.example/7",
    )


def test_a_change_record_is_read():
    alice = Person("github:1001", "alice", "Alice A.")
    assert judge(statement_json(CT, CHANGE)).predicate == ChangeRecord(
        verifier="https://github.com/acme/ci/change-record",
        passed=True,
        levels=("SLSA_SOURCE_TWO_PARTY_REVIEWED",),
        basis=Basis.FORGE_API,
        source=SourceRange(
            "https://github.com/acme/web", "refs/heads/main", COMMIT, TREE, BASE, (COMMIT, HEAD)
        ),
        changes=(
            ReviewedChange(
                uri="https://github.com/acme/web/pull/42",
                head_commit=HEAD,
                commits=(HEAD,),
                merge_commit=COMMIT,
                merged_by=Person("github:3003", "carol"),
                opened_at=utc(2026, 11, 22, 9),
                merged_at=utc(2026, 11, 23, 9),
                approvals=(
                    Approval(
                        person=Person("github:2002", "bob"),
                        state="APPROVED",
                        commit=HEAD,
                        at=utc(2026, 11, 23, 8),
                        binding=ApprovalBinding.FORGE_MERGE,
                        uri="https://github.com/acme/web/pull/42#pullrequestreview-7",
                    ),
                ),
                committers=(alice,),
                last_pusher=Person("github:1001", "alice"),
            ),
        ),
        committers=(alice,),
        deployment_approvals=(
            DeploymentApproval(
                Person("github:4004", "dave"),
                "production",
                utc(2026, 11, 23, 10, 30),
                "https://github.com/acme/web/actions/runs/7",
            ),
        ),
        target=DeploymentTarget("prod", "shop"),
        ticket="SHOP-12",
        verified_at=utc(2026, 11, 23, 11),
        basis_digest=Digest("ef" * 32),
    )


def test_our_own_build_type_is_read_back():
    written = provenance.write(
        repository="https://git.example/acme/web",
        ref="refs/tags/v1",
        commit=COMMIT,
        builder="https://ci.example/runner/1",
        run="https://ci.example/7",
        started_at=utc(2026, 1, 2, 3),
        finished_at=utc(2026, 1, 2, 4),
        workflow=".ci.yml",
        modified=True,
    )
    assert judge(statement_json(PT, written)).predicate == Provenance(
        repository="https://git.example/acme/web",
        commit=COMMIT,
        ref="refs/tags/v1",
        builder="https://ci.example/runner/1",
        build_type=provenance.BUILD_TYPE,
        run="https://ci.example/7",
        started_at=utc(2026, 1, 2, 3),
        finished_at=utc(2026, 1, 2, 4),
        parameters=(("/source/modified", "true"), ("/workflow/path", '".ci.yml"')),
    )


def test_provenance_without_ref_run_and_times_is_read_back():
    written = provenance.write(
        repository="https://git.example/a", ref=None, commit=COMMIT, builder="b"
    )
    found = judge(statement_json(PT, written)).predicate
    assert (found.ref, found.run, found.started_at, found.finished_at) == (None,) * 4


BUILD = "buildDefinition"
WORKFLOW = (BUILD, "externalParameters", "workflow")
DEPENDENCY = (BUILD, "resolvedDependencies", 0)


@pytest.mark.parametrize(
    "item",
    [
        Change(PT, (BUILD,), ...),
        Change(PT, (BUILD, "buildType"), ...),
        Change(PT, (BUILD, "buildType"), 7),
        Change(PT, (BUILD, "externalParameters"), ...),
        Change(PT, (BUILD, "externalParameters"), []),
        Change(PT, WORKFLOW, ...),
        Change(PT, WORKFLOW, "x"),
        Change(PT, (*WORKFLOW, "repository"), ...),
        Change(PT, (*WORKFLOW, "repository"), ""),
        Change(PT, (*WORKFLOW, "repository"), "https://user:pw@github.com/acme/web"),
        Change(PT, (*WORKFLOW, "repository"), "file:///etc"),
        Change(PT, (*WORKFLOW, "repository"), "https://github.com/acme/other"),
        Change(PT, (*WORKFLOW, "ref"), 7),
        Change(PT, (*WORKFLOW, "ref"), "refs/heads/\x1b[2J"),
        Change(PT, (BUILD, "externalParameters", "x"), {str(n): n for n in range(300)}),
        Change(PT, (BUILD, "externalParameters", "x"), "y" * 5000),
        Change(PT, (BUILD, "resolvedDependencies"), ...),
        Change(PT, (BUILD, "resolvedDependencies"), []),
        Change(PT, (BUILD, "resolvedDependencies"), {}),
        Change(PT, (*DEPENDENCY, "uri"), ...),
        Change(PT, (*DEPENDENCY, "uri"), "git+https://github.com/acme/other@refs/heads/main"),
        Change(PT, (*DEPENDENCY, "digest"), {}),
        Change(PT, (*DEPENDENCY, "digest"), {"sha1": COMMIT}),
        Change(PT, (*DEPENDENCY, "digest", "gitCommit"), COMMIT.upper()),
        Change(PT, (*DEPENDENCY, "digest", "gitCommit"), COMMIT[:39]),
        Change(PT, (*DEPENDENCY, "digest", "gitCommit"), f"{COMMIT}\n"),
        Change(PT, (*DEPENDENCY, "digest", "gitCommit"), "main"),
        Change(PT, ("runDetails",), ...),
        Change(PT, ("runDetails", "builder"), ...),
        Change(PT, ("runDetails", "builder", "id"), ""),
        Change(PT, ("runDetails", "metadata"), 7),
        Change(PT, ("runDetails", "metadata", "startedOn"), "yesterday"),
        Change(PT, ("runDetails", "metadata", "startedOn"), "2026-11-23T10:00:00"),
        Change(PT, ("runDetails", "metadata", "startedOn"), "0001-01-01T00:00:00+14:00"),
        Change(PT, ("runDetails", "metadata", "invocationId"), []),
        Change(TT, ("result",), ...),
        Change(TT, ("result",), "passed"),
        Change(TT, ("result",), True),
        Change(TT, ("configuration",), ...),
        Change(TT, ("configuration",), {}),
        Change(TT, ("configuration", 0, "digest"), {"gitCommit": BASE}),
        Change(TT, ("url",), 7),
        Change(TT, ("failedTests",), "test_a"),
        Change(TT, (TEXT,), []),
        Change(TT, (TEXT, "run"), ...),
        Change(TT, (TEXT, "run"), -1),
        Change(TT, (TEXT, "run"), 1.5),
        Change(TT, (TEXT, "run"), "12"),
        Change(TT, (TEXT, "run"), 2**53),
        Change(TT, (TEXT, "failed"), 13),
        Change(TT, (TEXT, "failed"), ...),
        Change(TT, (TEXT, "skipped"), ...),
        Change(TT, (TEXT, "skipped"), True),
        Change(TT, (TEXT, "suites"), [7]),
        Change(TT, (TEXT, "suites"), ["s"] * 1001),
        Change(TT, (TEXT, "commit"), ...),
        Change(TT, (TEXT, "commit"), BASE),
        Change(TT, (TEXT, "repository"), "nowhere"),
        Change(TT, (TEXT, "startedAt"), "2026-11-23"),
        Change(TT, (TEXT, "finishedAt"), 7),
        Change(TT, (TEXT, "junitDigest"), "cd" * 32),
        Change(CT, ("verifier",), ...),
        Change(CT, ("verifier", "id"), ""),
        Change(CT, ("verificationResult",), ...),
        Change(CT, ("verificationResult",), "passed"),
        Change(CT, ("verifiedLevels",), ...),
        Change(CT, ("verifiedLevels",), "X"),
        Change(CT, ("timeVerified",), "now"),
        Change(CT, (EXT,), 7),
        Change(CT, (EXT, "basis"), ...),
        Change(CT, (EXT, "basis"), "hearsay"),
        Change(CT, (EXT, "basisDigest"), {"sha256": "EF" * 32}),
        Change(CT, (EXT, "source"), ...),
        Change(CT, (EXT, "source", "uri"), "acme/web"),
        Change(CT, (EXT, "source", "ref"), ["x"]),
        Change(CT, (EXT, "source", "from"), "main"),
        Change(CT, (EXT, "source", "from"), HEAD),
        Change(CT, (EXT, "source", "to"), ...),
        Change(CT, (EXT, "source", "to"), BASE),
        Change(CT, (EXT, "source", "tree"), "x"),
        Change(CT, (EXT, "source", "commits"), ...),
        Change(CT, (EXT, "source", "commits"), []),
        Change(CT, (EXT, "source", "commits"), [COMMIT, HEAD, HEAD]),
        Change(CT, (EXT, "source", "commits"), [COMMIT, "x"]),
        Change(CT, (EXT, "changes"), ...),
        Change(CT, (EXT, "changes"), []),  # and so the approval belongs to none
        Change(CT, (EXT, "changes", 0, "uri"), ...),
        Change(CT, (EXT, "changes", 0, "headCommit"), ...),
        Change(CT, (EXT, "changes", 0, "commits"), ...),
        Change(CT, (EXT, "changes", 0, "mergeCommit"), "x"),
        Change(CT, (EXT, "changes", 0, "mergedBy"), {"login": "carol"}),
        Change(CT, (EXT, "changes", 0, "openedAt"), 7),
        Change(CT, (EXT, "changes", 0, "mergedAt"), "x"),
        Change(CT, (EXT, "changes", 0, "lastPusher"), "alice"),
        Change(CT, (EXT, "changes", 0, "committers"), {}),
        Change(CT, (EXT, "changes"), [CHANGE[EXT]["changes"][0]] * 2),
        Change(CT, (EXT, "committers"), ...),
        Change(CT, (EXT, "committers", 0, "bot"), "no"),
        Change(CT, (EXT, "committers", 0, "name"), "Alice\x1b]0;"),
        Change(CT, (EXT, "approvers"), {}),
        Change(CT, (EXT, "approvers", 0, "state"), ...),
        Change(CT, (EXT, "approvers", 0, "commit"), ...),
        Change(CT, (EXT, "approvers", 0, "at"), ...),
        Change(CT, (EXT, "approvers", 0, "binding"), ...),
        Change(CT, (EXT, "approvers", 0, "binding"), "trust me"),
        Change(CT, (EXT, "approvers", 0, "uri"), 7),
        Change(CT, (EXT, "approvers", 0, "tree"), "x"),
        Change(CT, (EXT, "approvers", 0, "change"), "https://elsewhere"),
        Change(CT, (EXT, "deploymentApprovers", 0, "environment"), ...),
        Change(CT, (EXT, "deploymentApprovers", 0, "at"), ...),
        Change(CT, (EXT, "deploymentApprovers", 0, "run"), 7),
        Change(CT, (EXT, "unmappedAuthors"), ["alice"]),
        Change(CT, (EXT, "target"), {"namespace": 7}),
        Change(CT, (EXT, "target"), "shop"),
        Change(CT, (EXT, "ticket"), 12),
    ],
    ids=lambda item: f"{'/'.join(map(str, item.path))[-60:]}={str(item.value)[:30]}",
)
def test_a_predicate_of_another_form_is_malformed(item):
    found = refused(item)
    assert found.reason is Reason.MALFORMED, found.detail
    assert found.detail
    assert found.predicate_type == item.predicate_type


@pytest.mark.parametrize(
    "item",
    [
        Change(PT, (BUILD, "buildType"), "https://mobyproject.org/buildkit@v1"),
        Change(PT, (BUILD, "buildType"), "https://actions.github.io/buildtypes/workflow/v2"),
        Change(CT, (EXT,), ...),
        Change(CT, (EXT,), None),
    ],
)
def test_what_is_not_understood_is_a_predicate_mismatch(item):
    assert refused(item).reason is Reason.PREDICATE_MISMATCH


def test_two_commits_of_the_source_are_ambiguous():
    dependency = PROVENANCE[BUILD]["resolvedDependencies"][0]
    other = {**dependency, "digest": {"gitCommit": BASE}}
    dependencies = (BUILD, "resolvedDependencies")
    assert refused(Change(PT, dependencies, [dependency, other])).reason is Reason.MALFORMED
    elsewhere = {"uri": "pkg:docker/alpine@3", "digest": {"sha256": "00"}}
    found = read(Change(PT, dependencies, [elsewhere, dependency, dependency]))
    assert found.commit == COMMIT


def test_external_parameters_are_flattened_two_levels_deep():
    inputs = {"deep": {"er": {"z": 1, "a": [True, None]}}, "a/b~c": 1, "n\x1b": "x", "empty": {}}
    found = read(Change(PT, (BUILD, "externalParameters", "inputs"), inputs))
    assert found.parameters == (
        ("/inputs/a~1b~0c", "1"),
        ("/inputs/deep", '{"er":{"a":[true,null],"z":1}}'),
        ("/inputs/empty", "{}"),
        ("/inputs/n\\u001b", '"x"'),
        ("/workflow/path", '".github/workflows/release.yml"'),
    )


def test_a_failed_run_is_read():
    failed = {**TESTS, "result": "FAILED", TEXT: {**TESTS[TEXT], "failed": 3}}
    found = judge(statement_json(TT, failed)).predicate
    assert (found.verdict, found.failed) == (TestVerdict.FAILED, 3)


@pytest.mark.parametrize("result", ["PASSED", "WARNED"])
def test_a_verdict_that_its_numbers_deny_is_a_failure(result):
    ours = {**TESTS, "result": result, TEXT: {**TESTS[TEXT], "failed": 3}}
    standard = {"result": result, "configuration": [], "failedTests": ["t"]}
    for value in (ours, standard):
        assert judge(statement_json(TT, value)).predicate.verdict is TestVerdict.FAILED


def test_a_foreign_test_result_without_our_field():
    foreign = {"result": "PASSED", "configuration": [], "passedTests": ["a", "b"]}
    found = judge(statement_json(TT, foreign)).predicate
    assert (found.commit, found.run, found.failed, found.skipped) == (None, 2, None, None)
    value = statement_json(TT, {"result": "PASSED", "configuration": []})
    value["subject"].append({"digest": {"gitCommit": COMMIT}})
    found = judge(value).predicate
    assert (found.commit, found.run) == (COMMIT, None)


def test_the_commit_beside_the_subject_must_be_the_same():
    value = statement_json(TT, TESTS)
    value["subject"].append({"digest": {"gitCommit": BASE}})
    assert judge(value).reason is Reason.MALFORMED


def test_a_record_of_a_baseline_has_no_start():
    assert read(Change(CT, (EXT, "source", "from"), None)).source.start is None
    assert read(Change(CT, (EXT, "source", "from"), ...)).source.start is None


def test_a_failed_verdict_is_read_as_such():
    assert not read(Change(CT, ("verificationResult",), "FAILED")).passed


def test_committers_of_a_change_are_its_own_and_join_the_record():
    own = [{"id": "github:5005", "login": "erin"}, {"id": "github:5005"}]
    found = read(Change(CT, (EXT, "changes", 0, "committers"), own))
    assert [person.id for person in found.changes[0].committers] == ["github:5005"]
    assert [person.id for person in found.committers] == ["github:1001", "github:5005"]


def two_changes():
    first = CHANGE[EXT]["changes"][0]
    second = {"uri": "https://github.com/acme/web/pull/43", "headCommit": BASE, "commits": [BASE]}
    return [first, second]


@pytest.mark.parametrize(
    ("approver", "belongs_to"),
    [
        ({"commit": HEAD}, 0),
        ({"commit": COMMIT}, 0),
        ({"commit": BASE}, 1),
        ({"commit": HEAD, "change": "https://github.com/acme/web/pull/43"}, 1),
        ({"commit": TREE}, None),
    ],
)
def test_an_approval_belongs_to_one_change(approver, belongs_to):
    changed = {
        **CHANGE[EXT],
        "changes": two_changes(),
        "approvers": [{**CHANGE[EXT]["approvers"][0], **approver}],
    }
    found = judge(statement_json(CT, {**CHANGE, EXT: changed}))
    if belongs_to is None:
        assert found.reason is Reason.MALFORMED
    else:
        counts = [len(item.approvals) for item in found.predicate.changes]
        assert counts == [1 - belongs_to, belongs_to]


@pytest.mark.parametrize(
    "identity",
    [
        "github:1001",
        "gitlab.example:7",
        "gitlab.example:8443:7",
        "bitbucket.org:0f1e2d3c-0011-2233-4455-66778899aabb",
        "git:alice@acme.example",
    ],
)
def test_people_are_named_by_issuer_and_id(identity):
    found = read(Change(CT, (EXT, "committers", 0, "id"), identity))
    assert found.committers[0].id == identity


@pytest.mark.parametrize(
    "identity",
    [
        "",
        "1001",
        "github:",
        ":1001",
        "github:alice",
        "github:01001",
        "github:1001 ",
        "github: 1001",
        "github:1001\n",
        "github:+1001",
        "github:١٠٠١",  # noqa: RUF001  the point: other digits
        "GitHub:1001",
        "git:Alice@acme.example",
        "git:",
        "git:a b",
        "git:a:b",
        "bitbucket.org:0F1E2D3C-0011-2233-4455-66778899AABB",
        "github:" + "9" * 21,
        "a" * 400 + ":1",
        7,
        None,
    ],
)
@pytest.mark.parametrize("place", ["committers", "approvers", "deploymentApprovers"])
def test_a_person_has_one_spelling(identity, place):
    assert refused(Change(CT, (EXT, place, 0, "id"), identity)).reason is Reason.MALFORMED
