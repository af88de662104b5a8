"""Heartbeats: that the control was on, and what its parts count.

One claims the time since the one before, by this process and in this process's waking
hours; what was before its start, or while it was frozen, no heartbeat claims.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from trailgate.ledger.form import stamp
from trailgate.ledger.record import Context, Pulse, heartbeat
from trailgate.model.digest import Digest
from trailgate_kube.api import Reader
from trailgate_kube.errors import KubeError, NotFoundError
from trailgate_kube.policies import Policies
from trailgate_kube.resources import VALIDATING_WEBHOOKS, WORKLOADS
from trailgate_kube.webhooks import CONFIGURATION, Address
from trailgate_operator.arming_plan import Found
from trailgate_operator.sentinel_metrics import SentinelMetrics
from trailgate_operator.trail import Statement, Tell

_LOOK: Final = 30.0
_AWAKE: Final = timedelta(seconds=120)
"""Looking more rarely than this, it slept."""
_SECONDS: Final = 3.0
_DEPLOYMENTS = next(one for one in WORKLOADS if one.plural == "deployments")


class Counts(Protocol):
    """What the observer counts."""

    @property
    def workloads(self) -> int:
        """Root workloads that it watches."""
        ...

    @property
    def unexplained(self) -> int:
        """Those whose state no admission explains."""
        ...


@dataclass(frozen=True, slots=True)
class PulseParts:
    """Where a heartbeat's numbers come from."""

    reader: Reader
    address: Address
    """The gate's; without a Service nobody counts gates."""
    policies: Policies
    armed: Callable[[], bool | None]
    spooled: Callable[[], int | None]
    entries: Callable[[], int]
    observed: Callable[[], Counts | None]
    tell: Tell
    context: Context
    metrics: SentinelMetrics


class Heart:
    """Beats. ``look`` is one pass of a ``Routine``."""

    def __init__(self, parts: PulseParts, every: float, *, clock: Callable[[], datetime]) -> None:
        self._parts, self._clock = parts, clock
        self._every = timedelta(seconds=every)
        self._since = self._alive = clock()

    async def look(self) -> float | None:
        """One pass; returns the seconds until the next. ``LedgerUnavailableError``."""
        now = self._clock()
        if not self._since <= now <= self._alive + _AWAKE:
            self._since = now  # it slept, or the clock went back: nothing is claimed of that
        self._alive = now
        if now - self._since >= self._every:
            await self.beat()
        rest = self._since + self._every - self._clock()
        return max(0.0, min(rest.total_seconds(), _LOOK))

    async def beat(self) -> None:
        """Record one now. ``LedgerUnavailableError``."""
        armed, digest = await self._configuration()
        gates = await self._gates()
        policies = self._parts.policies
        seen = self._parts.observed()
        until = self._clock()
        pulse = Pulse(
            armed=armed,
            configuration=digest,
            gates=gates,
            policies=len(policies.objects) - len(policies.problems) if policies.read else None,
            spool=self._parts.spooled(),
            entries=self._parts.entries(),
            workloads=None if seen is None else seen.workloads,
            unexplained=None if seen is None else seen.unexplained,
        )
        claim = heartbeat(self._parts.context, until, pulse, since=self._since, until=until)
        await self._parts.tell([Statement(f"heartbeat/{stamp(until)}", claim)])
        self._since = until
        self._parts.metrics.beat(until)

    async def _configuration(self) -> tuple[bool | None, Digest | None]:
        try:
            found = Found(
                await self._parts.reader.get(VALIDATING_WEBHOOKS, CONFIGURATION, seconds=_SECONDS)
            )
        except NotFoundError:
            return False, None
        except KubeError:
            return None, None
        return self._parts.armed(), found.digest

    async def _gates(self) -> int | None:
        address = self._parts.address
        if address.url is not None:
            return None
        try:
            found = await self._parts.reader.get(
                _DEPLOYMENTS, address.name, address.namespace, seconds=_SECONDS
            )
        except KubeError:
            return None
        return int((found.get("status") or {}).get("readyReplicas") or 0)
