"""What is measured of the control's own tests and heartbeats."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from trailgate.ledger.record import ControlTest, TestOutcome


class SentinelMetrics:
    """How often the control was tested, and when it was last seen to hold."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._tests = Counter(
            "trailgate_operator_control_tests",
            "Control tests, by what was asked and whether the answer was right.",
            ["test", "outcome"],
            registry=registry,
        )
        self._passed = Gauge(
            "trailgate_operator_control_test_passed_seconds",
            "When a control test passed last, Unix time; 0: not since the start.",
            ["test"],
            registry=registry,
        )
        self._beat = Gauge(
            "trailgate_operator_heartbeat_seconds",
            "When a heartbeat was recorded last, Unix time; 0: not since the start.",
            registry=registry,
        )
        for test in ControlTest:  # there from the start: an alert must not wait for the first one
            self._passed.labels(test=test.value)
            for outcome in TestOutcome:
                self._tests.labels(test=test.value, outcome=outcome.value)

    def tested(self, test: ControlTest, outcome: TestOutcome, at: datetime) -> None:
        """Take note of an answer."""
        self._tests.labels(test=test.value, outcome=outcome.value).inc()
        if outcome is TestOutcome.PASSED:
            self._passed.labels(test=test.value).set(at.timestamp())

    def beat(self, at: datetime) -> None:
        """Take note of a heartbeat that is in the ledger."""
        self._beat.set(at.timestamp())
