"""``trailgate attest``: state where an image comes from, what tested it, who reviewed it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from trailgate.cli import checkout, environment, files, signing
from trailgate.cli.errors import InputError
from trailgate.cli.output import note
from trailgate.evidence import change, changefile, junit, provenance, sign, source, testresult
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import EvidenceFormat, TestVerdict
from trailgate.model.image import ImageReference

_MAX_JUNIT = 64 * 1024 * 1024
_MAX_RECORD = 4 * 1024 * 1024


@click.group("attest")
def command() -> None:
    """State something about an image, signed, and store it beside the image."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """The source that was built, as far as flags, CI and checkout agree on it."""

    run: environment.Run
    repository: str | None
    commit: str | None
    ref: str | None
    modified: bool


def _origin_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for decorate in (
        click.option(
            "--source",
            "directory",
            type=click.Path(path_type=Path),
            default=Path(),
            show_default=True,
            help="The Git checkout that was built.",
        ),
        click.option("--commit", help="Its commit; default: the checkout's, else the CI's."),
        click.option(
            "--repository", help="Its repository's URL; default: the CI's, else the remote's."
        ),
    ):
        function = decorate(function)
    return function


@command.command("provenance")
@signing.signing_options
@_origin_options
@click.option("--ref", help="Branch or tag, in full; default: the CI's, else the checkout's.")
@click.option("--builder", help="URI of what built it; default: the CI's workflow or runner.")
@click.option("--run", "run_url", help="URL of the build's run; default: the CI's.")
@click.option(
    "--allow-modified", is_flag=True, help="Attest although tracked files differ from the commit."
)
def _provenance(
    *,
    image: ImageReference,
    directory: Path,
    commit: str | None,
    repository: str | None,
    ref: str | None,
    builder: str | None,
    run_url: str | None,
    allow_modified: bool,
    **how: Any,
) -> None:
    """State which source IMAGE was built from, by what, in which run.

    Facts come from the flags, else from GitHub Actions or GitLab CI, else from the
    Git checkout. Run it in the job that built the image.
    """
    origin = _origin(directory, commit, repository, ref)
    builder = builder or origin.run.builder
    if builder is None:
        raise InputError("no builder: give --builder URI (outside GitHub Actions and GitLab CI)")
    if origin.modified and not allow_modified:
        raise InputError(
            f"{directory}: tracked files differ from commit {origin.commit}, so the commit is "
            "not what was built; commit them, or say --allow-modified"
        )
    predicate = provenance.write(
        repository=_required(origin.repository, "repository"),
        ref=origin.ref,
        commit=_required(origin.commit, "commit"),
        builder=builder,
        run=run_url or origin.run.run,
        started_at=origin.run.started_at,
        finished_at=datetime.now(UTC),
        workflow=origin.run.workflow,
        modified=origin.modified,
    )
    _attest(image, provenance.TYPE, lambda _: predicate, how)


@command.command("tests")
@signing.signing_options
@_origin_options
@click.option(
    "--junit",
    "reports",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="JUnit XML file of the test run; may be repeated.",
)
@click.option("--url", help="Where the run can be seen; default: the CI's run.")
def _tests(
    *,
    image: ImageReference,
    directory: Path,
    commit: str | None,
    repository: str | None,
    reports: tuple[Path, ...],
    url: str | None,
    **how: Any,
) -> None:
    """State which tests ran for the commit of IMAGE, and how they ended.

    A failed run is attested, too: the exit code says whether it was stored, not
    whether the tests passed.
    """
    origin = _origin(directory, commit, repository, None)
    contents = [files.read(path, _MAX_JUNIT) for path in reports]
    try:
        result = junit.read(
            contents,
            commit=_required(origin.commit, "commit"),
            repository=origin.repository,
            url=url or origin.run.run,
        )
    except MalformedError as error:
        raise InputError(f"{', '.join(map(str, reports))}: {error}") from error
    note(
        f"{result.verdict.value}: {result.run} run, {result.failed} failed, "
        f"{result.skipped} skipped"
    )
    if result.verdict is TestVerdict.WARNED:
        note("no test was executed: policies that require tests will refuse this image")
    predicate = testresult.write(result)
    _attest(image, testresult.TYPE, lambda _: predicate, how)


@command.command("change")
@signing.signing_options
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    help="The change record, YAML or JSON: docs/reference/statements.md has its form.",
)
@click.option(
    "--verifier",
    required=True,
    envvar="TRAILGATE_VERIFIER",
    show_envvar=True,
    help="URI of who says so; a policy ties it to the signer.",
)
def _change(*, image: ImageReference, path: Path, verifier: str, **how: Any) -> None:
    """State who wrote, reviewed and approved what IMAGE ships.

    What a file says is asserted: the record carries 'basis: asserted', and a policy
    must accept that.
    """
    try:
        record = changefile.read(files.read(path, _MAX_RECORD))
        now = datetime.now(UTC)

        def make(named: ImageReference) -> Mapping[str, Any]:
            return changefile.predicate(record, image=named, verifier=verifier, at=now)

        verdict = make(image)["verificationResult"]
    except MalformedError as error:
        raise InputError(f"{path}: {error}") from error
    if verdict != "PASSED":
        note(f"{verdict}: not every commit of the range belongs to an approved change")
    _attest(image, change.TYPE, make, how)


def _attest(
    image: ImageReference,
    predicate_type: str,
    make: Callable[[ImageReference], Mapping[str, Any]],
    how: Mapping[str, Any],
) -> None:
    key = signing.load_key(how["key_name"])
    stored = EvidenceFormat(how["stored"])
    signing.run(
        image,
        lambda named: sign.attestation(named, predicate_type, make(named), key, stored),
        insecure=how["insecure"],
        private=how["private"],
        form=how["output"],
    )


def _origin(
    directory: Path, commit: str | None, repository: str | None, ref: str | None
) -> _Origin:
    """Put together what flags, CI and checkout say; a contradiction is an error."""
    run = environment.detect(os.environ)
    tree = checkout.inspect(directory)
    if commit is None and tree and run.commit and tree.commit != run.commit:
        raise InputError(
            f"the checkout is at {tree.commit}, the CI says {run.commit}: "
            "give --commit to say which was built"
        )
    where = repository or run.repository or (tree.origin if tree else None)
    commit = commit or (tree.commit if tree else run.commit)
    # The checkout's branch says nothing about another commit than its own.
    named = tree.ref if tree and tree.commit == commit else None
    return _Origin(
        run=run,
        repository=_normalised(where),
        commit=_object_name(commit),
        ref=ref or run.ref or named,
        modified=bool(tree and tree.commit == commit and tree.modified),
    )


def _normalised(repository: str | None) -> str | None:
    try:
        return source.normalise(repository) if repository else None
    except MalformedError as error:
        raise InputError(f"--repository: {error}") from error


def _object_name(commit: str | None) -> str | None:
    if commit is None or (len(commit) in (40, 64) and not set(commit) - set("0123456789abcdef")):
        return commit
    raise InputError(f"--commit: got {commit[:80]!r}, expected 40 or 64 lower-case hex digits")


def _required(value: str | None, name: str) -> str:
    if value is None:
        raise InputError(
            f"no {name}: give --{name}, or run this in CI or in the Git checkout that was built"
        )
    return value
