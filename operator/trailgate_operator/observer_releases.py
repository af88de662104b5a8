"""What an object holds: rolled out, overtaken, scaled to zero, gone. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from trailgate.ledger.record import End
from trailgate.model.digest import Digest
from trailgate_operator.observer_images import Compared, compare
from trailgate_operator.observer_past import Admitted, Held
from trailgate_operator.observer_track import Moment, Rolled, Rules, State, Track, Verdict
from trailgate_operator.observer_words import Words
from trailgate_operator.trail import Statement


@dataclass(frozen=True, slots=True)
class Releases:
    """Follows the change that an object has now."""

    words: Words
    rules: Rules

    def begin(self, track: Track, claim: Admitted, now: datetime) -> Iterator[Statement]:
        """Let a change take the place of the one before it."""
        yield from self._superseded(track, now, claim.change)
        track.held, track.holds = Held(claim), True
        track.strange = frozenset()

    def overtaken(self, track: Track, state: State, now: datetime) -> Iterator[Statement]:
        """Let something that nothing explains take its place."""
        yield from self._superseded(track, now, self.words.change(state.seen.thing))
        track.holds = False

    def of(self, track: Track, state: State, moment: Moment) -> Iterator[Statement]:
        """Say what became of what an object holds, in this state of it."""
        held = track.held
        if held is None or not track.holds or state.verdict is not Verdict.EXPLAINED:
            return
        if state.rolled is not None:
            yield from self._rolled(track, held, state, state.rolled, moment)
        thing, claimed = state.seen.thing, held.claim.claimed
        for there, cause in (
            (state.emptied, End.SCALED_TO_ZERO),
            (state.completed, End.COMPLETED),
        ):
            if there and not held.ended:
                held.running, held.ended = False, True
                yield self.words.ended(moment.now, claimed, thing, cause)

    def left(self, track: Track, now: datetime) -> Iterator[Statement]:
        """Say that what an object held went with it."""
        held = track.held
        if held is not None and not held.ended and track.holds:
            thing = held.claim.thing
            yield self.words.ended(now, held.claim.claimed, thing, End.DELETED, track.deletion)
        track.held = None

    def _superseded(self, track: Track, now: datetime, by: Digest) -> Iterator[Statement]:
        held = track.held
        if held is not None and not held.ended and track.holds:
            claim = held.claim
            yield self.words.ended(now, claim.claimed, claim.thing, End.SUPERSEDED, by)
            held.ended, held.running = True, False

    def _rolled(
        self, track: Track, held: Held, state: State, rolled: Rolled, moment: Moment
    ) -> Iterator[Statement]:
        compared = compare(held.claim.images, rolled.uses)
        if compared.strange or not rolled.exact:
            state.odd = state.odd or moment.now
            if moment.now - state.odd < self.rules.odd:
                return  # these may still be the pods of the state before
            yield from self._strange(track, held, state, compared, moment.now)
            if compared.strange:
                return
        state.odd = None
        if not held.running and not (held.ended and state.completed):
            held.running, held.ended = True, False
            yield self.words.running(
                moment.now, held.claim.claimed, state.seen.thing, rolled, compared
            )

    def _strange(
        self, track: Track, held: Held, state: State, compared: Compared, now: datetime
    ) -> Iterator[Statement]:
        new = frozenset(compared.strange) - track.strange
        if new:
            track.strange |= new
            told = sorted(new, key=str)
            yield self.words.not_admitted(now, held.claim.claimed, state, told)
