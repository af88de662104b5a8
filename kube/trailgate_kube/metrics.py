"""What both processes' metrics begin with: a registry of their own, the build, the process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest

import trailgate

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ProcessMetrics:
    """The series that every process has. One naming scheme: ``trailgate_``."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        build = Gauge("trailgate_build_info", "Constant 1.", ["version"], registry=self.registry)
        build.labels(trailgate.__version__).set(1)

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)
