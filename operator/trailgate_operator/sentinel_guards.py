"""Tells what became of the guards: the admission policies of the chart that hold without a gate.

They keep people from our objects, keys and namespaces. Admission isn't asked about admission
policies, so nobody can claim who changes one: that it changed is told, and no name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import orjson

from trailgate.ledger.form import stamp
from trailgate.ledger.record import Context, ControlState, ControlSubject, control_state
from trailgate.model.canonical import fingerprint
from trailgate.model.digest import Digest
from trailgate.model.reason import Absence
from trailgate_kube import logs
from trailgate_kube.api import Reader
from trailgate_kube.errors import NotFoundError
from trailgate_kube.resources import ADMISSION_BINDINGS, ADMISSION_POLICIES, Resource
from trailgate_operator.trail import Statement, Tell

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
_MARK: Final = b'"subject":"guard"'


@dataclass(slots=True)
class KnownGuards:
    """The guards that the trail says are there. Show it all records in order."""

    digests: dict[str, Digest] = field(default_factory=dict)
    """By name."""

    def noting(self, records: Iterable[bytes]) -> Iterator[bytes]:
        """Pass records through, noting each."""
        for record in records:
            self.note(record)
            yield record

    def note(self, content: bytes) -> None:
        """Note one record."""
        if _MARK not in content:
            return
        record = orjson.loads(content)
        if record["kind"] != "control-state" or record["subject"] != "guard":
            return
        if record["digest"] is None:
            self.digests.pop(record["name"], None)
        else:
            self.digests[record["name"]] = Digest.parse(record["digest"])


@dataclass(frozen=True, slots=True)
class GuardParts:
    """What it works with."""

    reader: Reader
    known: KnownGuards
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
        known = self._parts.known.digests
        news = [
            self._words(name, digest, known.get(name))
            for name, digest in there.items()
            if digest != known.get(name)
        ]
        for one in news:
            lost = one.claim["state"] != ControlState.CREATED.value
            logs.write(
                logging.WARNING if lost else logging.INFO, "a guard changed",
                name=one.claim["name"], state=one.claim["state"],
            )  # fmt: skip
        await self._parts.tell(news)

    async def _digest(self, resource: Resource, name: str) -> Digest | None:
        try:
            return fingerprint((await self._parts.reader.get(resource, name)).get("spec"))
        except NotFoundError:
            return None

    def _words(self, name: str, digest: Digest | None, before: Digest | None) -> Statement:
        now = self._clock()
        state = ControlState.CHANGED
        if before is None or digest is None:
            state = ControlState.CREATED if before is None else ControlState.DELETED
        claim = control_state(
            self._parts.context, now, ControlSubject.GUARD, state,
            name=name, digest=digest, previous=before, caller=Absence.NOT_SHOWN,
        )  # fmt: skip
        return Statement(f"guard/{name}/{digest}/{stamp(now)}", claim)
