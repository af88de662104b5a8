"""Caps the spool by a ResourceQuota, made only once the quota controller knows the kind.

A quota on a kind that the controller hasn't found yet is never counted until its next
resync, minutes later; until then the API server refuses every write to the spool, and with
it every enforced change. So it can't lie beside the definition in an installation's files.
Kubernetes: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from trailgate_kube import logs, owner
from trailgate_kube.api import Kube, Object
from trailgate_kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from trailgate_kube.resources import (
    ADMISSIONS,
    CUSTOM_RESOURCES,
    RESOURCE_QUOTAS,
)
from trailgate_operator.loops import Routine, WaitingError
from trailgate_operator.metrics import Metrics

QUOTA = "trailgate-spool"
DEFINITION = f"{ADMISSIONS.plural}.{ADMISSIONS.group}"
COUNTED = f"count/{DEFINITION}"
KNOWN_AFTER = timedelta(seconds=60)
"""The controller looks for new kinds every 30 s, and begins to count some seconds later."""
_EVERY = 15.0


def _now() -> datetime:
    return datetime.now(UTC)


class SpoolCap:
    """The loop."""

    name = "spool-cap"

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        most: int,
        metrics: Metrics,
        *,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._kube, self._namespace, self._most, self._clock = kube, namespace, most, clock
        self._routine = Routine(self.name, self.look, metrics.loops, every=_EVERY)

    def problem(self) -> str | None:
        """See ``Loop.problem``."""
        return self._routine.problem()

    async def run(self, stop: asyncio.Event) -> None:
        """See ``Loop.run``."""
        await self._routine.run(stop)

    async def look(self) -> None:
        """One pass: take the one step that is due. ``KubeError``, ``WaitingError``."""
        if not self._older(await self._established()):
            return
        try:
            quota = await self._kube.get(RESOURCE_QUOTAS, QUOTA, self._namespace)
        except NotFoundError:
            await self._make()
            return
        try:
            if quota.get("spec") != self._spec:
                await self._kube.replace(
                    RESOURCE_QUOTAS, {**quota, "spec": self._spec}, self._namespace
                )
            elif not _counts(quota) and self._older(quota["metadata"]["creationTimestamp"]):
                await self._delete(quota)
        except (ConflictError, NotFoundError):  # somebody was faster; the next pass sees it
            return

    async def _delete(self, quota: Object) -> None:
        """Delete one that came too early: uncounted, it refuses every write."""
        logs.write(logging.WARNING, "the spool's quota isn't counted: made anew", quota=QUOTA)
        uid = quota["metadata"]["uid"]
        await self._kube.delete(RESOURCE_QUOTAS, QUOTA, self._namespace, uid=uid)

    @property
    def _spec(self) -> dict[str, Any]:
        return {"hard": {COUNTED: str(self._most)}}

    async def _established(self) -> str:
        try:
            definition = await self._kube.get(CUSTOM_RESOURCES, DEFINITION)
        except NotFoundError as error:
            raise WaitingError(f"the kind {DEFINITION} is not there yet") from error
        for condition in definition.get("status", {}).get("conditions", ()):
            if condition["type"] == "Established" and condition["status"] == "True":
                return str(condition["lastTransitionTime"])
        raise WaitingError(f"the kind {DEFINITION} is not established yet")

    def _older(self, moment: str) -> bool:
        return self._clock() - datetime.fromisoformat(moment) >= KNOWN_AFTER

    async def _make(self) -> None:
        uid = await owner.uid_of_owner(self._kube)
        if uid is None:
            raise WaitingError(f"there is no ClusterRole {owner.ROLE}, or it is being deleted")
        body = {
            "apiVersion": RESOURCE_QUOTAS.api_version,
            "kind": RESOURCE_QUOTAS.kind,
            "metadata": {
                "name": QUOTA,
                "labels": {"app.kubernetes.io/managed-by": "trailgate-operator"},
                "ownerReferences": [owner.reference(uid)],
            },
            "spec": self._spec,
        }
        try:
            await self._kube.create(RESOURCE_QUOTAS, body, self._namespace)
        except AlreadyExistsError:
            return
        logs.write(logging.INFO, "the spool is capped", quota=QUOTA, most=self._most)


def _counts(quota: Mapping[str, Any]) -> bool:
    return COUNTED in (quota.get("status", {}).get("used") or {})
