"""The operator's metrics: one naming scheme, no personal data in any label."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from trailgate.ledger.store import Entry
from trailgate_kube.metrics import ProcessMetrics
from trailgate_operator.certificates_metrics import CertificateMetrics
from trailgate_operator.sentinel_metrics import SentinelMetrics


class LoopMetrics:
    """How the loops beside the recorder are doing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failures = Counter(
            "trailgate_loop_failures",
            "Passes of a loop that ended early, by cause.",
            ["loop", "cause"],
            registry=registry,
        )
        self._stuck = Gauge(
            "trailgate_loop_stuck",
            "1 while a loop's passes fail.",
            ["loop"],
            registry=registry,
        )

    def failed(self, loop: str, error: BaseException) -> None:
        """Take note of a pass that ended early."""
        self._failures.labels(loop=loop, cause=type(error).__name__).inc()
        self._stuck.labels(loop=loop).set(1)

    def went_well(self, loop: str) -> None:
        """Take note of a pass that did what it is for."""
        self._stuck.labels(loop=loop).set(0)


class Metrics(ProcessMetrics):
    """All series of the operator, in a registry of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.loops = LoopMetrics(self.registry)
        self.certificates = CertificateMetrics(self.registry)
        self.sentinel = SentinelMetrics(self.registry)
        self._control(self.registry)
        self._spool(self.registry)
        self._ledger(self.registry)

    def _control(self, registry: CollectorRegistry) -> None:
        self._armed = Gauge(
            "trailgate_armed",
            "1 while the webhook configuration is there.",
            registry=registry,
        )
        self._disarmed_until = Gauge(
            "trailgate_disarmed_until_seconds",
            "End of the Disarm in effect, Unix time; 0: none is.",
            registry=registry,
        )

    def armed(self, *, armed: bool, until: datetime | None) -> None:
        """Take note of whether the API server asks the gate."""
        self._armed.set(armed)
        self._disarmed_until.set(0 if until is None else until.timestamp())

    def _spool(self, registry: CollectorRegistry) -> None:
        self.batches = Counter(
            "trailgate_recorder_batches", "Admissions recorded and deleted.", registry=registry
        )
        self.waiting = Gauge(
            "trailgate_recorder_waiting", "Admissions in the spool at the last look.",
            registry=registry,
        )  # fmt: skip
        self.oldest = Gauge(
            "trailgate_recorder_oldest_seconds",
            "Age of the oldest Admission in the spool at the last look.",
            registry=registry,
        )
        self.unreadable = Gauge(
            "trailgate_recorder_unreadable",
            "Admissions left in the spool because they don't verify.",
            registry=registry,
        )
        self.failures = Counter(
            "trailgate_recorder_failures",
            "Passes that ended early, by cause.",
            ["cause"],
            registry=registry,
        )
        self.stuck = Gauge(
            "trailgate_recorder_stuck",
            "1 while passes fail: what is admitted waits in the spool.",
            registry=registry,
        )

    def _ledger(self, registry: CollectorRegistry) -> None:
        self.entries = Counter(
            "trailgate_recorder_entries",
            "Ledger entries appended, by kind.",
            ["kind"],
            registry=registry,
        )
        self.size = Gauge(
            "trailgate_ledger_size", "Entries in the ledger.", registry=registry
        )  # fmt: skip
        self.append_seconds = Histogram(
            "trailgate_ledger_append_seconds",
            "Time of one durable append.",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=registry,
        )

    def looked(self, waiting: int, oldest: str, left: int, now: datetime) -> None:
        """Take note of a look at the spool; ``oldest`` is an RFC 3339 time, or no time."""
        self.waiting.set(waiting)
        self.unreadable.set(left)
        try:
            age = (now - datetime.fromisoformat(oldest)).total_seconds()
        except (ValueError, TypeError):
            age = 0.0
        self.oldest.set(max(age, 0.0))

    def appended(self, entries: Sequence[Entry], size: int, seconds: float) -> None:
        """Take note of one durable append and its new entries."""
        for entry in entries:
            self.entries.labels(kind=orjson.loads(entry.record)["kind"]).inc()
        self.size.set(size)
        self.append_seconds.observe(seconds)
