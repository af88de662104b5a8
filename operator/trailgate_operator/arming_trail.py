"""What arming says in the trail: each state of the configuration once, and each Disarm's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from trailgate.ledger.record import (
    Context,
    ControlState,
    ControlSubject,
    DisarmState,
    control_state,
    disarm,
)
from trailgate.model.digest import Digest
from trailgate.model.reason import Absence
from trailgate_kube.disarms import Disarm
from trailgate_kube.webhooks import CONFIGURATION
from trailgate_operator.arming_plan import Found, Remove
from trailgate_operator.trail import Statement

_PREFIX = "webhook-configuration"


@dataclass(frozen=True, slots=True)
class Seen:
    """One state of the configuration, as the trail knows it."""

    uid: str
    generation: int
    digest: Digest

    @classmethod
    def of(cls, found: Found) -> Seen:
        """Take note of what is stored."""
        return cls(found.uid, found.generation, found.digest)

    @property
    def key(self) -> str:
        """The same after a restart, so that a state that was told is not told again."""
        return f"{_PREFIX}/{self.uid}/{self.generation}/{self.digest}"


class Words:
    """Builds the statements. ``context`` says who tells."""

    def __init__(self, context: Context, clock: Callable[[], datetime]) -> None:
        self._context, self._clock = context, clock

    def found(self, seen: Seen, last: Seen | None, *, in_order: bool | None) -> Statement:
        """Tell a state whose maker didn't: somebody else, or we, killed before we could."""
        state = ControlState.CHANGED
        if in_order:
            state = ControlState.ARMED if seen.generation == 1 else ControlState.ADJUSTED
        return self.is_now(seen, state, None if last is None else last.digest)

    def is_now(
        self, seen: Seen, state: ControlState, before: Digest | None, key: str | None = None
    ) -> Statement:
        """Tell that the configuration is, or is about to be, in this state."""
        return self._statement(key or seen.key, state, seen.digest, before)

    def removed(self, step: Remove) -> Statement:
        """Tell that the operator is about to remove it, because a Disarm says so."""
        key = f"{_PREFIX}/{step.found.uid}/disarmed/{step.disarm.uid}"
        return self._statement(key, ControlState.DISARMED, None, step.found.digest)

    def gone(self, last: Seen) -> Statement:
        """Tell that somebody deleted it."""
        key = f"{_PREFIX}/{last.uid}/deleted"
        return self._statement(key, ControlState.DELETED, None, last.digest)

    def _statement(
        self, key: str, state: ControlState, digest: Digest | None, previous: Digest | None
    ) -> Statement:
        somebody = state in (ControlState.CHANGED, ControlState.DELETED)
        claim = control_state(
            self._context,
            self._clock(),
            ControlSubject.WEBHOOK_CONFIGURATION,
            state,
            name=CONFIGURATION,
            digest=digest,
            previous=previous,
            caller=Absence.NOT_SHOWN if somebody else None,
        )
        return Statement(key, claim)

    def disarm(self, one: Disarm, state: DisarmState) -> Statement:
        """Tell what became of a Disarm. Who made or deleted it the gate records, where asked."""
        claim = disarm(
            self._context,
            self._clock(),
            state,
            name=one.name,
            uid=one.uid,
            until=one.until,
            reason=one.reason,
            ticket=one.ticket,
        )
        return Statement(f"disarm/{one.uid}/{state.value}", claim)
