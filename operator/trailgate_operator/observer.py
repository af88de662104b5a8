"""The observer: watches workloads, joins them with admissions, and tells what became of each.

It reads, and writes nothing to anybody's objects. What it says goes through the
recorder, under keys that make saying it again harmless: so it may be killed at any
point, and after a restart begins with what the ledger has and what is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from trailgate.ledger.record import Context
from trailgate.model.admission import Kind
from trailgate.model.errors import TrailgateError
from trailgate_kube import logs
from trailgate_kube.api import Reader
from trailgate_kube.resources import WORKLOADS
from trailgate_operator.loops import Follower, Routine, WaitingError, run_all
from trailgate_operator.metrics import LoopMetrics
from trailgate_operator.observer_join import Counts, Join
from trailgate_operator.observer_past import Past, admitted
from trailgate_operator.observer_seen import Seen, seen
from trailgate_operator.observer_track import Moment, Rules
from trailgate_operator.observer_watch import Watcher
from trailgate_operator.trail import Tell

_CLAIM = b'"kind":"admitted"'
_CONTROL = b'"kind":"control-state"'
_EVERY = 30.0
_SOON = 5.0
"""Seconds until it looks again while something waits for its time."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the observer works with."""

    kube: Reader
    tell: Tell
    context: Context
    metrics: LoopMetrics
    past: Past
    recorded: Callable[[], datetime | None]
    """Since when the ledger has everything that was in the spool (``Recorder.emptied``)."""
    armed: Callable[[], bool | None]
    """Whether the gate is armed, as far as known."""
    excluded: frozenset[str] = frozenset()
    """Namespaces that the gate isn't asked about."""


def _now() -> datetime:
    return datetime.now(UTC)


class Observer:
    """The loop."""

    name = "observer"

    def __init__(
        self,
        parts: Parts,
        *,
        rules: Rules | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._parts, self._clock = parts, clock
        self._join = Join(parts.context, parts.past, rules)
        self._cluster = parts.past.cluster
        self._watchers = [Watcher(parts.kube, one, self, clock) for one in WORKLOADS]
        self._routine = Routine(self.name, self.look, parts.metrics, every=_EVERY)
        self._windows = parts.past.windows
        # Said once, whatever was said before: their keys see to that.
        self._unsaid = [self._join.away(one, clock()) for one in parts.past.away]
        self._down = parts.past.last
        """Until when somebody watched before this process; None once that was told."""
        self._unreadable: set[str] = set()

    def problem(self) -> str | None:
        """See ``Loop.problem``."""
        return self._routine.problem()

    def counts(self) -> Counts:
        """Count what is watched, for a heartbeat."""
        return self._join.counts()

    async def run(self, stop: asyncio.Event) -> None:
        """See ``Loop.run``."""
        followers = [Follower(one.kind.kind, one.run) for one in self._watchers]
        await run_all([self._routine, *followers], stop)

    def appended(self, index: int, record: bytes) -> None:
        """Take note of a new entry of the ledger."""
        if _CLAIM not in record and _CONTROL not in record:
            return
        told = orjson.loads(record)
        if told["kind"] == "admitted":
            self._claimed(index, told)
        elif told["kind"] == "control-state":
            window = self._windows.note(told)
            if window is not None:
                self._unsaid.append(self._join.away(window, self._clock()))
                self._routine.wake()

    def _claimed(self, index: int, told: Mapping[str, Any]) -> None:
        if told["object"]["namespace"] in self._parts.excluded:
            return
        claim = admitted(index, told, self._cluster)
        if claim is not None:
            self._join.claim(claim, self._clock())
            self._routine.wake()

    async def look(self) -> float | None:
        """Say what is new; returns the seconds until something more may be due."""
        waiting = [f"{one.kind}: {one.problem}" for one in self._watchers if one.since is None]
        if waiting:
            raise WaitingError("; ".join(waiting))
        moment = self._moment()
        if self._down is not None:
            assert moment.watching is not None
            self._unsaid.append(self._join.down(self._down, moment.watching))
            self._down = None
        self._unsaid += self._join.due(moment)
        # What can't be said now is kept, and said first the next time.
        said, self._unsaid = self._unsaid, []
        try:
            await self._parts.tell(said)
        except TrailgateError:
            self._unsaid = said + self._unsaid
            raise
        failing = [f"{one.kind}: {one.problem}" for one in self._watchers if one.problem]
        if failing:
            raise WaitingError("; ".join(failing))
        return _SOON if self._join.waiting else None

    def _moment(self) -> Moment:
        return Moment(
            now=self._clock(),
            recorded=self._parts.recorded(),
            heard={one.kind: one.heard for one in self._watchers if one.heard is not None},
            watching=max(one.since for one in self._watchers if one.since is not None),
            armed=self._parts.armed(),
        )

    # What the watches bring (``observer_watch.Sink``)

    def read(self, kind: Kind, item: Mapping[str, Any]) -> Seen | None:
        """See ``Sink.read``."""
        metadata = item.get("metadata") or {}
        if metadata.get("namespace") in self._parts.excluded:
            return None
        try:
            return seen(kind, item)
        except TrailgateError as error:
            uid = str(metadata.get("uid"))
            if uid not in self._unreadable:
                self._unreadable.add(uid)
                logs.write(
                    logging.ERROR, "a workload can't be read", kind=str(kind), uid=uid,
                    detail=str(error),
                )  # fmt: skip
            return None

    def listed(self, kind: Kind, items: Sequence[Seen]) -> None:
        """See ``Sink.listed``. When these states came is not known, nor who was armed then."""
        self._join.listed(kind, items, self._clock(), armed=None)
        self._routine.wake()

    def applied(self, item: Seen) -> None:
        """See ``Sink.applied``."""
        self._join.see(item, self._clock(), armed=self._parts.armed())
        self._routine.wake()

    def left(self, uid: str) -> None:
        """See ``Sink.left``."""
        self._join.leave(uid, self._clock())
        self._routine.wake()

    def missed(self, since: datetime, until: datetime) -> None:
        """See ``Sink.missed``."""
        self._unsaid.append(self._join.down(since, until))
