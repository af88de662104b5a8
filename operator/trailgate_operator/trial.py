"""``helm test``: what a policy refuses is refused, and what it lets in comes in, by dry run.

Asked as anybody who deploys asks, so the whole way is tried: the API server, its webhook
configuration, the network, the certificate, the gate, the policy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trailgate.model.errors import TrailgateError
from trailgate_kube.errors import ForbiddenError, KubeError
from trailgate_kube.resources import WORKLOADS

REFUSED = "trailgate.invalid/test:refused"
"""By tag, and of a registry that no policy names: refused before anybody is asked for it."""
_DENIAL = "trailgate: Pod "
"""How the gate's own denials begin: RBAC and other plugins say something else."""
_PODS = next(one for one in WORKLOADS if one.plural == "pods")


class TrialError(TrailgateError):
    """The gate did not refuse, or did not let in; says which, and what came instead."""


class Raw(Protocol):
    """One request to the API server (``KubeClient``)."""

    async def raw(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """Send it; raises ``KubeError``."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """Tries both in a namespace that a policy enforces, until each came out as it must."""

    kube: Raw
    namespace: str
    admitted: str
    """An image that the policy lets in."""
    seconds: float = 120
    """A new policy takes a moment to reach the gate and the webhook configuration."""
    pause: float = 2
    monotonic: Callable[[], float] = time.monotonic

    async def run(self) -> str:
        """Return what was seen; raises ``TrialError``."""
        denial = await self._until(self._refusal)
        await self._until(self._admission)
        return f"refused:  {REFUSED}\n{denial}\n\nadmitted: {self.admitted}"

    async def _refusal(self) -> str:
        try:
            await self._try(REFUSED)
        except ForbiddenError as error:
            _, found, said = str(error).partition(_DENIAL)
            if found:
                return _DENIAL + said
            raise TrialError(f"got a refusal that isn't the gate's: {error}") from error
        except KubeError as error:
            raise TrialError(f"got no answer about {REFUSED}: {error}") from error
        raise TrialError(
            f"got a pod with {REFUSED} let in, expected a refusal: the gate isn't armed for "
            f"{self.namespace} (kubectl get validatingwebhookconfiguration trailgate)"
        )

    async def _admission(self) -> str:
        try:
            await self._try(self.admitted)
        except KubeError as error:
            raise TrialError(f"got {self.admitted} refused, expected it let in: {error}") from error
        return ""

    async def _try(self, image: str) -> None:
        container = {"name": "try", "image": image}
        body = {
            "apiVersion": _PODS.api_version,
            "kind": _PODS.kind,
            "metadata": {"generateName": "try-", "namespace": self.namespace},
            "spec": {"containers": [container], "automountServiceAccountToken": False},
        }
        await self.kube.raw("POST", _PODS.path(self.namespace), body, query={"dryRun": "All"})

    async def _until(self, attempt: Callable[[], Any]) -> str:
        deadline = self.monotonic() + self.seconds
        while True:
            try:
                return str(await attempt())
            except TrialError:
                if self.monotonic() >= deadline:
                    raise
            await asyncio.sleep(self.pause)
