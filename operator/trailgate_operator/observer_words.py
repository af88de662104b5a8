"""What the observer says, and under which keys: each thing once, after any restart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from trailgate.ledger.record import (
    Claimed,
    Context,
    End,
    GapCause,
    NotPersisted,
    Seen,
    Thing,
    Why,
    baseline,
    discrepancy,
    ended,
    gap,
    not_persisted,
    persisted,
    running,
    stamp,
    state_id,
)
from trailgate.model.admission import Operation
from trailgate.model.canonical import fingerprint
from trailgate.model.digest import Digest
from trailgate_operator.observer_images import Compared
from trailgate_operator.observer_past import Admitted
from trailgate_operator.observer_track import Rolled, State
from trailgate_operator.observer_windows import Window
from trailgate_operator.trail import Statement

_COMPONENT = "observer"


@dataclass(frozen=True, slots=True)
class Words:
    """Builds statements; ``context`` may be any part's of the operator."""

    context: Context

    def __post_init__(self) -> None:
        """Speak as the observer."""
        gate = replace(self.context.gate, component=_COMPONENT)
        object.__setattr__(self, "context", replace(self.context, gate=gate))

    def persisted(self, now: datetime, claim: Admitted, seen: Seen, thing: Thing) -> Statement:
        """Say that an admitted change was stored."""
        told = persisted(
            self.context, now, claim.claimed, thing, operation=Operation(claim.operation), seen=seen
        )
        return Statement(f"persisted/{claim.change}", told)

    def not_persisted(self, now: datetime, claim: Admitted, cause: NotPersisted) -> Statement:
        """Say that nothing shows an admitted change to have been stored."""
        told = not_persisted(self.context, now, claim.claimed, claim.thing, cause=cause)
        return Statement(f"not-persisted/{claim.change}", told)

    def running(
        self, now: datetime, claimed: Claimed, thing: Thing, rolled: Rolled, compared: Compared
    ) -> Statement:
        """Say that a change is rolled out."""
        told = running(
            self.context,
            now,
            claimed,
            thing,
            compared.images,
            desired=rolled.desired,
            ready=rolled.ready,
        )
        return Statement(f"running/{claimed.change}/{thing.generation}", told)

    def ended(
        self, now: datetime, claimed: Claimed, thing: Thing, cause: End, by: Digest | None = None
    ) -> Statement:
        """Say that a change holds no more."""
        told = ended(self.context, now, claimed, thing, cause=cause, by=by)
        return Statement(f"ended/{claimed.change}/{thing.generation}/{cause.value}", told)

    def no_admission(self, now: datetime, state: State) -> Statement:
        """Say that no admission led to a state."""
        thing = state.seen.thing
        since = state.at
        if thing.generation == 1 and state.seen.created is not None:
            since = state.seen.created
        change = self.change(thing)
        told = discrepancy(
            self.context, now, thing, why=Why.NO_ADMISSION, change=change, since=since,
            armed=state.armed,
        )  # fmt: skip
        return Statement(f"discrepancy/{change}", told)

    def not_admitted(
        self, now: datetime, claimed: Claimed, state: State, digests: Sequence[Digest]
    ) -> Statement:
        """Say that something else runs than what was admitted."""
        told = discrepancy(
            self.context, now, state.seen.thing, why=Why.IMAGE_NOT_ADMITTED,
            change=claimed.change, claim=claimed.index, digests=digests, since=state.odd,
            armed=state.armed,
        )  # fmt: skip
        which = fingerprint([str(digest) for digest in digests])
        return Statement(f"discrepancy/{claimed.change}/{which}", told)

    def baseline(self, now: datetime, things: Iterable[Thing]) -> list[Statement]:
        """Say what was there before the gate was armed."""
        ordered = sorted(things, key=lambda one: (str(one.key), str(one.uid)))
        told = baseline(self.context, now, ordered)
        return [Statement(f"baseline/{one['part']}", one) for one in told]

    def down(self, now: datetime, since: datetime, until: datetime) -> Statement:
        """Say that nobody watched."""
        told = gap(self.context, now, GapCause.OBSERVER_DOWN, since=since, until=until)
        return Statement(f"gap/{GapCause.OBSERVER_DOWN.value}/{stamp(since)}", told)

    def away(self, now: datetime, window: Window) -> Statement:
        """Say that the gate wasn't asked."""
        told = gap(self.context, now, window.cause, since=window.since, until=window.until)
        return Statement(f"gap/{window.cause.value}/until/{stamp(window.until)}", told)

    def change(self, thing: Thing) -> Digest:
        """Name the change that leads to a state, as the gate would."""
        return state_id(self.context.cluster.uid, thing.uid, thing.generation, thing.spec)
