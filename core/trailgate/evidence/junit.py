"""JUnit XML, as test runners of every language write it, to a test result.

There is no one specification; this reads what the common ones agree on: suites
(nested or not) of test cases, with ``failure``, ``error`` or ``skipped`` inside a
case. Cases are counted, because the totals in attributes are often wrong; where
the attributes tell of more failures than were found, they are believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import TestResult, TestVerdict

_MAX_BYTES = 64 * 1024 * 1024
_MAX_SUITES = 1000
_MAX_NAME = 500


@dataclass(frozen=True, slots=True)
class _Report:
    cases: int
    failed: int
    skipped: int
    suites: tuple[str, ...]
    started_at: datetime | None
    finished_at: datetime | None


def read(
    files: Sequence[bytes],
    *,
    commit: str,
    repository: str | None = None,
    url: str | None = None,
) -> TestResult:
    """Add up one or more JUnit files into one result for a commit.

    The verdict is FAILED where any test failed or could not be run, WARNED where no
    test was executed at all, else PASSED. ``junit`` is the digest of the file, or of
    the sorted lines ``sha256:<hex>`` of several. Raises ``MalformedError`` for what is
    not JUnit XML, and for XML with a document type or entities.
    """
    if not files:
        raise MalformedError("got no JUnit file, expected at least one")
    reports = [_report(content) for content in files]
    failed = sum(report.failed for report in reports)
    skipped = sum(report.skipped for report in reports)
    run = sum(report.cases for report in reports) - skipped
    verdict = TestVerdict.PASSED if run else TestVerdict.WARNED
    suites = dict.fromkeys(name for report in reports for name in report.suites)
    return TestResult(
        verdict=TestVerdict.FAILED if failed else verdict,
        commit=commit,
        repository=repository,
        run=run,
        failed=failed,
        skipped=skipped,
        suites=tuple(suites)[:_MAX_SUITES],
        started_at=min((r.started_at for r in reports if r.started_at), default=None),
        finished_at=max((r.finished_at for r in reports if r.finished_at), default=None),
        junit=_digest(files),
        url=url,
    )


def _digest(files: Sequence[bytes]) -> Digest:
    digests = sorted(Digest.of(content) for content in files)
    if len(digests) == 1:
        return digests[0]
    return Digest.of("".join(f"{digest}\n" for digest in digests).encode("ascii"))


def _report(content: bytes) -> _Report:
    if len(content) > _MAX_BYTES:
        raise MalformedError(
            f"got {len(content)} bytes, expected JUnit XML of at most {_MAX_BYTES}"
        )
    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise MalformedError(f"got a file that is not JUnit XML: {str(error)[:200]}") from error
    if root.tag not in ("testsuites", "testsuite"):
        raise MalformedError(
            f"got XML with the root <{str(root.tag)[:80]}>, expected <testsuites> or <testsuite>"
        )
    cases = list(root.iter("testcase"))
    failed = sum(_outcome(case) == "failed" for case in cases)
    skipped = sum(_outcome(case) == "skipped" for case in cases)
    missing = max(0, _claimed_failures(root) - failed)
    times = [time for suite in root.iter("testsuite") for time in _times(suite)]
    return _Report(
        # A failure without a case is a test that ran, too.
        cases=len(cases) + missing,
        failed=failed + missing,
        skipped=skipped,
        suites=tuple(_names(root)),
        started_at=min(times, default=None),
        finished_at=max(times, default=None),
    )


def _outcome(case: Element) -> str:
    children = {child.tag for child in case}
    if children & {"failure", "error"}:
        return "failed"
    not_run = case.get("status", "").lower() in ("notrun", "disabled", "skipped")
    return "skipped" if "skipped" in children or not_run else "passed"


def _claimed_failures(root: Element) -> int:
    """Read how many failures the outermost suites tell of."""
    suites = [root] if root.tag == "testsuite" else root.findall("testsuite")
    outer = sum(_number(suite, name) for suite in suites for name in ("failures", "errors"))
    return max(outer, sum(_number(root, name) for name in ("failures", "errors")))


def _number(suite: Element, name: str) -> int:
    text = suite.get(name, "0").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0  # noqa: PLR2004


def _names(root: Element) -> Iterator[str]:
    for suite in root.iter("testsuite"):
        name = "".join(char for char in suite.get("name", "") if char.isprintable()).strip()
        if name:
            yield name[:_MAX_NAME]


def _times(suite: Element) -> Iterator[datetime]:
    """Yield start and end of a suite; a time without an offset is left out, not guessed."""
    try:
        start = datetime.fromisoformat(suite.get("timestamp", ""))
        seconds = float(suite.get("time", "0").replace(",", ""))
        if start.tzinfo is None:
            return
        end = start + timedelta(seconds=seconds)
        yield start.astimezone(UTC)
        yield end.astimezone(UTC)
    except (ValueError, OverflowError):
        return
