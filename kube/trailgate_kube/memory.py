"""The twin of an API server, in memory: the behaviour that our code relies on, no more.

Held to the real one by tests/kube/test_contract.py. Beyond it, tests can make it
fail (``fail``), fill a quota (``limits``), change objects (``change``) and forget history
(``compact``).
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trailgate.model.admission import Kind
from trailgate_kube.api import Event, EventType, Object, Page
from trailgate_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    GoneError,
    KubeError,
    NotFoundError,
)
from trailgate_kube.resources import BUILT_IN, Resource

_Key = tuple[str, str, str]
"""Resource path of the collection's kind, namespace, name."""


@dataclass(frozen=True, slots=True)
class _Logged:
    version: int
    plural: str
    namespace: str
    event: Event


@dataclass(slots=True)
class MemoryKube:
    """A ``Kube`` without an API server. One event loop only."""

    limits: dict[tuple[str, str], int] = field(default_factory=dict)
    """Most objects of a (plural, namespace), as a ResourceQuota would hold it."""
    kinds: dict[Kind, Resource] = field(default_factory=lambda: dict(BUILT_IN))
    _objects: dict[_Key, Object] = field(default_factory=dict)
    _log: list[_Logged] = field(default_factory=list)
    _version: int = 0
    _compacted: int = 0
    _failures: list[tuple[str, KubeError, bool]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def fail(self, method: str, error: KubeError, *, after: bool = False) -> None:
        """Make the next call of a method raise; with ``after`` it is carried out first."""
        self._failures.append((method, error, after))

    def compact(self) -> None:
        """Forget the past: older resourceVersions and continue tokens are Gone."""
        self._compacted = self._version
        self._log.clear()

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        seconds: float | None = None,  # noqa: ARG002
    ) -> Object:
        """See ``Reader.get``."""
        self._maybe_fail("get")
        return copy.deepcopy(self._stored(resource, name, namespace))

    async def page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        limit: int = 500,
        following: str = "",
        name: str | None = None,
    ) -> Page:
        """See ``Reader.page``."""
        self._maybe_fail("page")
        version, _, last = following.partition("/")
        if following and int(version) < self._compacted:
            raise GoneError(f"GET {resource.path(namespace)}: the continue token is too old")
        found = sorted(
            (key, value)
            for key, value in self._objects.items()
            if key[0] == resource.plural
            and namespace in (None, key[1])
            and name in (None, key[2])
            and "/".join(key[1:]) > last
        )
        more = len(found) > limit
        taken = found[:limit]
        token = f"{self._version}/{'/'.join(taken[-1][0][1:])}" if more else ""
        items = tuple(copy.deepcopy(value) for _, value in taken)
        return Page(items, str(self._version), token)

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        seconds: float | None = None,  # noqa: ARG002
    ) -> Object:
        """See ``Writer.create``."""
        after = self._maybe_fail("create")
        stored: Object = copy.deepcopy(dict(body))
        metadata = stored.setdefault("metadata", {})
        key = (resource.plural, namespace or "", str(metadata["name"]))
        self._check_create(resource, key)
        metadata["uid"] = str(uuid.uuid4())
        metadata["generation"] = 1
        metadata["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if namespace is not None:
            metadata["namespace"] = namespace
        if not dry_run:
            await self._store(EventType.ADDED, key, stored)
        if after is not None:
            raise after
        return copy.deepcopy(stored)

    async def change(
        self,
        resource: Resource,
        name: str,
        changes: Mapping[str, Any],
        namespace: str | None = None,
    ) -> None:
        """Set these fields of an object (None removes one), as somebody else would."""
        stored = self._stored(resource, name, namespace)
        changed = copy.deepcopy(stored | dict(changes))
        changed = {field: value for field, value in changed.items() if value is not None}
        if _means(changed) != _means(stored):
            changed["metadata"]["generation"] += 1
        if changed != stored:
            await self._store(EventType.MODIFIED, (resource.plural, namespace or "", name), changed)

    async def replace(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str = "",
        seconds: float | None = None,  # noqa: ARG002
    ) -> Object:
        """See ``Writer.replace``; a ``status`` is taken as a part of its own for every kind."""
        after = self._maybe_fail("replace")
        name = str(body["metadata"]["name"])
        stored = self._stored(resource, name, namespace)
        version = body["metadata"].get("resourceVersion")
        if version is not None and version != stored["metadata"]["resourceVersion"]:
            raise ConflictError(f"PUT {resource.path(namespace, name)}: 409 was modified")
        part = subresource or "status"
        kept, given = (body, stored) if not subresource else (stored, body)
        changed: Object = copy.deepcopy({**kept, "metadata": dict(stored["metadata"])})
        changed.pop(part, None)
        if part in given:
            changed[part] = copy.deepcopy(given[part])
        if not subresource:
            for field_ in ("labels", "annotations", "ownerReferences", "finalizers"):
                changed["metadata"].pop(field_, None)
                if body["metadata"].get(field_):
                    changed["metadata"][field_] = copy.deepcopy(body["metadata"][field_])
        if _means(changed) != _means(stored):
            changed["metadata"]["generation"] += 1
        if changed != stored:
            key = (resource.plural, namespace or "", name)
            await self._store(EventType.MODIFIED, key, changed)
        if after is not None:
            raise after
        return copy.deepcopy(changed)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
    ) -> None:
        """See ``Writer.delete``."""
        after = self._maybe_fail("delete")
        stored = self._stored(resource, name, namespace)
        if uid is not None and stored["metadata"]["uid"] != uid:
            raise ConflictError(f"DELETE {resource.path(namespace, name)}: 409 uid differs")
        await self._store(EventType.DELETED, (resource.plural, namespace or "", name), stored)
        if after is not None:
            raise after

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        seconds: float = 120,
        name: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """See ``Reader.watch``."""
        self._maybe_fail("watch")
        seen = int(resource_version or 0)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            if seen < self._compacted:
                raise GoneError(f"watch {resource.path(namespace)}: 410 too old")
            for logged in [entry for entry in self._log if entry.version > seen]:
                seen = logged.version
                named = name in (None, logged.event.object["metadata"]["name"])
                here = namespace in (None, logged.namespace)
                if logged.plural == resource.plural and here and named:
                    yield logged.event
            left = deadline - loop.time()
            if left <= 0 or not await self._news(seen, left):
                return

    async def discover(self, kind: Kind) -> Resource | None:
        """See ``Reader.discover``."""
        self._maybe_fail("discover")
        return self.kinds.get(kind)

    async def _news(self, seen: int, seconds: float) -> bool:
        async with self._changed:
            try:
                # Not wait_for: cancelled as the news comes, it would go on as if nothing were.
                async with asyncio.timeout(seconds):
                    await self._changed.wait_for(lambda: self._version > seen)
            except TimeoutError:
                return False
        return True

    def _maybe_fail(self, method: str) -> KubeError | None:
        for index, (wanted, error, after) in enumerate(self._failures):
            if wanted == method:
                del self._failures[index]
                if not after:
                    raise error
                return error
        return None

    def _stored(self, resource: Resource, name: str, namespace: str | None) -> Object:
        try:
            return self._objects[resource.plural, namespace or "", name]
        except KeyError:
            path = resource.path(namespace, name)
            raise NotFoundError(f"GET {path}: 404 NotFound") from None

    def _check_create(self, resource: Resource, key: _Key) -> None:
        path = resource.path(key[1] or None, key[2])
        # In the API server's order: the quota is asked before the storage knows the name.
        limit = self.limits.get((resource.plural, key[1]))
        count = sum(1 for other in self._objects if other[:2] == key[:2])
        if limit is not None and count >= limit:
            raise ForbiddenError(
                f"POST {path}: 403 Forbidden exceeded quota: twin, limited: {limit}"
            )
        if key in self._objects:
            raise AlreadyExistsError(f"POST {path}: 409 AlreadyExists")

    async def _store(self, kind: EventType, key: _Key, value: Object) -> None:
        self._version += 1
        if kind is EventType.DELETED:
            del self._objects[key]
            value = copy.deepcopy(value)
        else:
            self._objects[key] = value
        value["metadata"]["resourceVersion"] = str(self._version)
        event = Event(kind, copy.deepcopy(value))
        self._log.append(_Logged(self._version, key[0], key[1], event))
        async with self._changed:
            self._changed.notify_all()


def _means(item: Object) -> tuple[Any, Any]:
    """Return what of an object raises its generation: of a webhook configuration, its webhooks."""
    return item.get("spec"), item.get("webhooks")
