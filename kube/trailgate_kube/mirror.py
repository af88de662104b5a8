"""A local copy of all objects of one kind, kept current by list and watch.

Kubernetes: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

from trailgate_kube.api import Event, EventType, Object, Reader
from trailgate_kube.backoff import Backoff
from trailgate_kube.errors import GoneError, KubeError
from trailgate_kube.resources import Resource

_WATCH_SECONDS = 120.0
_LASTING = 1.0
"""Seconds after which a watch counts as one: ended sooner, the next one waits longer."""
_PAGE = 500

_log = logging.getLogger(__name__)

OnChange = Callable[[Mapping[str, Object]], None]


class Mirror:
    """The objects of one kind (in one namespace, or everywhere), by ``namespace/name``.

    ``name``: only that one.

    ``run`` never ends by itself: what goes wrong is logged and tried again, slower each
    time, while the last good state stays.
    """

    def __init__(
        self,
        reader: Reader,
        resource: Resource,
        namespace: str | None = None,
        *,
        name: str | None = None,
        on_change: OnChange = lambda _objects: None,
    ) -> None:
        self._reader = reader
        self._resource = resource
        self._namespace = namespace
        # Others' readers needn't know of names.
        self._only: dict[str, Any] = {} if name is None else {"name": name}
        self._on_change = on_change
        self._objects: dict[str, Object] = {}
        self._version = ""
        self._synced = asyncio.Event()
        self._contact = -float("inf")

    @property
    def objects(self) -> Mapping[str, Object]:
        """What is there, as far as we know."""
        return MappingProxyType(self._objects)

    @property
    def silence(self) -> float:
        """Seconds since the API server last told us something (infinite at first)."""
        return time.monotonic() - self._contact

    async def synced(self) -> None:
        """Wait until the first whole list is in."""
        await self._synced.wait()

    async def run(self) -> None:
        """Keep the copy current until cancelled."""
        backoff = Backoff()
        while True:
            try:
                if not self._version:
                    await self._list()
                began = time.monotonic()
                try:
                    await self._follow()
                finally:
                    if time.monotonic() - began >= _LASTING:
                        backoff.reset()
            except GoneError:
                self._version = ""
            except KubeError as error:
                _log.warning("%s; trying again in about %.1f s", error, backoff.next)
            # However it ended: a server that ends every watch at once must not be hammered.
            await backoff.sleep()

    async def _list(self) -> None:
        objects: dict[str, Object] = {}
        following = ""
        while True:
            page = await self._reader.page(
                self._resource, self._namespace, limit=_PAGE, following=following, **self._only
            )
            objects.update((key_of(item), item) for item in page.items)
            following = page.following
            if not following:
                break
        self._version = page.resource_version
        self._heard()
        changed = _versions(objects) != _versions(self._objects)
        self._objects = objects
        if changed or not self._synced.is_set():
            self._on_change(self.objects)
        self._synced.set()

    async def _follow(self) -> None:
        events = self._reader.watch(
            self._resource,
            self._namespace,
            resource_version=self._version,
            seconds=_WATCH_SECONDS,
            **self._only,
        )
        async with aclosing(events):
            async for event in events:
                self._heard()
                self._version = event.resource_version or self._version
                if event.type is not EventType.BOOKMARK:
                    self._apply(event)
        self._heard()

    def _heard(self) -> None:
        self._contact = time.monotonic()

    def _apply(self, event: Event) -> None:
        key = key_of(event.object)
        objects = dict(self._objects)  # readers keep the one they have
        if event.type is EventType.DELETED:
            objects.pop(key, None)
        else:
            objects[key] = event.object
        self._objects = objects
        self._on_change(self.objects)


def key_of(item: Mapping[str, object]) -> str:
    """Return ``namespace/name``, or the name of an object without a namespace."""
    metadata = item.get("metadata")
    fields = metadata if isinstance(metadata, Mapping) else {}
    namespace = str(fields.get("namespace") or "")
    name = str(fields.get("name") or "")
    return f"{namespace}/{name}" if namespace else name


def _versions(objects: Mapping[str, Object]) -> dict[str, tuple[str, str]]:
    return {
        key: (
            str(item.get("metadata", {}).get("uid")),
            str(item.get("metadata", {}).get("resourceVersion")),
        )
        for key, item in objects.items()
    }
