"""What the gate counts. One naming scheme (``trailgate_``), no personal data, ever.

Label values come from closed lists, so that nobody who writes an object can grow
the number of series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from trailgate_kube.metrics import ProcessMetrics

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
_BUCKETS = (*_FAST, 1.0, 2.5, 5.0, 10.0)


class Metrics(ProcessMetrics):
    """All series of one gate, in a registry of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._admission()
        self._spool()
        self._state()
        self._cached: dict[tuple[str, str, str, str], Counter] = {}

    def _admission(self) -> None:
        registry = self.registry
        self.decisions = Counter(
            "trailgate_admission_decisions_total",
            "Answers given, by outcome, first reason code, class of change and policy mode.",
            ["outcome", "reason", "class", "mode"],
            registry=registry,
        )
        self.seconds = Histogram(
            "trailgate_admission_duration_seconds",
            "Time spent on a review, by stage.",
            ["stage"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.decode = self.seconds.labels("decode")
        self.assess = self.seconds.labels("assess")
        self.spool = self.seconds.labels("spool")
        self.total = self.seconds.labels("total")
        self.in_flight = Gauge(
            "trailgate_admission_in_flight", "Reviews being answered.", registry=registry
        )
        self.turned_away = Counter(
            "trailgate_admission_turned_away_total",
            "Requests not answered with a review, by cause.",
            ["cause"],
            registry=registry,
        )
        self.lost = Counter(
            "trailgate_admission_evidence_lost_total",
            "Changes let through in Audit or Warn whose evidence could not be kept: a gap.",
            registry=registry,
        )
        self.undecided = Counter(
            "trailgate_admission_reviews_undecided_total",
            "Reviews left to the API server's failure policy: a gap.",
            registry=registry,
        )

    def _spool(self) -> None:
        registry = self.registry
        self.batches = Counter(
            "trailgate_spool_batches_total",
            "Admission objects written, by kind.",
            ["kind"],
            registry=registry,
        )
        self.spooled = Counter(
            "trailgate_spool_claims_total", "Claims written ahead.", registry=registry
        )
        self.spool_errors = Counter(
            "trailgate_spool_errors_total",
            "Attempts to write that failed, by kind of failure.",
            ["kind"],
            registry=registry,
        )
        self.spool_queue = Gauge(
            "trailgate_spool_queue", "Claims waiting to be written.", registry=registry
        )
        self.spool_sequence = Gauge(
            "trailgate_spool_sequence", "Number of the last batch written.", registry=registry
        )
        self.refusals_queue = Gauge(
            "trailgate_refusals_queue", "Aggregated refusals waiting.", registry=registry
        )
        self.refusals_dropped = Counter(
            "trailgate_refusals_dropped_total",
            "Refusals that did not fit into the queue: they become a gap.",
            registry=registry,
        )

    def _state(self) -> None:
        registry = self.registry
        self.policies = Gauge("trailgate_policies", "Policies loaded.", registry=registry)
        self.policies_stale = Gauge(
            "trailgate_policies_stale",
            "1 while the policies' source is broken and the last good set is in force.",
            registry=registry,
        )
        self.policy_reloads = Counter(
            "trailgate_policies_reloads_total",
            "Attempts to load changed policies, by result.",
            ["result"],
            registry=registry,
        )
        self.certificate_expiry = Gauge(
            "trailgate_certificate_not_after_seconds",
            "When the serving certificate expires, Unix time.",
            registry=registry,
        )
        self.certificate_reloads = Counter(
            "trailgate_certificate_reloads_total",
            "Attempts to load a changed certificate, by result.",
            ["result"],
            registry=registry,
        )

    def decided(self, outcome: str, reason: str, change_class: str, mode: str) -> None:
        """Count one answer."""
        key = (outcome, reason, change_class, mode)
        counter = self._cached.get(key)
        if counter is None:
            counter = self._cached[key] = self.decisions.labels(*key)
        counter.inc()

    def read_from(self, statistics: Callable[[], Mapping[str, float]]) -> None:
        """Show another part's numbers: a key that ends in ``_total`` is a counter."""
        self.registry.register(_Borrowed(statistics))


class _Borrowed(Collector):
    """Numbers that another part keeps for itself, read when somebody asks."""

    def __init__(self, statistics: Callable[[], Mapping[str, float]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        for name, value in sorted(self._statistics().items()):
            text = name.removesuffix("_total").replace("_", " ").capitalize() + "."
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(f"trailgate_{name}", text, value=value)
