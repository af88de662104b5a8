"""Keeps the policy that the control test asks about: ``trailgate-probe``.

It can't lie beside its kind's definition in an installation's files, so the operator makes
it, as it makes the webhook configuration; the same ClusterRole owns it and takes it away.
A further policy never turns a denial into a yes: it concerns its own namespace alone.
"""

from __future__ import annotations

import logging
from typing import Any

from trailgate.policy.compiled import DeployPolicy
from trailgate_kube import logs, owner
from trailgate_kube.api import Kube, Object
from trailgate_kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from trailgate_kube.policies import Policies
from trailgate_kube.resources import DEPLOY_POLICIES
from trailgate_operator.loops import WaitingError
from trailgate_operator.sentinel_probe import ADMITTED, PROBE

_LABELS = {"app.kubernetes.io/managed-by": "trailgate-operator"}


def body(owner_uid: str) -> dict[str, Any]:
    """Build it. ``owner_uid``: of the ClusterRole ``trailgate-arming``."""
    repository, _, digest = ADMITTED.partition("@")
    return {
        "apiVersion": DEPLOY_POLICIES.api_version,
        "kind": DEPLOY_POLICIES.kind,
        "metadata": {
            "name": PROBE,
            "labels": _LABELS,
            "ownerReferences": [owner.reference(owner_uid)],
        },
        "spec": {
            "mode": "Enforce",
            "namespaces": [PROBE],
            "thirdParty": [
                {
                    "image": repository,
                    "digests": [digest],
                    "owner": "trailgate-operator",
                    "reason": "what the control test must see admitted, by dry run only",
                    "expiry": "2999-12-31T00:00:00Z",
                }
            ],
        },
    }


class ProbePolicy:
    """Puts it there, and back."""

    def __init__(self, kube: Kube, policies: Policies) -> None:
        self._kube, self._policies = kube, policies

    async def keep(self) -> bool:
        """Make it what it should be; True where that took a change.

        ``WaitingError`` while it can't be known, or nothing would take it away again.
        """
        if not self._policies.read:
            raise WaitingError("the policies have not been read yet")
        found = self._policies.objects.get(PROBE)
        wanted = body(await self._owner())
        if found is not None and _same(found, wanted):
            return False
        try:
            await self._put(found, wanted)
        except (AlreadyExistsError, ConflictError, NotFoundError):
            return False  # the watch is behind: the next look sees it
        logs.write(logging.INFO, "the control test's policy was written", name=PROBE)
        return True

    async def _put(self, found: Object | None, wanted: Object) -> None:
        if found is None:
            await self._kube.create(DEPLOY_POLICIES, wanted)
            return
        metadata = found["metadata"]
        version = {name: metadata[name] for name in ("uid", "resourceVersion")}
        await self._kube.replace(
            DEPLOY_POLICIES, wanted | {"metadata": wanted["metadata"] | version}
        )

    async def _owner(self) -> str:
        uid = await owner.uid_of_owner(self._kube)
        if uid is None:
            raise WaitingError(f"there is no ClusterRole {owner.ROLE}, or it is being deleted")
        return uid

    def others(self) -> tuple[str, ...]:
        """Name the other policies for the probe's namespace: they may refuse what it lets in."""
        return tuple(one.name for one in self._policies.current if _covers(one))


def _covers(policy: DeployPolicy) -> bool:
    return policy.name != PROBE and policy.namespaces.match(PROBE)


def _same(found: Object, wanted: Object) -> bool:
    spec = {name: value for name, value in (found.get("spec") or {}).items() if value}
    owners = [one.get("uid") for one in found["metadata"].get("ownerReferences") or ()]
    mine = [one["uid"] for one in wanted["metadata"]["ownerReferences"]]
    return bool(spec == wanted["spec"] and owners == mine)
