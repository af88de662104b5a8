"""Says of each DeployPolicy whether the gate can use it: its status, and nothing else of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from trailgate.model.errors import MalformedError
from trailgate.policy.parse import parse_policy
from trailgate_kube import logs
from trailgate_kube.api import Kube, Object
from trailgate_kube.conditions import Condition, status_with
from trailgate_kube.errors import ConflictError, NotFoundError
from trailgate_kube.policies import Policies
from trailgate_kube.resources import DEPLOY_POLICIES
from trailgate_operator.loops import Follower, Routine, WaitingError, run_all
from trailgate_operator.metrics import Metrics

SILENCE = 300.0
"""Seconds; the API server ends each watch before, and that is heard, too."""


def ready(item: Object) -> Condition:
    """Judge a policy as the gate does: by the same parser."""
    try:
        policy = parse_policy(item)
    except MalformedError as error:
        text = f"The gate goes by its last good form, if there is one.\n{error}"
        return Condition("Ready", "Unreadable", text, status=False)
    text = f"The gate uses it as it is written, in mode {policy.mode.value}."
    return Condition("Ready", "InUse", text, status=True)


def _now() -> datetime:
    return datetime.now(UTC)


class PolicyStatus:
    """The loop. It also keeps ``policies`` current, for itself and for arming."""

    name = "policies"

    def __init__(
        self,
        kube: Kube,
        policies: Policies,
        metrics: Metrics,
        *,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._kube, self._policies, self._clock = kube, policies, clock
        self._routine = Routine(self.name, self.look, metrics.loops)

    def wake(self) -> None:
        """Look at the policies again soon."""
        self._routine.wake()

    def problem(self) -> str | None:
        """See ``Loop.problem``."""
        return self._routine.problem()

    async def run(self, stop: asyncio.Event) -> None:
        """See ``Loop.run``."""
        await run_all([self._routine, Follower("policies", self._policies.run)], stop)

    async def look(self) -> None:
        """One pass: write the statuses that aren't what they should be.

        ``WaitingError`` where the watch is silent: arming would miss a policy that enforces.
        """
        if not self._policies.read:
            raise WaitingError("the policies have not been read yet")
        now = self._clock()
        for item in self._policies.objects.values():
            status = status_with(item, (ready(item),), now)
            if status != item.get("status"):
                await self._write(item | {"status": status})
        # What is there is judged all the same; what came since is seen by nobody.
        if (silence := self._policies.silence) > SILENCE:
            raise WaitingError(f"heard nothing of policies for {silence:.0f} s: the watch is dead")

    async def _write(self, item: Object) -> None:
        try:
            await self._kube.replace(DEPLOY_POLICIES, item, subresource="status")
        except (ConflictError, NotFoundError) as error:  # it changed: its event wakes us
            logs.write(logging.INFO, "a policy's status was not written", detail=str(error))
