"""Which resource a kind is, for kinds that we don't know by heart."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from trailgate.model.admission import Kind
from trailgate_kube.errors import NotFoundError
from trailgate_kube.resources import BUILT_IN, Resource

_KNOWN_SECONDS = 600.0
_UNKNOWN_SECONDS = 10.0
_MOST = 1_000

Raw = Callable[[str, str], Awaitable[dict[str, Any]]]


class Discovery:
    """Asks the API server once per kind and remembers the answer for a while."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._known: dict[Kind, tuple[float, Resource | None]] = {}

    async def resource(self, kind: Kind) -> Resource | None:
        """Return the kind's resource in its group's preferred version, or None."""
        if kind in BUILT_IN:
            return BUILT_IN[kind]
        now = time.monotonic()
        until, known = self._known.get(kind, (0.0, None))
        if now < until:
            return known
        found = await self._ask(kind)
        if len(self._known) >= _MOST:  # names come from requests: never grow with them
            self._known.clear()
        self._known[kind] = (now + (_KNOWN_SECONDS if found else _UNKNOWN_SECONDS), found)
        return found

    async def _ask(self, kind: Kind) -> Resource | None:
        try:
            if not kind.group:
                base, version = "/api/v1", "v1"
            else:
                group = await self._raw("GET", f"/apis/{quote(kind.group, safe='')}")
                version = str(group.get("preferredVersion", {}).get("version", ""))
                base = f"/apis/{quote(kind.group, safe='')}/{version}"
            answer = await self._raw("GET", base)
        except NotFoundError:
            return None
        for entry in answer.get("resources") or ():
            plural = str(entry.get("name", ""))
            if entry.get("kind") == kind.kind and "/" not in plural:
                namespaced = bool(entry.get("namespaced"))
                return Resource(kind.group, version, plural, kind.kind, namespaced)
        return None
