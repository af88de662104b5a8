"""The cluster's DeployPolicies, parsed and current.

A policy that becomes unreadable keeps its last good form: a broken edit must
neither switch a policy off nor stop the cluster. It is in ``problems`` until it is
mended or deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from trailgate.model.errors import TrailgateError
from trailgate.policy.compiled import DeployPolicy
from trailgate.policy.parse import parse_policy
from trailgate_kube.api import Object, Reader
from trailgate_kube.mirror import Mirror
from trailgate_kube.resources import DEPLOY_POLICIES

_log = logging.getLogger(__name__)


class Policies:
    """The current set of policies. Run ``run()`` as a task; read ``current`` at any time."""

    def __init__(self, reader: Reader, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._mirror = Mirror(reader, DEPLOY_POLICIES, on_change=self._take)
        self._on_change = on_change
        self._parsed: dict[str, tuple[str, DeployPolicy | None, str | None]] = {}
        self._current: tuple[DeployPolicy, ...] = ()

    @property
    def current(self) -> tuple[DeployPolicy, ...]:
        """All policies that have a readable form, by name."""
        return self._current

    @property
    def problems(self) -> Mapping[str, str]:
        """Name of each policy whose present form can't be read, and why."""
        return {name: problem for name, (_, _, problem) in self._parsed.items() if problem}

    @property
    def objects(self) -> Mapping[str, Object]:
        """The objects themselves, by name, as they were last seen."""
        return self._mirror.objects

    @property
    def read(self) -> bool:
        """Whether the first whole list has been read."""
        return self._mirror.silence != float("inf")

    @property
    def silence(self) -> float:
        """Seconds since the API server last told us something."""
        return self._mirror.silence

    async def synced(self) -> None:
        """Wait until the first whole list has been read."""
        await self._mirror.synced()

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        await self._mirror.run()

    def task(self) -> asyncio.Task[None]:
        """Start ``run`` as a task of the running loop; cancel it to stop."""
        return asyncio.get_running_loop().create_task(self.run(), name="policies")

    def _take(self, objects: Mapping[str, Object]) -> None:
        self._parsed = {name: self._parse(name, item) for name, item in sorted(objects.items())}
        self._current = tuple(
            policy for _, policy, _ in self._parsed.values() if policy is not None
        )
        self._on_change()

    def _parse(self, name: str, item: Object) -> tuple[str, DeployPolicy | None, str | None]:
        metadata = item.get("metadata", {})
        mark = f"{metadata.get('uid')}/{metadata.get('generation')}"
        before = self._parsed.get(name)
        if before is not None and before[0] == mark:
            return before
        try:
            return mark, parse_policy(item), None
        except TrailgateError as error:
            _log.error("DeployPolicy %s can't be read, its last good form stays: %s", name, error)
            return mark, before[1] if before else None, str(error)
