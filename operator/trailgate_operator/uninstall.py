"""Leave a cluster so that everything in it can be deployed again, and lose no evidence on the way.

In this order, each step bounded in time and safe to do again:

1. a Disarm, so that the operator takes the webhook configuration away and keeps it away;
2. the configuration gone: by the operator, else by us. Nothing is asked of the gate any more;
3. the gate stopped. It announces its end in the spool: with its keys, before they are deleted;
4. the spool drained by the operator;
5. the operator stopped: it would make its Secrets anew;
6. the Secrets deleted. Those that the spool needs to be read stay while anything is in it;
7. the Pod of ``helm test`` deleted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from trailgate.model.errors import TrailgateError
from trailgate_kube import owner
from trailgate_kube.api import Kube, Object
from trailgate_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
)
from trailgate_kube.resources import (
    ADMISSIONS,
    DISARMS,
    VALIDATING_WEBHOOKS,
    WORKLOADS,
)
from trailgate_kube.webhooks import CONFIGURATION
from trailgate_operator.certificates_state import AUTHORITY, SERVING
from trailgate_operator.keyring import GATE, LOG, RECORDER
from trailgate_operator.keyring_secret import SecretBox

DISARM = "trailgate-uninstall"
TEST = "trailgate-test"
"""The Pod of ``helm test``, left for people to read its log. No release owns it."""
WEBHOOK, OPERATOR = "trailgate-webhook", "trailgate-operator"
"""Deployments, and the accounts that their pods run as."""

_DISARMED_FOR = timedelta(hours=1)
"""An uninstall that was given up leaves the gate armed again after that."""
_ENOUGH = timedelta(minutes=15)
_PODS = next(one for one in WORKLOADS if one.plural == "pods")
_DEPLOYMENTS = next(one for one in WORKLOADS if one.plural == "deployments")


class UninstallError(TrailgateError):
    """The cluster can't be left yet: it would deploy nothing any more; says what to do."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that each step waits for others: together less than Helm waits, 5 minutes."""

    disarm: float = 30
    stop: float = 60
    drain: float = 60
    pause: float = 1.0


@dataclass(slots=True)
class Uninstall:
    """One run; ``say`` gets a line for everything that was done, and everything left."""

    kube: Kube
    namespace: str
    say: Callable[[str], None]
    waits: Waits = field(default_factory=Waits)
    monotonic: Callable[[], float] = time.monotonic

    async def run(self) -> None:
        """Do all of it.

        Raises ``UninstallError`` where the webhook configuration is still there, or
        ``KubeError`` where the API server doesn't answer: do it again.
        """
        await self._disarm()
        await self._remove_configuration()
        stopped = await self._stop(WEBHOOK)
        drained = await self._drain()
        await self._stop(OPERATOR)
        await self._delete_secrets(stopped=stopped, drained=drained)
        await self._delete_test()
        # Whatever stood in the way before: this is what must not be there.
        if await self._configuration() is not None:
            raise UninstallError(_STILL)
        self.say(
            f"left on purpose: Secret {LOG}, the volumes of ledger and checkpoint, and our kinds "
            "(CRDs); the manual says how to remove them"
        )

    async def _disarm(self) -> None:
        try:
            uid = await owner.uid_of_owner(self.kube)
            for _ in range(2):
                try:
                    await self.kube.create(DISARMS, _disarm(uid))
                except AlreadyExistsError:
                    if await self._disarm_lasts():
                        self.say(f"Disarm {DISARM} is there already")
                        return
                else:
                    self.say(f"made Disarm {DISARM}")
                    return
        except NotFoundError:
            self.say("made no Disarm: its kind is not there")
        except (ForbiddenError, InvalidError, ConflictError) as error:
            self.say(f"made no Disarm: {error}")

    async def _disarm_lasts(self) -> bool:
        """Whether the Disarm that is there lasts long enough; else it is deleted."""
        try:
            found = await self.kube.get(DISARMS, DISARM)
            until = datetime.fromisoformat(str(found.get("spec", {}).get("until")))
            if until - datetime.now(UTC) > _ENOUGH:
                return True
        except (ValueError, TypeError):  # no time, or one without an offset
            pass
        except NotFoundError:
            return False
        await _gone(self.kube.delete(DISARMS, DISARM))
        return False

    async def _remove_configuration(self) -> None:
        async def gone() -> bool:
            return await self._configuration() is None

        if await self._until(self.waits.disarm, gone):
            self.say(f"ValidatingWebhookConfiguration {CONFIGURATION} is gone")
            return
        try:
            await _gone(self.kube.delete(VALIDATING_WEBHOOKS, CONFIGURATION))
        except ForbiddenError as error:
            raise UninstallError(f"{_STILL} ({error})") from error
        self.say(
            f"deleted ValidatingWebhookConfiguration {CONFIGURATION}: the operator didn't "
            f"within {self.waits.disarm:.0f} s"
        )

    async def _configuration(self) -> Object | None:
        try:
            return await self.kube.get(VALIDATING_WEBHOOKS, CONFIGURATION)
        except NotFoundError:
            return None

    async def _stop(self, name: str) -> bool:
        """Scale a Deployment to nothing; True once none of its pods is left."""

        async def gone() -> bool:
            return not await self._pods(name)

        try:
            await self._scale_down(name)
            if await self._until(self.waits.stop, gone):
                self.say(f"Deployment {name} is stopped")
                return True
        except ForbiddenError as error:
            self.say(f"could not stop Deployment {name}: {error}")
            return False
        self.say(f"Deployment {name} still has pods after {self.waits.stop:.0f} s")
        return False

    async def _scale_down(self, name: str) -> None:
        try:
            found = await self.kube.get(_DEPLOYMENTS, name, self.namespace)
        except NotFoundError:
            return
        if found.get("spec", {}).get("replicas") == 0:
            return
        scale = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"replicas": 0},
        }
        await _gone(self.kube.replace(_DEPLOYMENTS, scale, self.namespace, subresource="scale"))

    async def _pods(self, account: str) -> list[Any]:
        """Return the pods that run as an account and haven't ended."""
        found, following = [], ""
        while True:
            page = await self.kube.page(_PODS, self.namespace, following=following)
            found += [
                pod
                for pod in page.items
                if pod.get("spec", {}).get("serviceAccountName") == account
                and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            ]
            following = page.following
            if not following:
                return found

    async def _drain(self) -> bool:
        """Wait until the operator has recorded everything; True where nothing is left."""
        if not await self._until(self.waits.drain, self._empty):
            self.say(f"Admissions are left in the spool after {self.waits.drain:.0f} s")
            return False
        self.say("the spool is empty")
        return True

    async def _empty(self) -> bool:
        try:
            return not (await self.kube.page(ADMISSIONS, self.namespace, limit=1)).items
        except NotFoundError:  # the kind is not there
            return True

    async def _delete_secrets(self, *, stopped: bool, drained: bool) -> None:
        needed = None
        if not stopped:
            needed = f"{WEBHOOK} may still write Admissions, which can't be read without them"
        elif not (drained and await self._empty()):
            needed = "Admissions are left, which can't be read without them"
        for name in (SERVING, AUTHORITY, GATE, RECORDER):
            if name in (GATE, RECORDER) and needed is not None:
                self.say(f"left Secret {name}: {needed}")
            else:
                await self._delete_secret(name)

    async def _delete_secret(self, name: str) -> None:
        box = SecretBox(self.kube, self.namespace)
        found = await box.get(name)
        if found is None:
            return
        if not found.ours:
            self.say(f"left Secret {name}: the operator did not make it")
            return
        try:
            await _gone(box.delete(found))
        except ForbiddenError as error:
            self.say(f"left Secret {name}: {error}")
        else:
            self.say(f"deleted Secret {name}")

    async def _delete_test(self) -> None:
        try:
            await self.kube.delete(_PODS, TEST, self.namespace)
        except (NotFoundError, ConflictError):
            return
        except ForbiddenError as error:
            self.say(f"left Pod {TEST}: {error}")
        else:
            self.say(f"deleted Pod {TEST}")

    async def _until(self, seconds: float, done: Callable[[], Awaitable[bool]]) -> bool:
        """Ask again and again; an API server that doesn't answer now may later."""
        deadline = self.monotonic() + seconds
        while True:
            try:
                if await done():
                    return True
            except ForbiddenError:
                raise
            except KubeError:
                if self.monotonic() >= deadline:
                    raise
            if self.monotonic() >= deadline:
                return False
            await asyncio.sleep(self.waits.pause)


_STILL = (
    f"ValidatingWebhookConfiguration {CONFIGURATION} is still there: without the gate the API "
    "server would refuse changes wherever a policy enforces; run: kubectl delete "
    f"validatingwebhookconfiguration {CONFIGURATION}"
)


def _disarm(owner_uid: str | None) -> dict[str, Any]:
    until = (datetime.now(UTC) + _DISARMED_FOR).strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata: dict[str, Any] = {"name": DISARM}
    if owner_uid is not None:
        metadata["ownerReferences"] = [owner.reference(owner_uid)]
    return {
        "apiVersion": DISARMS.api_version,
        "kind": DISARMS.kind,
        "metadata": metadata,
        "spec": {"reason": "helm uninstall", "until": until},
    }


async def _gone(deletion: Awaitable[Any]) -> None:
    """Await what may find that there is nothing any more, or something new in its place."""
    try:
        await deletion
    except (NotFoundError, ConflictError):
        return
