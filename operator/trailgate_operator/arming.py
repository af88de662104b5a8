"""Arming: keeps the webhook configuration what it has to be, and says so in the trail.

Taking the control away is told before it is done, giving it back after: whatever kills
this process in between, the trail never says "armed" of a cluster that isn't. Each
state is told under a key of its own, so that after a restart what may be missing is
told again, and stands in the trail once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from trailgate.ledger.record import Context, ControlState
from trailgate_kube import logs
from trailgate_kube.api import Kube, Object
from trailgate_kube.disarms import Disarm
from trailgate_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    KubeError,
    NotFoundError,
    UnavailableError,
)
from trailgate_kube.mirror import Mirror
from trailgate_kube.policies import Policies
from trailgate_kube.resources import CLUSTER_ROLES, DISARMS, VALIDATING_WEBHOOKS
from trailgate_kube.webhooks import ARMING_ROLE, CONFIGURATION, FailClosed, bundle_of
from trailgate_operator.arming_overlap import AsksGate
from trailgate_operator.arming_plan import (
    Ask,
    Create,
    Found,
    Observed,
    Remove,
    Replace,
    Settings,
    Stay,
    Step,
    digest_of,
    fail_closed,
    in_order,
    metadata_of,
    plan,
)
from trailgate_operator.arming_trail import Seen, Words
from trailgate_operator.disarming import Disarms, Standing
from trailgate_operator.loops import Follower, Routine, WaitingError, run_all
from trailgate_operator.metrics import Metrics
from trailgate_operator.trail import Tell

_STEPS = 4
"""More in one pass, and something else writes as fast as we do: rest, then go on."""


class Authorities(Protocol):
    """Whom the gate's certificate is from."""

    def bundle(self) -> bytes | None:
        """Return the authorities, PEM, those of a rotation's overlap included; None: none yet."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What arming works with."""

    kube: Kube
    policies: Policies
    authorities: Authorities
    gate: AsksGate
    tell: Tell
    context: Context
    metrics: Metrics
    republished: Callable[[], None] = lambda: None
    """Called when the authorities of the stored configuration have changed."""
    prove: Callable[[], Awaitable[None]] | None = None
    """Asks a gate whether the newest authorities are enough, where older ones are kept, too."""
    disarmed: Sequence[Disarm] = ()
    """The Disarms that the ledger says are in effect."""


def _now() -> datetime:
    return datetime.now(UTC)


class Arming:
    """The loop. ``wake`` it when policies or authorities may have changed."""

    name = "arming"

    def __init__(
        self, parts: Parts, settings: Settings, *, clock: Callable[[], datetime] = _now
    ) -> None:
        self._kube, self._parts, self._settings = parts.kube, parts, settings
        self._words = Words(parts.context, clock)
        self._disarms = Disarms(parts.kube, self._words, clock, parts.disarmed)
        self._routine = Routine(self.name, self.look, parts.metrics.loops)
        self._last: Seen | None = None
        """The state that the trail was told last; None: none that this process knows of."""
        self._closed: FailClosed | None = None
        """What the configuration that we last saw in order failed closed."""
        self._wrote: tuple[Object, Object] = ({}, {})
        self._somebody = False
        """Whether somebody else changed or deleted what is to be put back."""
        self._note: str | None = None
        self._armed: bool | None = None
        self._until: datetime | None = None
        """When the Disarm that was last seen in effect ends."""
        self._published: bytes | KubeError | None = UnavailableError(
            "the webhook configuration has not been read yet", maybe_done=False
        )

    def wake(self) -> None:
        """Something may have changed."""
        self._routine.wake()

    def problem(self) -> str | None:
        """See ``Loop.problem``: being disarmed by a Disarm is none."""
        return self._routine.problem()

    def note(self) -> str | None:
        """Say whether it is armed."""
        return self._note

    def armed(self) -> bool | None:
        """Whether the configuration is there, as the operator makes it; None: not known now."""
        return self._armed

    def published(self) -> bytes | None:
        """Return the authorities (PEM) that the stored configuration trusts in all its entries.

        None where there is no configuration. Raises ``KubeError`` where that isn't known.
        """
        if isinstance(self._published, KubeError):
            raise self._published
        return self._published

    async def run(self, stop: asyncio.Event) -> None:
        """See ``Loop.run``."""
        watched = (
            ("disarms", Mirror(self._kube, DISARMS, on_change=self._woken)),
            (
                "configuration",
                Mirror(self._kube, VALIDATING_WEBHOOKS, name=CONFIGURATION, on_change=self._woken),
            ),
        )
        followers = [Follower(name, mirror.run) for name, mirror in watched]
        await run_all([self._routine, *followers], stop)

    def _woken(self, _objects: object) -> None:
        self.wake()

    async def look(self) -> float | None:
        """One pass; returns the seconds until a Disarm ends."""
        try:
            return await self._look()
        except KubeError as error:
            self._published, self._armed, self._note = error, None, None
            self._parts.metrics.armed(armed=False, until=self._until)
            raise

    async def _look(self) -> float | None:
        standing = await self._disarms.read()
        await self._parts.tell(self._disarms.news(standing))
        self._disarms.told(standing)
        try:
            await self._settle(standing)
        finally:
            await self._disarms.write_status(standing)
        return standing.next_end()

    async def _settle(self, standing: Standing) -> None:
        observed = await self._observe(standing)
        for _ in range(_STEPS):
            await self._notice(observed)
            step = plan(observed, self._settings)
            if isinstance(step, Ask):
                wrong = await self._parts.gate.problem(step.bundle)
                observed = replace(observed, answer=wrong or "")
                continue
            self._show(observed)
            if isinstance(step, Stay):
                if step.waiting:
                    raise WaitingError(step.waiting)
                return
            await self._do(step, observed)
            observed = await self._observe(standing)
        raise WaitingError("somebody else keeps changing the webhook configuration")

    async def _observe(self, standing: Standing) -> Observed:
        policies = self._parts.policies
        if not policies.read:
            raise WaitingError("the policies have not been read yet")
        broken = [policies.objects[name] for name in policies.problems]
        written, stored = self._wrote
        found = await self._found()
        if found is not None and self._parts.prove is not None:
            await self._parts.prove()
        observed = Observed(
            found=found,
            closed=fail_closed(policies.current, broken),
            disarm=standing.in_effect,
            bundle=self._parts.authorities.bundle(),
            written=written,
            stored=stored,
        )
        try:
            return replace(observed, owner=await self._owner())
        except KubeError:  # what became of the configuration is told all the same
            await self._notice(observed)
            raise

    async def _found(self) -> Found | None:
        try:
            found = Found(await self._kube.get(VALIDATING_WEBHOOKS, CONFIGURATION))
        except NotFoundError:
            self._publish(None)
            return None
        self._publish(found)
        return found

    def _publish(self, found: Found | None) -> None:
        before = self._published
        self._published = None if found is None else bundle_of(found.body)
        if self._published != before:
            self._parts.republished()

    async def _owner(self) -> str | None:
        try:
            role = await self._kube.get(CLUSTER_ROLES, ARMING_ROLE)
        except NotFoundError:
            return None
        metadata = role["metadata"]
        return None if metadata.get("deletionTimestamp") else str(metadata["uid"])

    async def _notice(self, observed: Observed) -> None:
        """Tell what the configuration became without us."""
        last, found = self._last, observed.found
        well = in_order(observed, self._settings)
        if found is None:
            await self._missed(last, disarmed=observed.disarm is not None)
        elif Seen.of(found) != last and (last is not None or well is not None):
            # After a restart: in order it is ours; if not, it may be ours too, and told.
            new = await self._parts.tell([self._words.found(Seen.of(found), last, in_order=well)])
            if new and not well:
                logs.write(logging.WARNING, "somebody changed the webhook configuration")
                self._somebody = True
            self._last = Seen.of(found)
        self._armed = found is not None and well
        if well:
            self._closed, self._somebody = observed.closed, False

    async def _missed(self, last: Seen | None, *, disarmed: bool) -> None:
        if last is not None:
            await self._parts.tell([self._words.gone(last)])
            logs.write(logging.WARNING, "somebody deleted the webhook configuration")
            self._last = None
        self._somebody = not disarmed and (self._somebody or last is not None)

    async def _do(self, step: Step, observed: Observed) -> None:
        try:
            match step:
                case Create():
                    await self._create(step, observed)
                case Replace():
                    await self._replace(step, observed)
                case Remove():
                    await self._remove(step)
        except (ConflictError, AlreadyExistsError, NotFoundError) as error:
            # Somebody was faster: what is there now is looked at again.
            logs.write(
                logging.INFO, "the webhook configuration changed meanwhile", detail=str(error)
            )

    async def _create(self, step: Create, observed: Observed) -> None:
        stored = Found(await self._kube.create(VALIDATING_WEBHOOKS, step.body))
        state = ControlState.PUT_BACK if self._somebody else ControlState.ARMED
        self._wrote_it(step.body, stored, observed.closed)
        await self._say(stored, state)

    async def _replace(self, step: Replace, observed: Observed) -> None:
        state = ControlState.PUT_BACK if self._drifted(step) else ControlState.ADJUSTED
        found = step.found
        same = digest_of(step.body) == found.digest
        if self._closed is None:  # what it was before isn't known: it may be narrower now
            taken = not same and state is ControlState.ADJUSTED
        else:
            taken = not same and observed.closed.narrower_than(self._closed)
        if taken:
            coming = Seen(found.uid, found.generation + 1, digest_of(step.body))
            await self._parts.tell([self._words.is_now(coming, state, found.digest)])
        version = {"uid": found.uid, "resourceVersion": found.version}
        body = step.body | {"metadata": step.body["metadata"] | version}
        stored = Found(await self._kube.replace(VALIDATING_WEBHOOKS, body))
        self._wrote_it(step.body, stored, observed.closed)
        await self._say(stored, state, f"{Seen.of(stored).key}/{stored.version}" if same else None)

    def _drifted(self, step: Replace) -> bool:
        mine = metadata_of(self._wrote[1]) if self._wrote[1] else None
        return self._somebody or (mine is not None and metadata_of(step.found.body) != mine)

    async def _remove(self, step: Remove) -> None:
        await self._parts.tell([self._words.removed(step)])
        found = step.found
        metadata = dict(found.body["metadata"])
        if metadata.pop("finalizers", None):  # else it would stay, and go on asking
            await self._kube.replace(VALIDATING_WEBHOOKS, found.body | {"metadata": metadata})
        await self._kube.delete(VALIDATING_WEBHOOKS, CONFIGURATION, uid=found.uid)
        logs.write(logging.WARNING, "disarmed", name=step.disarm.name, until=str(step.disarm.until))
        self._last = self._closed = None

    def _wrote_it(self, built: Object, stored: Found, closed: FailClosed) -> None:
        self._wrote, self._closed = (built, stored.body), closed

    async def _say(self, stored: Found, state: ControlState, key: str | None = None) -> None:
        """Tell what has just been done. Not told, it is noticed and told at the next look."""
        seen, last = Seen.of(stored), self._last
        logs.write(logging.INFO, "armed", state=state.value, digest=str(seen.digest))
        before = None if last is None else last.digest
        await self._parts.tell([self._words.is_now(seen, state, before, key)])
        self._last = seen

    def _show(self, observed: Observed) -> None:
        disarm = observed.disarm
        armed = observed.found is not None and disarm is None
        self._until = until = None if disarm is None else disarm.until
        self._parts.metrics.armed(armed=armed, until=until)
        if until is not None:
            self._note = f"disarmed until {until.isoformat()}"
        else:
            self._note = "armed" if armed else None
