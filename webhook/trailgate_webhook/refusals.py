"""Denials on their way to the trail: added up by user, namespace, reason and minute.

Whoever is refused can try again as often as they like, so a denial never costs an
object of its own. The queue is bounded; what does not fit is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from trailgate.model.assessment import Assessment
from trailgate.model.reason import Reason

#: Different (user, namespace, reason, minute) that wait at one time.
LIMIT = 2_000
#: Rows in one batch: some 200 bytes each.
ROWS = 500


@dataclass(frozen=True, slots=True)
class RefusalKey:
    """What is added up."""

    username: str
    namespace: str
    reason: Reason
    minute: datetime
    """UTC, seconds and below zero."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """How often something was refused within one minute."""

    key: RefusalKey
    count: int


class Refusals:
    """The bounded queue."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._counts: dict[RefusalKey, int] = {}
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, assessment: Assessment) -> int:
        """Count one denial under its first denying reason; returns how many were dropped (0, 1)."""
        decision = assessment.decision
        found = decision.denying or decision.findings
        key = RefusalKey(
            assessment.request.caller.username,
            assessment.request.namespace,
            found[0].reason if found else Reason.INTERNAL,
            assessment.decided_at.replace(second=0, microsecond=0),
        )
        return self._count(key, 1)

    def take(self) -> tuple[tuple[Refusal, ...], int]:
        """Remove and return the oldest rows, and how many denials were dropped since."""
        rows = tuple(Refusal(key, count) for key, count in list(self._counts.items())[:ROWS])
        for row in rows:
            del self._counts[row.key]
        dropped, self._dropped = self._dropped, 0
        return rows, dropped

    def put_back(self, rows: Sequence[Refusal], dropped: int) -> None:
        """Return what could not be written; it waits again, before what came since."""
        self._dropped += dropped
        later = self._counts
        self._counts = {}
        self._restore((row.key, row.count) for row in rows)
        self._restore(later.items())

    def _restore(self, counts: Iterable[tuple[RefusalKey, int]]) -> None:
        for key, count in counts:
            self._count(key, count)

    def _count(self, key: RefusalKey, count: int) -> int:
        known = self._counts.get(key)
        if known is None and len(self._counts) >= self._limit:
            self._dropped += count
            return count
        self._counts[key] = (known or 0) + count
        return 0
