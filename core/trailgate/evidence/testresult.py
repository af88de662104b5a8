"""Test results: https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md.

That form names tests and a verdict, and no commit and no numbers. The field whose
name is our URI adds them; readers that do not know it ignore it, as in-toto asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from trailgate.evidence import source
from trailgate.evidence.errors import malformed
from trailgate.evidence.wire import Count, Moment, ObjectName, Text, convert, utc
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import TestResult, TestVerdict

TYPE = "https://in-toto.io/attestation/test-result/v0.1"
#: Our field: ``{suites, run, failed, skipped, startedAt, finishedAt, commit, repository,
#: junitDigest}``.
EXTENSION = "https://trailgate.dev/test-result/v1"
_Suites = Annotated[list[Text], msgspec.Meta(max_length=1000)]


class _Extension(msgspec.Struct, rename="camel"):
    commit: ObjectName
    run: Count
    failed: Count
    skipped: Count
    suites: _Suites = []
    repository: Text | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    junit_digest: Text | None = None


class _Configuration(msgspec.Struct):
    digest: dict[str, str] = {}


class _Predicate(msgspec.Struct, rename="camel"):
    result: TestVerdict
    configuration: list[_Configuration]
    url: Text | None = None
    passed_tests: list[str] | None = None
    warned_tests: list[str] | None = None
    failed_tests: list[str] | None = None
    extension: _Extension | None = msgspec.field(default=None, name=EXTENSION)


def read(predicate: Mapping[str, Any], commits: frozenset[str]) -> TestResult:
    """Read the predicate; ``commits`` are the ``gitCommit`` subjects of the statement.

    A verdict that its own numbers deny becomes FAILED: a refusal would leave another
    result of the same run to speak alone. Raises ``RefusedError`` (``Malformed``), also
    for more than one commit.
    """
    value = convert(predicate, _Predicate, "a test result")
    extension = value.extension
    run, failed = _numbers(value)
    return TestResult(
        verdict=TestVerdict.FAILED if failed else value.result,
        commit=_commit(value, commits),
        repository=_repository(extension.repository) if extension else None,
        run=run,
        failed=failed,
        skipped=extension.skipped if extension else None,
        suites=tuple(extension.suites) if extension else (),
        started_at=utc(extension.started_at) if extension else None,
        finished_at=utc(extension.finished_at) if extension else None,
        junit=_digest(extension.junit_digest) if extension else None,
        url=value.url,
    )


def write(result: TestResult) -> dict[str, Any]:
    """Write the predicate; ``commit`` and the counts must be there."""
    counts = (result.run, result.failed, result.skipped)
    if result.commit is None or None in counts:
        raise MalformedError("expected a test result with its commit and its counts")
    extension = {
        "suites": list(result.suites),
        "run": result.run,
        "failed": result.failed,
        "skipped": result.skipped,
        "startedAt": _stamp(result.started_at),
        "finishedAt": _stamp(result.finished_at),
        "commit": result.commit,
        "repository": result.repository,
        "junitDigest": str(result.junit) if result.junit else None,
    }
    configuration: dict[str, Any] = {"digest": {"gitCommit": result.commit}}
    if result.repository:
        configuration["uri"] = f"git+{result.repository}"
    predicate: dict[str, Any] = {"result": result.verdict.value, "configuration": [configuration]}
    if result.url:
        predicate["url"] = result.url
    predicate[EXTENSION] = {key: item for key, item in extension.items() if item is not None}
    return predicate


def _stamp(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None


def _numbers(value: _Predicate) -> tuple[int | None, int | None]:
    """How many ran and failed: our field, else the standard lists, else unknown."""
    lists = (value.passed_tests, value.warned_tests, value.failed_tests)
    named = None if all(item is None for item in lists) else sum(len(item or ()) for item in lists)
    listed = None if value.failed_tests is None else len(value.failed_tests)
    if value.extension is None:
        return named, listed
    run, failed = value.extension.run, value.extension.failed
    if failed > run:
        raise malformed(f"got a test result with {failed} failed of {run} run")
    return run, max(failed, listed or 0)


def _commit(value: _Predicate, subjects: frozenset[str]) -> str | None:
    commits = set(subjects)
    commits |= {
        item.digest["gitCommit"] for item in value.configuration if "gitCommit" in item.digest
    }
    if value.extension:
        commits.add(value.extension.commit)
    if len(commits) > 1:
        raise malformed(f"got a test result of {len(commits)} commits, expected one")
    return convert(commits.pop(), ObjectName, "a gitCommit") if commits else None


def _repository(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return source.normalise(text)
    except MalformedError as error:
        raise malformed(str(error)) from error


def _digest(text: str | None) -> Digest | None:
    if text is None:
        return None
    try:
        return Digest.parse(text)
    except MalformedError as error:
        raise malformed(str(error)) from error
