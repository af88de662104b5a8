"""Follows the Disarms: which is in effect, what their conditions say, what the trail is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from trailgate.ledger.record import DisarmState
from trailgate.model.errors import MalformedError
from trailgate_kube import logs
from trailgate_kube.api import Kube, Object
from trailgate_kube.conditions import status_with
from trailgate_kube.disarms import Disarm, State
from trailgate_kube.errors import ConflictError, NotFoundError
from trailgate_kube.resources import DISARMS
from trailgate_operator.arming_trail import Words
from trailgate_operator.trail import Statement

_REFUSED = (DisarmState.REFUSED,)
_FATE = {
    State.IN_EFFECT: (DisarmState.ACCEPTED,),
    State.EXPIRED: (DisarmState.EXPIRED,),
    State.TOO_LONG: _REFUSED,
    State.TOO_LATE: _REFUSED,
    State.UNREADABLE: _REFUSED,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """The Disarms at one moment."""

    now: datetime
    disarms: tuple[Disarm, ...]
    items: tuple[Object, ...]

    @property
    def active(self) -> list[Disarm]:
        """Those in effect."""
        return [one for one in self.disarms if one.state(self.now) is State.IN_EFFECT]

    @property
    def in_effect(self) -> Disarm | None:
        """Return the one that lasts longest; None: the gate is to be armed."""
        return max(self.active, key=lambda one: one.until or self.now, default=None)

    def next_end(self) -> float | None:
        """Return the seconds until the first of them expires; None where none is in effect."""
        ends = [one.until for one in self.active if one.until is not None]
        return max((min(ends) - self.now).total_seconds(), 0.05) if ends else None


class Disarms:
    """Reads them, tells what became of them, writes their status."""

    def __init__(
        self,
        kube: Kube,
        words: Words,
        clock: Callable[[], datetime],
        active: Iterable[Disarm] = (),
    ) -> None:
        """``active``: those that the trail says are in effect, from before this process."""
        self._kube, self._words, self._clock = kube, words, clock
        self._active = {one.uid: one for one in active}
        self._told: set[tuple[str, DisarmState]] = set()

    async def read(self) -> Standing:
        """Read all of them, fresh. Raises ``KubeError``."""
        items: list[Object] = []
        following = ""
        while True:
            page = await self._kube.page(DISARMS, following=following)
            items += page.items
            following = page.following
            if not following:
                break
        # One that is being deleted has ended, whatever finalizer keeps the object there.
        items = [item for item in items if not item["metadata"].get("deletionTimestamp")]
        return Standing(self._clock(), tuple(_readable(items)), tuple(items))

    def news(self, standing: Standing) -> list[Statement]:
        """Build what the trail doesn't know yet, as far as this process knows."""
        now = {one.uid: one for one in standing.disarms}
        told = [
            (one, state)
            for one in standing.disarms
            for state in _FATE[one.state(standing.now)]
            if (one.uid, state) not in self._told
        ]
        gone = [one for uid, one in self._active.items() if uid not in now]
        return [
            *(self._words.disarm(one, state) for one, state in told),
            *(self._words.disarm(one, _gone(one, standing.now)) for one in gone),
        ]

    def told(self, standing: Standing) -> None:
        """Take note that ``news`` is in the trail."""
        self._active = {one.uid: one for one in standing.active}
        self._told = {
            (one.uid, state) for one in standing.disarms for state in _FATE[one.state(standing.now)]
        }

    async def write_status(self, standing: Standing) -> None:
        """Write what changed of their conditions. Raises ``KubeError``."""
        for item in standing.items:
            try:
                conditions = Disarm.of(item).conditions(standing.now)
            except MalformedError:
                continue
            status = status_with(item, conditions, standing.now)
            if status != item.get("status"):
                await self._write(item | {"status": status})

    async def _write(self, item: Object) -> None:
        try:
            await self._kube.replace(DISARMS, item, subresource="status")
        except (ConflictError, NotFoundError) as error:  # seen again at the next look
            logs.write(logging.INFO, "a Disarm's status was not written", detail=str(error))


def _gone(one: Disarm, now: datetime) -> DisarmState:
    """Say why one that was in effect is there no more."""
    early = one.until is not None and now < one.until
    return DisarmState.DELETED if early else DisarmState.EXPIRED


def _readable(items: Iterable[Object]) -> Iterable[Disarm]:
    for item in items:
        try:
            yield Disarm.of(item)
        except MalformedError as error:
            logs.write(logging.ERROR, "a Disarm can't be read", detail=str(error))
