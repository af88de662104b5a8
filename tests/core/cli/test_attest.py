import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.core.cli.conftest import git
from tests.core.evidence.samples import CHANGE
from trailgate.cli import checkout as checkouts
from trailgate.cli.environment import Run, detect
from trailgate.cli.errors import InputError
from trailgate.evidence import change, provenance
from trailgate.model.digest import Digest
from trailgate.model.evidence import Basis, StatementKind, TestVerdict

COMMIT = "1f" * 20
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.example",
    "GITHUB_REPOSITORY": "acme/web",
    "GITHUB_SHA": COMMIT,
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_RUN_ID": "7",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_WORKFLOW_REF": "acme/web/.github/workflows/release.yml@refs/heads/main",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_URL": "https://gitlab.example/acme/web",
    "CI_COMMIT_SHA": COMMIT,
    "CI_COMMIT_BRANCH": "main",
    "CI_RUNNER_ID": "12",
    "CI_JOB_URL": "https://gitlab.example/acme/web/-/jobs/34",
    "CI_CONFIG_PATH": ".gitlab-ci.yml",
    "CI_JOB_STARTED_AT": "2026-11-23T12:00:00+02:00",
}
JUNIT = b'<testsuite name="unit"><testcase name="a"/><testcase><skipped/></testcase></testsuite>'


# What the CI says.


def test_github_actions_is_understood():
    assert detect(GITHUB) == Run(
        repository="https://github.example/acme/web",
        commit=COMMIT,
        ref="refs/heads/main",
        builder="https://github.example/acme/web/.github/workflows/release.yml@refs/heads/main",
        run="https://github.example/acme/web/actions/runs/7/attempts/2",
        workflow=".github/workflows/release.yml",
    )


def test_gitlab_ci_is_understood():
    assert detect(GITLAB) == Run(
        repository="https://gitlab.example/acme/web",
        commit=COMMIT,
        ref="refs/heads/main",
        builder="https://gitlab.example/acme/web/-/runners/12",
        run="https://gitlab.example/acme/web/-/jobs/34",
        workflow=".gitlab-ci.yml",
        started_at=datetime(2026, 11, 23, 10, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("more", "ref"),
    [
        ({"CI_COMMIT_TAG": "v1"}, "refs/tags/v1"),
        (
            {"CI_COMMIT_BRANCH": "", "CI_MERGE_REQUEST_REF_PATH": "refs/merge-requests/1/head"},
            "refs/merge-requests/1/head",
        ),
        ({"CI_COMMIT_BRANCH": ""}, None),
    ],
)
def test_gitlab_names_its_ref_in_three_ways(more, ref):
    assert detect(GITLAB | more).ref == ref


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-11-23T12:00:00"])
def test_a_start_that_cannot_be_read_is_left_out(stamp):
    assert detect(GITLAB | {"CI_JOB_STARTED_AT": stamp}).started_at is None


@pytest.mark.parametrize("environ", [{}, {"CI": "true"}, {"GITHUB_ACTIONS": "false"}])
def test_elsewhere_nothing_is_known(environ):
    assert detect(environ) == Run()


@pytest.mark.parametrize("environ", [{"GITHUB_ACTIONS": "true"}, {"GITLAB_CI": "true"}])
def test_a_ci_that_says_nothing_is_believed(environ):
    assert detect(environ) == Run()


# What the checkout says.


def test_a_checkout_is_inspected(checkout):
    found = checkouts.inspect(checkout)
    assert found == checkouts.Checkout(
        commit=git(checkout, "rev-parse", "HEAD"),
        ref="refs/heads/main",
        origin="https://Git.example/acme/web.git",
        modified=False,
    )


def test_a_change_to_a_tracked_file_is_seen(checkout):
    (checkout / "new").write_text("untracked files are the build's own business")
    assert not checkouts.inspect(checkout).modified
    (checkout / "file").write_text("two")
    assert checkouts.inspect(checkout).modified


def test_a_detached_head_has_no_ref(checkout):
    git(checkout, "checkout", "-q", "--detach")
    assert checkouts.inspect(checkout).ref is None


def test_without_a_remote(checkout):
    git(checkout, "remote", "remove", "origin")
    assert checkouts.inspect(checkout).origin is None


def test_what_is_no_checkout(tmp_path):
    assert checkouts.inspect(tmp_path) is None


def test_a_checkout_without_a_commit_says_so(tmp_path):
    git(tmp_path, "init", "-q")
    with pytest.raises(InputError, match="without a commit"):
        checkouts.inspect(tmp_path)


# The commands.


def attest(workbench, noun, *arguments, env=None):
    key = ("--key", workbench.key_file)
    return workbench.run("attest", noun, workbench.image, *key, *arguments, env=env)


def the(workbench, kind):
    evidence = workbench.evidence()
    assert not evidence.rejected
    (found,) = evidence.of_kind(kind)
    return found.predicate


@pytest.mark.registry
def test_provenance_from_the_checkout(workbench, checkout):
    done = attest(
        workbench, "provenance", "--source", checkout, "--builder", "https://ci.example/1",
        "--run", "https://ci.example/7", "-o", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["predicateType"] == provenance.TYPE
    found = the(workbench, StatementKind.PROVENANCE)
    assert found.repository == "https://git.example/acme/web"
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert (found.ref, found.builder) == ("refs/heads/main", "https://ci.example/1")
    assert (found.run, found.parameters) == ("https://ci.example/7", ())
    assert timedelta() <= datetime.now(UTC) - found.finished_at < timedelta(minutes=1)


@pytest.mark.registry
@pytest.mark.parametrize("environ", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_provenance_from_the_ci(workbench, environ, tmp_path):
    done = attest(workbench, "provenance", "--source", tmp_path, env=environ)
    assert done.exit_code == 0, done.stderr
    found, said = the(workbench, StatementKind.PROVENANCE), detect(environ)
    assert (found.repository, found.commit, found.ref, found.builder, found.run) == (
        said.repository, said.commit, said.ref, said.builder, said.run,
    )  # fmt: skip
    assert found.started_at == said.started_at
    assert found.parameters == (("/workflow/path", json.dumps(said.workflow)),)


@pytest.mark.registry
def test_flags_win(workbench, checkout):
    done = attest(
        workbench, "provenance", "--source", checkout, "--commit", COMMIT,
        "--repository", "git@other.example:acme/web.git", "--ref", "refs/tags/v2",
        "--builder", "https://b", env=GITHUB | {"GITHUB_SHA": "2e" * 20},
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    found = the(workbench, StatementKind.PROVENANCE)
    assert (found.repository, found.commit) == ("https://other.example/acme/web", COMMIT)
    assert (found.ref, found.builder) == ("refs/tags/v2", "https://b")


@pytest.mark.registry
def test_the_checkouts_branch_is_not_another_commits_ref(workbench, checkout):
    attest(
        workbench, "provenance", "--source", checkout, "--commit", COMMIT, "--builder", "https://b"
    )
    assert the(workbench, StatementKind.PROVENANCE).ref is None


@pytest.mark.registry
def test_a_modified_checkout_is_not_its_commit(workbench, checkout):
    (checkout / "file").write_text("two")
    arguments = ("provenance", "--source", checkout, "--builder", "https://b")
    done = attest(workbench, *arguments)
    assert done.exit_code == 2
    assert "not what was built" in done.stderr
    assert not workbench.evidence().statements
    assert attest(workbench, *arguments, "--allow-modified").exit_code == 0
    found = the(workbench, StatementKind.PROVENANCE)
    assert found.parameters == (("/source/modified", "true"),)


@pytest.mark.registry
@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        ((), {}, "no builder"),
        (("--builder", "b"), {}, "no repository"),
        (("--builder", "b", "--repository", "https://a.b/c"), {}, "no commit"),
        (("--builder", "b", "--repository", "a.b/c", "--commit", COMMIT), {}, "expected https"),
        (("--builder", "b", "--repository", "https://a.b/c", "--commit", "main"), {}, "hex digits"),
        (("--commit", COMMIT.upper()), GITHUB, "hex digits"),
    ],
)
def test_provenance_that_lacks_something_says_what(workbench, arguments, environ, said, tmp_path):
    done = attest(workbench, "provenance", "--source", tmp_path, *arguments, env=environ)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert not workbench.evidence().statements


@pytest.mark.registry
@pytest.mark.parametrize("noun", ["provenance", "tests"])
def test_a_checkout_and_a_ci_that_disagree(workbench, checkout, noun, tmp_path):
    (tmp_path / "j.xml").write_bytes(JUNIT)
    more = ("--junit", tmp_path / "j.xml") if noun == "tests" else ()
    done = attest(workbench, noun, "--source", checkout, *more, env=GITHUB)
    assert done.exit_code == 2
    assert "give --commit" in done.stderr


@pytest.mark.registry
def test_tests_are_attested(workbench, checkout, tmp_path):
    (tmp_path / "j.xml").write_bytes(JUNIT)
    done = attest(workbench, "tests", "--source", checkout, "--junit", tmp_path / "j.xml")
    assert done.exit_code == 0, done.stderr
    assert "PASSED: 1 run, 0 failed, 1 skipped" in done.stderr
    found = the(workbench, StatementKind.TESTS)
    assert (found.verdict, found.run, found.skipped) == (TestVerdict.PASSED, 1, 1)
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert found.repository == "https://git.example/acme/web"
    assert (found.junit, found.suites) == (Digest.of(JUNIT), ("unit",))


@pytest.mark.registry
def test_a_failed_run_is_attested_too(workbench, tmp_path):
    (tmp_path / "j.xml").write_text("<testsuite><testcase><failure/></testcase></testsuite>")
    done = attest(
        workbench, "tests", "--source", tmp_path, "--commit", COMMIT, "--junit", tmp_path / "j.xml"
    )
    assert done.exit_code == 0, done.stderr
    assert the(workbench, StatementKind.TESTS).verdict is TestVerdict.FAILED


@pytest.mark.registry
def test_no_executed_test_is_said(workbench, tmp_path):
    (tmp_path / "j.xml").write_text("<testsuite/>")
    done = attest(
        workbench, "tests", "--source", tmp_path, "--commit", COMMIT, "--junit", tmp_path / "j.xml"
    )
    assert done.exit_code == 0
    assert "no test was executed" in done.stderr
    found = the(workbench, StatementKind.TESTS)
    assert (found.verdict, found.run) == (TestVerdict.WARNED, 0)


@pytest.mark.registry
@pytest.mark.parametrize("content", [b"12 passed", b"<html/>", b"<!DOCTYPE x><testsuite/>", None])
def test_a_report_that_is_no_junit_xml(workbench, tmp_path, content):
    path = tmp_path / "j.xml"
    if content is not None:
        path.write_bytes(content)
    done = attest(workbench, "tests", "--source", tmp_path, "--commit", COMMIT, "--junit", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "j.xml" in done.stderr
    assert not workbench.evidence().statements


def record_file(tmp_path, **changes):
    text = {key: value for key, value in CHANGE[change.EXTENSION].items() if key != "basis"}
    path = tmp_path / "change.yaml"
    path.write_text(json.dumps({**text, **changes}))
    return path


@pytest.mark.registry
def test_a_change_is_attested_as_asserted(workbench, tmp_path):
    done = attest(
        workbench, "change", "--file", record_file(tmp_path), "--verifier", "https://a.b/v"
    )
    assert done.exit_code == 0, done.stderr
    found = the(workbench, StatementKind.CHANGE)
    assert (found.basis, found.passed, found.verifier) == (Basis.ASSERTED, True, "https://a.b/v")
    assert done.stderr == ""


@pytest.mark.registry
def test_a_change_without_approvals_is_said_to_fail(workbench, tmp_path):
    path = record_file(tmp_path, approvers=[])
    done = attest(workbench, "change", "--file", path, "--verifier", "https://a.b/v")
    assert done.exit_code == 0
    assert done.stderr.startswith("FAILED: not every commit")
    assert not the(workbench, StatementKind.CHANGE).passed


@pytest.mark.registry
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"basis": "forge-api"}, "can only assert"),
        ({"approver": []}, "unknown field"),
        ({"committers": [{"id": "alice"}]}, "another form"),
    ],
)
def test_a_record_that_is_wrong(workbench, tmp_path, changes, said):
    path = record_file(tmp_path, **changes)
    done = attest(workbench, "change", "--file", path, "--verifier", "https://a.b/v")
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert "change.yaml" in done.stderr
    assert not workbench.evidence().statements


@pytest.mark.registry
def test_a_change_names_its_verifier(workbench, tmp_path):
    assert attest(workbench, "change", "--file", record_file(tmp_path)).exit_code == 2


def fake_git(directory, script, monkeypatch):
    path = directory / "bin" / "git"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def test_a_checkout_of_somebody_else_says_how_to_trust_it(tmp_path, monkeypatch):
    fake_git(tmp_path, "echo 'fatal: detected dubious ownership' >&2; exit 128", monkeypatch)
    with pytest.raises(InputError, match=r"safe\.directory"):
        checkouts.inspect(tmp_path)


def test_a_git_that_hangs_is_given_up(tmp_path, monkeypatch):
    fake_git(tmp_path, "exec sleep 30", monkeypatch)
    monkeypatch.setattr(checkouts, "_SECONDS", 0.2)
    with pytest.raises(InputError, match="timed out"):
        checkouts.inspect(tmp_path)


def test_without_git_flags_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkouts.inspect(tmp_path) is None
