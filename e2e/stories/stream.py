"""A steady stream of good and bad deploys while something else happens, and its account."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.demo import manifests
from trailgate.ledger.admitted import state_id
from trailgate.model.canonical import fingerprint
from trailgate.model.errors import TrailgateError
from trailgate_kube.client import KubeClient
from trailgate_kube.errors import ConflictError, ForbiddenError, NotFoundError, UnavailableError
from trailgate_kube.resources import WORKLOADS

_DEPLOYMENTS = next(one for one in WORKLOADS if one.kind == "Deployment")
_PAUSE = 0.2
_DENIED = "denied the request"
_SECONDS = 15.0
"""For one request: more than the API server gives a webhook."""


@dataclass
class Account:
    """What came of the stream."""

    good: int = 0
    bad: int = 0
    admitted: set[str] = field(default_factory=set)
    """changeId of each good change that the API server said yes to."""
    unanswered: Counter[str] = field(default_factory=Counter)
    """Good ones whose answer was lost, by how: they may be in, or not."""
    errors: Counter[str] = field(default_factory=Counter)
    """Good ones that were turned away, by what was said."""
    refused: Counter[str] = field(default_factory=Counter)
    """Bad ones, by what was said."""
    entered: list[str] = field(default_factory=list)
    """Bad ones that got in."""
    slowest: float = 0.0
    """Seconds that a good one took that was admitted."""

    def __str__(self) -> str:
        failed = sum(self.errors.values())
        return (
            f"{self.good} good deploys: {len(self.admitted)} in, {failed} turned away, "
            f"{sum(self.unanswered.values())} without an answer, slowest {self.slowest:.2f} s; "
            f"{self.bad} bad ones: {len(self.entered)} in"
        )


@dataclass
class Stream:
    """Changes one good Deployment again and again, and tries to bring in a bad image."""

    kubeconfig: Path
    """Of the deployer, who may deploy: only the image is bad."""
    cluster: str
    """uid of kube-system."""
    good: Mapping[str, Any]
    bad_image: str
    account: Account = field(default_factory=Account)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def flowing(self) -> Iterator[Account]:
        """Run beside the block; it has run for at least a round when the block begins."""
        failure: list[BaseException] = []
        began = threading.Event()

        def run() -> None:
            try:
                asyncio.run(self._run(began))
            except BaseException as error:  # noqa: BLE001 - told to the story, below
                failure.append(error)
                began.set()

        thread = threading.Thread(target=run, name="stream")
        thread.start()
        try:
            began.wait()
            yield self.account
        finally:
            self._over.set()
            thread.join()
        if failure:
            raise failure[0]

    async def _run(self, began: threading.Event) -> None:
        async with await KubeClient.open(self.kubeconfig, seconds=_SECONDS) as kube:
            number = 0
            while not self._over.is_set():
                number += 1
                await self._good(kube, number)
                await self._bad(kube, number)
                began.set()
                await asyncio.sleep(_PAUSE)

    async def _good(self, kube: KubeClient, number: int) -> None:
        account = self.account
        account.good += 1
        started = time.monotonic()
        try:
            stored = await self._change(kube, number)
        except UnavailableError as error:
            # The gate's own 503 is an answer.
            lost = error.maybe_done and _DENIED not in str(error)
            (account.unanswered if lost else account.errors)[_short(error)] += 1
            return
        except TrailgateError as error:
            account.errors[_short(error)] += 1
            return
        account.slowest = max(account.slowest, time.monotonic() - started)
        meta = stored["metadata"]
        digest = fingerprint(stored["spec"])
        account.admitted.add(str(state_id(self.cluster, meta["uid"], meta["generation"], digest)))

    async def _change(self, kube: KubeClient, number: int) -> dict[str, Any]:
        """Make the Deployment, or change one environment variable of it."""
        name = self.good["metadata"]["name"]
        if number == 1:
            with contextlib.suppress(NotFoundError):  # an earlier story's, of another image
                await kube.delete(_DEPLOYMENTS, name, manifests.SHOP)
            return await kube.create(_DEPLOYMENTS, self.good, manifests.SHOP)
        while True:
            changed = await kube.get(_DEPLOYMENTS, name, manifests.SHOP)
            (container,) = changed["spec"]["template"]["spec"]["containers"]
            container["env"] = [{"name": "NUMBER", "value": f"{time.time_ns()}"}]
            changed.pop("status", None)
            try:
                return await kube.replace(_DEPLOYMENTS, changed, manifests.SHOP)
            except ConflictError:  # its controller wrote the status in between, as any client meets
                continue

    async def _bad(self, kube: KubeClient, number: int) -> None:
        account = self.account
        account.bad += 1
        name = f"bad-{number}"
        made = manifests.deployment(self.bad_image, name=name, replicas=0)
        try:
            await kube.create(_DEPLOYMENTS, made, manifests.SHOP)
        except ForbiddenError as error:
            account.refused[_code(str(error))] += 1
        except UnavailableError as error:
            if error.maybe_done:
                await self._look(kube, name)
            account.refused[_short(error)] += 1
        except TrailgateError as error:
            account.refused[_short(error)] += 1
        else:
            account.entered.append(name)

    async def _look(self, kube: KubeClient, name: str) -> None:
        """Find out whether a bad one got in although its answer was lost."""
        while True:
            try:
                await kube.get(_DEPLOYMENTS, name, manifests.SHOP)
            except UnavailableError:
                await asyncio.sleep(_PAUSE)
            except TrailgateError:
                return
            else:
                self.account.entered.append(name)
                return


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _code(text: str) -> str:
    return next((word.strip(",.:") for word in text.split() if "Missing" in word), text[:160])
