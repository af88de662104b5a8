"""Tells what became of the guards: the admission policies of the chart that hold without a gate.

They keep people from our objects, keys and namespaces. Admission isn't asked about admission
policies, so nobody can claim who changes one: that it changed is told, and no name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from trailgate.ledger.record import Context, ControlState
from trailgate.model.canonical import fingerprint
from trailgate.model.reason import Absence
from trailgate_kube import logs
from trailgate_kube.api import Reader
from trailgate_kube.errors import NotFoundError
from trailgate_kube.resources import ADMISSION_BINDINGS, ADMISSION_POLICIES, Resource
from trailgate_operator.register import Register
from trailgate_operator.trail import Tell

EVERY: Final = 60.0
"""Seconds."""
_OURS: Final = ("identity", "policies", "probe", "spool", "system")
POLICIES: Final = tuple(f"trailgate-{name}" for name in _OURS)
BINDINGS: Final = (*POLICIES[:-1], "trailgate-system-kube", "trailgate-system-own")
GUARDS: Final[tuple[tuple[Resource, str], ...]] = (
    *((ADMISSION_POLICIES, name) for name in POLICIES),
    *((ADMISSION_BINDINGS, name) for name in BINDINGS),
)
"""What is looked at, where it is there: the chart's, each by name."""


@dataclass(frozen=True, slots=True)
class GuardParts:
    """What it works with."""

    reader: Reader
    register: Register
    tell: Tell
    context: Context


class Guards:
    """Compares. ``look`` is one pass of a ``Routine``."""

    def __init__(self, parts: GuardParts, *, clock: Callable[[], datetime]) -> None:
        self._parts, self._clock = parts, clock

    async def look(self) -> None:
        """One pass. ``KubeError``, ``LedgerUnavailableError``."""
        there = {
            f"{resource.kind}/{name}": await self._digest(resource, name)
            for resource, name in GUARDS
        }
        parts, now = self._parts, self._clock()
        news = [
            parts.register.difference(parts.context, now, name, digest, Absence.NOT_SHOWN)
            for name, digest in there.items()
            if digest != parts.register.known.get(name)
        ]
        for one in news:
            lost = one.claim["state"] != ControlState.CREATED.value
            logs.write(
                logging.WARNING if lost else logging.INFO, "a guard changed",
                name=one.claim["name"], state=one.claim["state"],
            )  # fmt: skip
        await self._parts.tell(news)

    async def _digest(self, resource: Resource, name: str) -> str | None:
        try:
            return str(fingerprint((await self._parts.reader.get(resource, name)).get("spec")))
        except NotFoundError:
            return None
