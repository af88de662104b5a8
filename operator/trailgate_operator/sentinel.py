"""The sentinel: shows that the control operates, by tests and heartbeats, and what changed unseen.

What it says goes through the recorder. That nobody watched while the operator was away is
told by the observer, which is away with it: one downtime is told once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import orjson

from trailgate.ledger.errors import LedgerUnavailableError
from trailgate.ledger.record import Context
from trailgate_kube.api import Kube
from trailgate_kube.errors import KubeError
from trailgate_kube.policies import Policies
from trailgate_kube.webhooks import Address
from trailgate_operator.loops import Routine, run_all
from trailgate_operator.metrics import Metrics
from trailgate_operator.register import Register
from trailgate_operator.sentinel_guards import EVERY, GuardParts, Guards
from trailgate_operator.sentinel_policies import ClaimParts, Unclaimed
from trailgate_operator.sentinel_pulse import Counts, Heart, PulseParts
from trailgate_operator.sentinel_tests import ControlTests, TestParts, Timer
from trailgate_operator.trail import Tell

_STATE: Final = b'"kind":"control-state"'
_ARMED: Final = ("armed", "put-back")
_LAST: Final = 3.0
"""Seconds for the last heartbeat, at the end."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the sentinel works with."""

    kube: Kube
    policies: Policies
    address: Address
    armed: Callable[[], bool | None]
    spooled: Callable[[], int | None]
    """Batches in the spool at the recorder's last look."""
    entries: Callable[[], int]
    """In the ledger."""
    observed: Callable[[], Counts | None]
    register: Register
    guards: Register
    recorded: Callable[[], datetime | None]
    """Since when the ledger has everything that was in the spool."""
    tell: Tell
    context: Context
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often."""

    tests: Timer = field(default_factory=Timer)
    heartbeat: float = 300.0
    """Seconds."""


def _now() -> datetime:
    return datetime.now(UTC)


class Sentinel:
    """The loop."""

    name = "sentinel"

    def __init__(
        self,
        parts: Parts,
        rhythm: Rhythm,
        *,
        clock: Callable[[], datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tests = ControlTests(
            TestParts(
                kube=parts.kube, policies=parts.policies, armed=parts.armed, tell=parts.tell,
                context=parts.context, metrics=parts.metrics.sentinel,
            ),
            rhythm.tests, clock=clock, monotonic=monotonic,
        )  # fmt: skip
        self._heart = Heart(
            PulseParts(
                reader=parts.kube, address=parts.address, policies=parts.policies,
                armed=parts.armed, spooled=parts.spooled, entries=parts.entries,
                observed=parts.observed, tell=parts.tell, context=parts.context,
                metrics=parts.metrics.sentinel,
            ),
            rhythm.heartbeat, clock=clock,
        )  # fmt: skip
        self._noting = (parts.register.note, parts.guards.note)
        self._guards = Guards(
            GuardParts(parts.kube, parts.guards, parts.tell, parts.context), clock=clock
        )
        self._unclaimed = Unclaimed(
            ClaimParts(parts.kube, parts.register, parts.recorded, parts.tell, parts.context),
            clock=clock,
        )
        self._testing = Routine(self.name, self._tests.look, parts.metrics.loops)
        self._beating = Routine("heartbeat", self._heart.look, parts.metrics.loops)
        self._routines = (
            self._testing,
            self._beating,
            Routine("policy-changes", self._unclaimed.look, parts.metrics.loops),
            Routine("guards", self._guards.look, parts.metrics.loops, every=EVERY),
        )

    def wake(self) -> None:
        """Something may have changed, or it may be time."""
        for one in self._routines:
            one.wake()

    def problem(self) -> str | None:
        """See ``Loop.problem``. A test that didn't pass is none: ``note`` has it."""
        return next((told for one in self._routines if (told := one.problem())), None)

    def note(self) -> str | None:
        """Say which control test did not pass."""
        return self._tests.note()

    def appended(self, _index: int, record: bytes) -> None:
        """Take note of a new entry of the ledger: after each arming it is tested."""
        for note in self._noting:
            note(record)
        if _STATE not in record:
            return
        told = orjson.loads(record)
        if told["kind"] == "control-state" and told["subject"] == "webhook-configuration":
            if told["state"] in _ARMED:
                self._tests.renew()
            self._testing.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """See ``Loop.run``. At the end the last heartbeat tells until when it was there."""
        await run_all(self._routines, stop)
        with contextlib.suppress(KubeError, LedgerUnavailableError, TimeoutError):
            async with asyncio.timeout(_LAST):
                await self._heart.beat()
