"""The two small doors to the Kubernetes API that everything here goes through.

``client.py`` opens them to a real API server, ``memory.py`` is the twin; one
contract suite (tests/kube/test_contract.py) holds both to the same behaviour.
Objects are plain decoded JSON. Every method raises the errors of ``errors.py``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from trailgate.model.admission import Kind
from trailgate_kube.resources import Resource

Object = dict[str, Any]


class EventType(StrEnum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    """Nothing; the object carries only a newer resourceVersion to resume from."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a watch."""

    type: EventType
    object: Object

    @property
    def resource_version(self) -> str:
        """Where to resume after this event."""
        return str(self.object.get("metadata", {}).get("resourceVersion", ""))


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, in the order of the objects' names."""

    items: tuple[Object, ...]
    resource_version: str
    """The whole list's: where a watch starts."""
    following: str
    """Token of the next page; empty on the last one."""


class Reader(Protocol):
    """Reading: one object, a list in pages, what happens next."""

    async def get(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        seconds: float | None = None,
    ) -> Object:
        """Return one object; ``NotFoundError`` where it isn't there."""
        ...

    async def page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        limit: int = 500,
        following: str = "",
        name: str | None = None,
    ) -> Page:
        """Return one page of a list; ``GoneError`` where its token is too old.

        ``name``: only that object, so that a right on it alone is enough.
        """
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        seconds: float = 120,
        name: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield events after ``resource_version`` until about ``seconds`` have passed.

        ``name`` as for ``page``.
        Ends normally when the time is over; ``GoneError`` means list again.
        """
        ...

    async def discover(self, kind: Kind) -> Resource | None:
        """Return the resource of a kind in its preferred version; None if there is none."""
        ...


class Writer(Protocol):
    """Writing. Nothing is retried here: whether it may be is the caller's knowledge."""

    async def create(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        seconds: float | None = None,
    ) -> Object:
        """Create an object and return it as stored; ``AlreadyExistsError``.

        ``dry_run``: admitted and checked all the same, and not stored.
        """
        ...

    async def replace(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        namespace: str | None = None,
        *,
        subresource: str = "",
        seconds: float | None = None,
    ) -> Object:
        """Replace an object as it was read, and return it as stored.

        The body's ``metadata.resourceVersion`` is the one that was read: ``ConflictError``
        where it has changed since, ``NotFoundError`` where it is gone. ``subresource``:
        only that part, such as ``status``.
        """
        ...

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
    ) -> None:
        """Delete an object; with ``uid`` only that one (``ConflictError``, ``NotFoundError``)."""
        ...


class Kube(Reader, Writer, Protocol):
    """Both doors."""
