"""What is measured of the webhook's certificates."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge


class CertificateMetrics:
    """When they end, and what was done about it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ends = Gauge(
            "trailgate_issued_certificate_not_after_seconds",
            "Expiry of the certificates that the operator issued, Unix time.",
            ["certificate"],
            registry=registry,
        )
        self._steps = Counter(
            "trailgate_certificate_steps",
            "Steps taken to make, renew and rotate certificates.",
            ["step"],
            registry=registry,
        )

    def ends(self, certificate: str, at: datetime | None) -> None:
        """Take note of when the ``leaf`` or the ``authority`` ends; 0 where there is none."""
        self._ends.labels(certificate=certificate).set(0 if at is None else at.timestamp())

    def took(self, step: str) -> None:
        """Take note of a step."""
        self._steps.labels(step=step).inc()
