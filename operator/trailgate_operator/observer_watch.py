"""Follows all objects of one kind: each state of each of them, as long as the watch holds.

Unlike ``trailgate_kube.mirror`` it keeps nothing: what the observer needs of an object is
much less than the object, and it needs what came between, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, Protocol

from trailgate.model.admission import Kind
from trailgate_kube import logs
from trailgate_kube.api import Event, EventType, Object, Reader
from trailgate_kube.backoff import Backoff
from trailgate_kube.errors import GoneError, KubeError
from trailgate_kube.resources import Resource

_PAGE: Final = 250
_WATCH_SECONDS: Final = 120.0
_LASTING: Final = 1.0


class Sink(Protocol):
    """Takes what a watch brings."""

    def listed(self, kind: Kind, items: Sequence[Any]) -> None:
        """Take everything that is there of a kind, as ``read`` made it."""

    def read(self, kind: Kind, item: Mapping[str, Any]) -> Any:
        """Make of an object what is to be kept of it; None: nothing."""

    def applied(self, item: Any) -> None:
        """Take a new state of an object."""

    def left(self, uid: str) -> None:
        """Take note that an object is gone."""

    def missed(self, since: datetime, until: datetime) -> None:
        """Take note that what happened between these was not seen."""


class Watcher:
    """One kind. ``run`` never ends by itself."""

    def __init__(
        self, reader: Reader, resource: Resource, sink: Sink, clock: Callable[[], datetime]
    ) -> None:
        self._reader, self._resource, self._sink, self._clock = reader, resource, sink, clock
        self.kind = Kind(resource.group, resource.kind)
        self._version = ""
        self.heard: datetime | None = None
        """Everything that happened before was seen."""
        self.since: datetime | None = None
        """Since when nothing was missed."""
        self.problem: str | None = "has not been read yet"

    async def run(self) -> None:
        """Follow the objects until cancelled."""
        backoff = Backoff()
        while True:
            began = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except GoneError:
                self._version = ""
            except KubeError as error:
                self._failed(error)
            if time.monotonic() - began >= _LASTING:
                backoff.reset()
            await backoff.sleep()

    def _failed(self, error: KubeError) -> None:
        problem = str(error)
        if problem != self.problem:  # once, and not at every attempt
            logs.write(logging.WARNING, "a watch fails", kind=self._resource.plural, detail=problem)
        self.problem = problem

    async def _list(self) -> None:
        asked, found, following = self._clock(), [], ""
        while True:
            page = await self._reader.page(self._resource, limit=_PAGE, following=following)
            for item in page.items:
                kept = self._sink.read(self.kind, _typed(item, self._resource))
                if kept is not None:
                    found.append(kept)
            following = page.following
            if not following:
                break
            await asyncio.sleep(0)
        if self.heard is not None:
            self._sink.missed(self.heard, asked)
        self._sink.listed(self.kind, found)
        self._version = page.resource_version
        self.since = self._clock()
        self.heard, self.problem = asked, None

    async def _follow(self) -> None:
        events = self._reader.watch(
            self._resource, resource_version=self._version, seconds=_WATCH_SECONDS
        )
        async with aclosing(events):
            async for event in events:
                self._version = event.resource_version or self._version
                self._take(event)
                self.heard, self.problem = self._clock(), None

    def _take(self, event: Event) -> None:
        if event.type is EventType.BOOKMARK:
            return
        item = _typed(event.object, self._resource)
        if event.type is EventType.DELETED:
            self._sink.left(str(item["metadata"].get("uid") or ""))
            return
        kept = self._sink.read(self.kind, item)
        if kept is not None:
            self._sink.applied(kept)


def _typed(item: Object, resource: Resource) -> Object:
    """Give an object its kind, which those in a list don't have."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **item}
