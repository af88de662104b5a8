"""How long a review may take: the API server says so, and we stay under it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs

#: Seconds that the API server waits by default (admissionregistration v1).
DEFAULT_TIMEOUT = 10.0
MAX_TIMEOUT = 30.0
#: Part of the API server's time-out that we use; the rest is network and its own queue.
SHARE = 0.8
#: Part of the time for deciding that fetching may take.
EVIDENCE_SHARE = 5 / 6
#: Seconds kept back for the spool's write, at most.
SPOOL_BUDGET = 2.0

_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)(ms|s)")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, and how the time until then is shared out."""

    at: float
    """``time.monotonic()`` seconds."""
    spool: float
    """Seconds of it that belong to the spool's write."""

    @classmethod
    def of_query(cls, query: bytes) -> Deadline:
        """Start now, with the ``timeout`` that the API server put into the query string."""
        seconds = seconds_of(query) * SHARE
        return cls(time.monotonic() + seconds, min(SPOOL_BUDGET, seconds / 4))

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def for_assessment(self) -> float:
        """Seconds left for deciding."""
        return max(0.0, self.remaining() - self.spool)

    def for_evidence(self) -> float:
        """Seconds left for fetching: less, so that what is missing is named image by image."""
        return self.for_assessment() * EVIDENCE_SHARE

    def for_spool(self) -> float:
        """Seconds left for writing ahead."""
        return min(self.spool, self.remaining())


@lru_cache(maxsize=64)
def seconds_of(query: bytes) -> float:
    """Read ``timeout=10s`` (the API server's form); anything else is the default."""
    values = parse_qs(query.decode("ascii", "replace")).get("timeout", [])
    match = _DURATION.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return DEFAULT_TIMEOUT
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1)
    return min(seconds, MAX_TIMEOUT) or DEFAULT_TIMEOUT
