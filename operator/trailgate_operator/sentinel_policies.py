"""Tells a policy's change that no claim explains: made while the gate wasn't asked.

Who changes a policy is claimed by the gate, where the API server asks it. It doesn't while
disarmed, and goes on where no gate answers. So what is there is held against what the trail
says is there; a difference that everything spooled since has not explained is told, without
a name. The first time, that is each policy from before the gate was armed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from trailgate.ledger.record import Context
from trailgate.model.reason import Absence
from trailgate.policy.naming import policy_digest
from trailgate_kube import logs
from trailgate_kube.api import Reader
from trailgate_kube.resources import DEPLOY_POLICIES
from trailgate_operator.register import Register
from trailgate_operator.trail import Tell

PATIENCE: Final = timedelta(seconds=30)
"""For the gate's claim to come into the spool."""
OVERDUE: Final = timedelta(minutes=30)
"""For a recorder that can't empty the spool: what lies there can't keep a change untold."""


@dataclass(frozen=True, slots=True)
class ClaimParts:
    """What it works with."""

    reader: Reader
    register: Register
    recorded: Callable[[], datetime | None]
    """Since when the ledger has everything that was in the spool."""
    tell: Tell
    context: Context


class Unclaimed:
    """Looks for them. ``look`` is one pass of a ``Routine``."""

    def __init__(self, parts: ClaimParts, *, clock: Callable[[], datetime]) -> None:
        self._parts, self._clock = parts, clock
        self._since: dict[tuple[str, str | None], datetime] = {}
        """Since when a difference is seen: a policy's name, and its digest now."""

    async def look(self) -> None:
        """One pass. ``KubeError``, ``LedgerUnavailableError``."""
        now = self._clock()
        there = await self._there()
        known = self._parts.register.known
        differ = {
            (name, there.get(name))
            for name in there.keys() | known.keys()
            if there.get(name) != known.get(name)
        }
        self._since = {one: self._since.get(one, now) for one in differ}
        recorded = self._parts.recorded()
        due = sorted(
            name
            for (name, _), at in self._since.items()
            if (recorded is not None and at + PATIENCE <= recorded) or at + OVERDUE <= now
        )
        parts = self._parts
        await parts.tell(
            [
                parts.register.difference(
                    parts.context, now, name, there.get(name), Absence.NOT_FOUND
                )
                for name in due
            ]
        )
        for name in due:
            logs.write(logging.WARNING, "a policy changed unseen by the gate", name=name)

    async def _there(self) -> dict[str, str]:
        found: dict[str, str] = {}
        following = ""
        while True:
            page = await self._parts.reader.page(DEPLOY_POLICIES, following=following)
            found |= {item["metadata"]["name"]: str(policy_digest(item)) for item in page.items}
            following = page.following
            if not following:
                return found
