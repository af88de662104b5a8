"""When the gate wasn't asked: read from what arming says in the trail. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from trailgate.ledger.record import ControlState, ControlSubject, GapCause

_ARMED: Final = (ControlState.ARMED, ControlState.ADJUSTED, ControlState.PUT_BACK)
_AWAY: Final = {
    ControlState.DISARMED: GapCause.DISARMED,
    ControlState.DELETED: GapCause.UNARMED,
    ControlState.CHANGED: GapCause.UNARMED,
}


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which the gate wasn't asked, or could be passed by."""

    cause: GapCause
    since: datetime | None
    """None: it was missing when somebody looked again."""
    until: datetime


class Windows:
    """Show it all ``control-state`` records, in order."""

    def __init__(self) -> None:
        self._armed = False
        self._away: tuple[GapCause, datetime] | None = None

    def note(self, record: Mapping[str, Any]) -> Window | None:
        """Take note of one; returns the window that it ends."""
        if record["subject"] != ControlSubject.WEBHOOK_CONFIGURATION:
            return None
        state, at = ControlState(record["state"]), datetime.fromisoformat(record["decidedAt"])
        if state in _AWAY:
            self._away = self._away or (_AWAY[state], at)
            self._armed = False
            return None
        if state not in _ARMED:
            return None
        away, was = self._away, self._armed
        self._away, self._armed = None, True
        if away is not None:
            return Window(away[0], away[1], at)
        if was and state is ControlState.ARMED:
            # It was made anew, so somebody had deleted it, and nobody was there to see it.
            return Window(GapCause.UNARMED, None, at)
        return None
