"""Tests: of the commit that was built, run, and none failed.

https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from trailgate.model.decision import Check
from trailgate.model.evidence import Provenance, TestResult, TestVerdict
from trailgate.model.reason import Reason
from trailgate.policy import compiled
from trailgate.policy.failure import Failure, listed, short

# Clocks of two machines differ; a run that finished later than this lies.
_CLOCK_SKEW = timedelta(minutes=5)


def joined(results: Sequence[TestResult], provenance: Provenance) -> list[TestResult]:
    """Return the results that are about the provenance's commit, and those that speak against it.

    A failed one that names no commit is about this image, so it speaks against whatever
    commit it was built from; one that passed proves nothing without its commit.
    """
    return [
        result
        for result in results
        if result.commit == provenance.commit or (result.commit is None and _has_failed(result))
    ]


def check(
    results: Sequence[TestResult],
    wanted: compiled.Tests,
    provenance: Provenance,
    at: datetime | None,
) -> Failure | None:
    """Hold the results, all by trusted signers and at least one, against the requirement.

    One failed result of the commit, or of none, denies, whatever else passed.
    """
    same = joined(results, provenance)
    if not same:
        commits = listed(short(item.commit) if item.commit else "no commit" for item in results)
        return _failure(
            Reason.TESTS_OTHER_COMMIT,
            f"tests of {commits}",
            f"tests of {short(provenance.commit)}, the provenance's commit",
        )
    failing = [item for item in same if _has_failed(item)]
    if failing:
        return _failure(
            Reason.TESTS_FAILED, _count(failing), f"no failed test of {short(provenance.commit)}"
        )
    own = [item for item in same if item.repository in (None, provenance.repository)]
    if not own:
        repositories = listed(item.repository or "" for item in same)
        return _failure(
            Reason.EVIDENCE_MISMATCH,
            f"tests of repository {repositories}",
            f"tests of {provenance.repository}, as the provenance says",
        )
    return _enough(own, wanted, at)


def _enough(
    results: Sequence[TestResult], wanted: compiled.Tests, at: datetime | None
) -> Failure | None:
    executed = [item for item in results if item.run]
    if not executed:
        return _failure(Reason.TESTS_MISSING, "no executed test", "at least one executed test")
    fresh = [item for item in executed if _is_fresh(item, wanted.max_age, at)]
    if not fresh:
        ends = listed(
            item.finished_at.isoformat() if item.finished_at else "an unknown time"
            for item in executed
        )
        return _failure(
            Reason.TESTS_MISSING,
            f"tests that ended at {ends}",
            f"tests that ended within {wanted.max_age} of this change",
        )
    ran = {suite for item in fresh for suite in item.suites}
    lacking = wanted.suites - ran
    if lacking:
        return _failure(
            Reason.TESTS_MISSING,
            f"suites {listed(ran)}" if ran else "no named suite",
            f"suites {listed(wanted.suites)}",
        )
    return None


def _is_fresh(result: TestResult, max_age: timedelta | None, at: datetime | None) -> bool:
    """Whether it is young enough; what cannot be measured is not."""
    if max_age is None:
        return True
    if at is None or result.finished_at is None:
        return False
    return -_CLOCK_SKEW <= at - result.finished_at <= max_age


def _has_failed(result: TestResult) -> bool:
    return result.verdict is TestVerdict.FAILED or bool(result.failed)


def _count(failing: Sequence[TestResult]) -> str:
    counts = [item.failed for item in failing if item.failed]
    return f"{max(counts)} failed" if counts else "a failed test result"


def _failure(reason: Reason, got: str, expected: str) -> Failure:
    return Failure(reason, got, expected, Check.TESTS)
