"""What explains a state, and what became of each claim: joined by generation and specification.

Pure: tracks in, statements out, in whatever order things were noticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeGuard

from trailgate.ledger.record import NotPersisted, Seen, Thing
from trailgate.model.canonical import fingerprint
from trailgate.model.digest import Digest
from trailgate_operator.observer_past import Admitted, Known
from trailgate_operator.observer_releases import Releases
from trailgate_operator.observer_track import Moment, Rules, State, Track, Verdict
from trailgate_operator.observer_words import Words
from trailgate_operator.trail import Statement

_SKEW: Final = timedelta(seconds=5)
"""Between the gate's clock and ours."""


@dataclass(frozen=True, slots=True)
class States:
    """Settles the states of one object after the other, in the order of generations."""

    words: Words
    rules: Rules
    releases: Releases

    def settle(self, track: Track, moment: Moment, *, began: bool) -> Iterator[Statement]:
        """Say what can be said of an object's states.

        ``began``: the baseline was taken; until then what nothing explains waits for it.
        """
        for generation in sorted(track.states):
            state = track.states[generation]
            if state.verdict is Verdict.OPEN:
                yield from self._explain(track, state, moment, began=began)
            if state.verdict is Verdict.OPEN:
                return  # the next one may have come of this one
            yield from self.releases.of(track, state, moment)

    def _explain(
        self, track: Track, state: State, moment: Moment, *, began: bool
    ) -> Iterator[Statement]:
        claim, known = _claim_of(track, state), track.known
        if claim is not None:
            yield from self._claimed(track, state, claim, moment)
        elif known is not None and _unchanged(known, state):
            # Nothing that runs has changed: what is said of the one before holds.
            _settled(track, state, _verdict_of(known))
        elif state.child:
            _settled(track, state, Verdict.EXPLAINED)
        elif known is not None and (scaled := _scaled_from(state, known)) is not None:
            yield from self._scaled(track, state, known, scaled, moment, began=began)
        elif self._waited(state, moment):
            yield from self._unexplained(track, state, moment, began=began)

    def _claimed(
        self, track: Track, state: State, claim: Admitted, moment: Moment
    ) -> Iterator[Statement]:
        del track.claims[claim.change]
        thing = replace(state.seen.thing, spec=claim.thing.spec)
        yield self.words.persisted(moment.now, claim, Seen.OBSERVED, thing)
        if claim.rolls_out:
            yield from self.releases.begin(track, claim, moment.now)
        _settled(track, state, Verdict.EXPLAINED)

    def _scaled(
        self, track: Track, state: State, known: Known, before: int, moment: Moment, *, began: bool
    ) -> Iterator[Statement]:
        """Settle a state in which only the number of replicas is another one."""
        if (state.seen.replicas or 0) > before:
            scale = _scale_of(track, state)
            if scale is None:
                if self._waited(state, moment):
                    yield from self._unexplained(track, state, moment, began=began)
                return
            del track.claims[scale.change]
            yield self.words.persisted(moment.now, scale, Seen.OBSERVED, state.seen.thing)
        _settled(track, state, _verdict_of(known))

    def _unexplained(
        self, track: Track, state: State, moment: Moment, *, began: bool
    ) -> Iterator[Statement]:
        if began:
            yield self.words.no_admission(moment.now, state)
            yield from self.releases.overtaken(track, state, moment.now)
            _settled(track, state, Verdict.STRANGE)
        elif state.armed is not True:
            state.verdict = Verdict.PRIOR

    def _waited(self, state: State, moment: Moment) -> bool:
        """Whether what explains a state would have come by now."""
        age = moment.now - state.at
        if age < self.rules.settle:
            return False
        return _recorded(moment, state.at) or age > self.rules.overdue

    def answer(self, track: Track, moment: Moment) -> Iterator[Statement]:
        """Say what became of the claims that no state settled."""
        waiting = list(track.claims.values())
        rivals = Counter(claim.thing.generation for claim, _ in waiting if claim.raises)
        for claim, since in waiting:
            state = track.states.get(claim.thing.generation or 0)
            if _is_settled(state) and claim.raises and claim.thing.spec in state.seen.specs:
                # It seemed explained without (by its owner), and this one explains it, too.
                yield from self._claimed(track, state, claim, moment)
                continue
            alone = rivals[claim.thing.generation] == 1
            told = self._answer(track, claim, since, moment, alone=alone)
            if told is not None:
                del track.claims[claim.change]
                yield told

    def _answer(
        self, track: Track, claim: Admitted, since: datetime, moment: Moment, *, alone: bool
    ) -> Statement | None:
        if claim.deletes:
            return self._deletion(track, claim, since, moment)
        if claim.raises:
            found = self._overtaken(track, claim, moment, alone=alone)
            if found is not None:
                return found
        elif not claim.scale and (mark := _mark_of(track, claim)) is not None:
            track.marked.remove(mark)
            return self._inferred(claim, moment)
        elif any(state.verdict is Verdict.OPEN for state in track.states.values()):
            return None
        return self._too_late(track, claim, since, moment)

    def _overtaken(
        self, track: Track, claim: Admitted, moment: Moment, *, alone: bool
    ) -> Statement | None:
        """Answer a claim on a generation that was, or must have been; None: not yet."""
        generation = claim.thing.generation or 0
        state = track.states.get(generation)
        if state is not None and state.verdict is Verdict.OPEN:
            return None
        there = _specs_at(track, generation)
        if there:
            if claim.thing.spec in there:
                return self._inferred(claim, moment)
            return self.words.not_persisted(moment.now, claim, NotPersisted.OTHER)
        newest = track.newest
        beyond = newest is not None and newest.seen.generation > generation
        if newest is None or not beyond or not _recorded(moment, newest.at):
            return None
        if alone:
            return self._inferred(claim, moment)
        return self.words.not_persisted(moment.now, claim, NotPersisted.UNDETERMINED)

    def _inferred(self, claim: Admitted, moment: Moment) -> Statement:
        return self.words.persisted(moment.now, claim, Seen.INFERRED, claim.thing)

    def _deletion(
        self, track: Track, claim: Admitted, since: datetime, moment: Moment
    ) -> Statement | None:
        track.deletion = claim.change
        newest = track.newest
        if newest is None or track.gone is not None:
            if track.gone is None and not _heard(moment, claim, since):
                return None
            seen = Seen.INFERRED if newest is None else Seen.OBSERVED
            thing = Thing(claim.thing.key, claim.thing.uid, claim.thing.generation, None)
            return self.words.persisted(moment.now, claim, seen, thing)
        if newest.seen.leaving:
            return None
        return self._too_late(track, claim, since, moment)

    def _too_late(
        self, track: Track, claim: Admitted, since: datetime, moment: Moment
    ) -> Statement | None:
        """Give up on a claim, once everything that happened in its time was seen."""
        due = since + self.rules.patience
        if moment.now < due or not _heard(moment, claim, due):
            return None
        watched = moment.watching is not None and moment.watching <= claim.decided
        if not watched and track.deletion is not None and claim.raises:
            return self._inferred(claim, moment)  # who deleted it had it before them
        cause = NotPersisted.UNSEEN if watched else NotPersisted.UNDETERMINED
        return self.words.not_persisted(moment.now, claim, cause)


def _claim_of(track: Track, state: State) -> Admitted | None:
    thing = state.seen.thing
    for claim, _ in track.claims.values():
        same = claim.thing.generation == thing.generation
        if claim.raises and same and claim.thing.spec in state.seen.specs:
            return claim
    return None


def _scale_of(track: Track, state: State) -> Admitted | None:
    wanted = fingerprint({"replicas": state.seen.replicas})
    for claim, _ in track.claims.values():
        if claim.scale and not claim.raises and claim.thing.spec == wanted:
            return claim
    return None


def _scaled_from(state: State, known: Known) -> int | None:
    """How many replicas there were, if nothing else is different; else None."""
    frame = state.seen.frame
    if frame is None or known.spec is None:
        return None
    if known.replicas is not None:
        return known.replicas if frame.is_with(known.replicas, known.spec) else None
    # Known from the ledger only, which has no number.
    if state.scaled is None or state.scaled[0] != known.spec:
        before = frame.replicas_of(known.spec, state.seen.replicas or 0)
        state.scaled = (known.spec, before)
    return state.scaled[1]


def _settled(track: Track, state: State, verdict: Verdict) -> None:
    state.verdict = verdict
    seen = state.seen
    explained = verdict is Verdict.EXPLAINED
    track.known = Known(seen.generation, seen.thing.spec, explained, seen.replicas)


def _unchanged(known: Known, state: State) -> bool:
    """Whether it is the state that is known: by its specification, or by its generation.

    An API server of a newer version shows defaults that the older one didn't have: another
    digest, and nobody wrote anything, or the generation would be another one.
    """
    same = known.generation == state.seen.generation
    if known.spec is None:  # two that have no digest needn't be the same
        return same and (known.generation > 0 or None in state.seen.specs)
    return (same and known.generation > 0) or known.spec in state.seen.specs


def _verdict_of(known: Known) -> Verdict:
    return Verdict.EXPLAINED if known.explained else Verdict.STRANGE


def _is_settled(state: State | None) -> TypeGuard[State]:
    return state is not None and state.verdict is not Verdict.OPEN


def _mark_of(track: Track, claim: Admitted) -> datetime | None:
    """Find a change of labels and the like that may be what a claim is about."""
    return next((mark for mark in track.marked if mark >= claim.decided - _SKEW), None)


def _specs_at(track: Track, generation: int) -> frozenset[Digest | None]:
    """Return what the specification was at a generation, as far as known."""
    state, known = track.states.get(generation), track.known
    found = frozenset() if state is None else state.seen.specs
    if known is not None and known.generation == generation and known.spec is not None:
        found |= {known.spec}
    return found


def _recorded(moment: Moment, at: datetime) -> bool:
    return moment.recorded is not None and moment.recorded > at


def _heard(moment: Moment, claim: Admitted, at: datetime) -> bool:
    heard = moment.heard.get(claim.thing.key.kind)
    return heard is not None and heard > at
