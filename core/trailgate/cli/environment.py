"""What the CI says about the run it is: GitHub Actions, GitLab CI, or nothing known.

Everything here is a claim of the environment that the command runs in. Whoever
controls the job controls it; that is why the key belongs to a job that others
cannot change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Run:
    """One CI run; None where the environment does not say."""

    repository: str | None = None
    """URL of the source repository, as the CI writes it."""
    commit: str | None = None
    ref: str | None = None
    """Full: ``refs/heads/main``."""
    builder: str | None = None
    """URI of what runs the build: the workflow, the runner."""
    run: str | None = None
    """URL of this run and attempt."""
    workflow: str | None = None
    """Path of the pipeline's definition in the repository."""
    started_at: datetime | None = None


def detect(environ: Mapping[str, str]) -> Run:
    """Read the CI's variables."""
    if environ.get("GITHUB_ACTIONS") == "true":
        return _github(environ)
    if environ.get("GITLAB_CI") == "true":
        return _gitlab(environ)
    return Run()


def _github(environ: Mapping[str, str]) -> Run:
    """https://docs.github.com/actions/reference/workflows-and-actions/variables."""
    server = environ.get("GITHUB_SERVER_URL", "https://github.com")
    name = environ.get("GITHUB_REPOSITORY")
    repository = f"{server}/{name}" if name else None
    number, attempt = environ.get("GITHUB_RUN_ID"), environ.get("GITHUB_RUN_ATTEMPT", "1")
    # owner/repo/.github/workflows/release.yml@refs/heads/main
    workflow = environ.get("GITHUB_WORKFLOW_REF")
    path = workflow.partition("@")[0].removeprefix(f"{name}/") if workflow and name else None
    return Run(
        repository=repository,
        commit=environ.get("GITHUB_SHA") or None,
        ref=environ.get("GITHUB_REF") or None,
        builder=f"{server}/{workflow}" if workflow else None,
        run=f"{repository}/actions/runs/{number}/attempts/{attempt}"
        if repository and number
        else None,
        workflow=path,
    )


def _gitlab(environ: Mapping[str, str]) -> Run:
    """https://docs.gitlab.com/ci/variables/predefined_variables/."""
    project = environ.get("CI_PROJECT_URL")
    runner = environ.get("CI_RUNNER_ID")
    tag, branch = environ.get("CI_COMMIT_TAG"), environ.get("CI_COMMIT_BRANCH")
    ref = environ.get("CI_MERGE_REQUEST_REF_PATH")
    if tag or branch:
        ref = f"refs/tags/{tag}" if tag else f"refs/heads/{branch}"
    return Run(
        repository=project or None,
        commit=environ.get("CI_COMMIT_SHA") or None,
        ref=ref or None,
        builder=f"{project}/-/runners/{runner}" if project and runner else None,
        run=environ.get("CI_JOB_URL") or None,
        workflow=environ.get("CI_CONFIG_PATH") or None,
        started_at=_moment(environ.get("CI_JOB_STARTED_AT")),
    )


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
