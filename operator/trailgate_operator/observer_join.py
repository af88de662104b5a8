"""Admissions on one side, what is there on the other: the observer's core. Pure.

Claims and sights may come in any order, late, or twice: what is said depends on what
was there, not on who told it first. ``Join.due`` says what is new; the statements' keys
make sure that it stands in the trail once, also when a restart says it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from trailgate.assess.images import JOB, POD
from trailgate.ledger.record import Context
from trailgate.model.admission import Kind
from trailgate_operator.observer_past import Admitted, Known, Past
from trailgate_operator.observer_releases import Releases
from trailgate_operator.observer_seen import Seen
from trailgate_operator.observer_states import States
from trailgate_operator.observer_track import Moment, Rolled, Rules, State, Track, Verdict
from trailgate_operator.observer_windows import Window
from trailgate_operator.observer_words import Words
from trailgate_operator.trail import Statement

#: A pod, its ReplicaSet, its Deployment; or a pod, its Job, its CronJob.
_DEPTH: Final = 3


@dataclass(frozen=True, slots=True)
class Counts:
    """What a heartbeat says of the observer."""

    workloads: int
    unexplained: int


class Join:
    """All objects that are watched, and all claims that wait for an answer."""

    def __init__(self, context: Context, past: Past, rules: Rules | None = None) -> None:
        rules = rules or Rules()
        self._words = Words(context)
        self._rules = rules
        self._states = States(self._words, rules, Releases(self._words, rules))
        self._began = past.baseline
        self._tracks: dict[str, Track] = {}
        self._parts: dict[str, set[str]] = {}
        """Uids of what each object controls."""
        self._open: set[str] = set()
        self._empty: dict[str, datetime] = {}
        """Of whose object nothing is there, and since when; oldest first."""
        self._known, self._held = past.known, past.held
        for claim in past.claims.values():
            self.claim(claim, claim.decided)
        for uid in past.held:
            self._track(uid)

    def claim(self, claim: Admitted, now: datetime) -> None:
        """Take note of an ``admitted`` entry."""
        uid = claim.thing.uid or ""
        track = self._track(uid)
        track.claims[claim.change] = (claim, now)
        if claim.deletes:
            track.deletion = claim.change
        self._open.add(uid)

    def see(self, seen: Seen, now: datetime, *, armed: bool | None) -> None:
        """Take note of what an object looks like now."""
        track = self._track(seen.uid)
        before = track.newest
        state = track.note(seen, now, armed=armed)
        if state is None:
            return
        if before is not None and before.seen.controller not in (None, seen.controller):
            self._parts.get(before.seen.controller or "", set()).discard(seen.uid)
        if seen.controller is not None:
            self._parts.setdefault(seen.controller, set()).add(seen.uid)
        if seen.progress is not None:
            state.emptied |= seen.progress.empty
            state.completed |= seen.progress.done
        for above in self._above(track):
            self._roll(above)
            self._open.add(above.uid)

    def listed(
        self, kind: Kind, found: Iterable[Seen], now: datetime, *, armed: bool | None
    ) -> None:
        """Take note of all objects of a kind: what is not among them is gone."""
        there = set()
        for one in found:
            there.add(one.uid)
            self.see(one, now, armed=armed)
        for track in list(self._tracks.values()):
            if track.uid not in there and _kind_of(track) == kind:
                self.leave(track.uid, now)

    def leave(self, uid: str, now: datetime) -> None:
        """Take note that an object is gone."""
        track = self._tracks.get(uid)
        if track is not None and track.gone is None:
            track.gone = now
            self._open.add(uid)
            for above in self._above(track)[1:]:
                self._roll(above)
                self._open.add(above.uid)

    def due(self, moment: Moment) -> list[Statement]:
        """Say what is new."""
        said: list[Statement] = []
        self._adopt()
        for uid in sorted(self._open):
            track = self._tracks.get(uid)
            if track is None:
                continue
            said += self._states.settle(track, moment, began=self._began)
            said += self._states.answer(track, moment)
            track.forget()
            said += self._gone(track, moment)
            if track.empty:
                self._empty.setdefault(uid, moment.now)
        self._let_go(moment)
        said += self._baseline(moment)
        self._open = {uid for uid in self._open if not self._idle(uid)}
        return said

    @property
    def waiting(self) -> bool:
        """Whether something waits for its time, or for another part."""
        return bool(self._open)

    def down(self, since: datetime, until: datetime) -> Statement:
        """Say that nobody watched from then to then."""
        return self._words.down(until, since, until)

    def away(self, window: Window, now: datetime) -> Statement:
        """Say that the gate wasn't asked for a time."""
        return self._words.away(now, window)

    def counts(self) -> Counts:
        """Count root workloads."""
        roots = [
            state
            for track in self._tracks.values()
            if track.gone is None and (state := track.newest) is not None and not state.child
        ]
        strange = sum(state.verdict is Verdict.STRANGE for state in roots)
        return Counts(len(roots), strange)

    def _track(self, uid: str) -> Track:
        track = self._tracks.get(uid)
        if track is None:
            known = self._known.pop(uid, None)
            track = Track(uid, known=known, held=self._held.get(uid))
            track.holds = known is None or known.explained
            self._tracks[uid] = track
        return track

    def _above(self, track: Track) -> list[Track]:
        """Return an object and what controls it, upwards."""
        found = [track]
        for _ in range(_DEPTH - 1):
            newest = found[-1].newest
            controller = None if newest is None else newest.seen.controller
            above = None if controller is None else self._tracks.get(controller)
            if above is None:
                break
            found.append(above)
        return found

    def _adopt(self) -> None:
        """Take note of who has an owner, which another watch may have brought later."""
        for uid in self._open:
            track = self._tracks.get(uid)
            for state in () if track is None else track.states.values():
                controller = state.seen.controller
                if controller is not None and not state.child:
                    above = self._tracks.get(controller)
                    state.child = above is not None and above.newest is not None

    def _roll(self, track: Track) -> None:
        """Take note of what the pods of an object's newest state run, once they all do."""
        state = track.newest
        if state is None or state.seen.progress is None or not state.seen.progress.settled:
            return
        pods = [state.seen] if state.seen.kind == POD else list(self._pods(track.uid, _DEPTH))
        rolled = _rolled(state, pods)
        if rolled is not None:
            state.rolled = rolled

    def _pods(self, uid: str, depth: int) -> Iterator[Seen]:
        for part in self._parts.get(uid, ()):
            track = self._tracks.get(part)
            state = None if track is None or track.gone is not None else track.newest
            if state is None or state.seen.leaving:
                continue
            if state.seen.kind == POD:
                yield state.seen
            elif depth > 1:
                yield from self._pods(part, depth - 1)

    def _gone(self, track: Track, moment: Moment) -> list[Statement]:
        """Let go of what is gone, once everything that was admitted of it is known."""
        if track.gone is None or track.claims:
            return []
        if any(state.verdict is Verdict.OPEN for state in track.states.values()):
            return []
        if self._may_come(track.gone, moment):
            return []
        said = list(self._states.releases.left(track, moment.now))
        self._drop(track)
        return said

    def _may_come(self, since: datetime, moment: Moment) -> bool:
        """Whether a claim that was in the spool then may still come."""
        waited = moment.now - since > self._rules.overdue
        return not waited and (moment.recorded is None or moment.recorded <= since)

    def _let_go(self, moment: Moment) -> None:
        """Let go of objects that were never there: what was to be stored, and wasn't."""
        for uid, since in list(self._empty.items()):
            if self._may_come(since, moment):
                return
            del self._empty[uid]
            track = self._tracks.get(uid)
            if track is not None and track.empty:
                self._drop(track)
                if track.known is not None:  # of the ledger: not looked at yet, perhaps
                    self._known[uid] = track.known

    def _drop(self, track: Track) -> None:
        newest = track.newest
        controller = None if newest is None else newest.seen.controller
        if controller is not None:
            self._parts.get(controller, set()).discard(track.uid)
        self._parts.pop(track.uid, None)
        self._held.pop(track.uid, None)
        del self._tracks[track.uid]

    def _baseline(self, moment: Moment) -> list[Statement]:
        """Take the baseline: at the first look with an armed gate, once nothing is open."""
        if self._began or not moment.armed or moment.watching is None:
            return []
        prior = []
        for track in self._tracks.values():
            state = track.newest
            if state is not None and state.verdict is Verdict.OPEN and state.armed is not True:
                return []
            if state is not None and state.verdict is Verdict.PRIOR and track.gone is None:
                prior.append((track, state))
        for track, state in prior:
            state.verdict = Verdict.EXPLAINED
            seen = state.seen
            track.known = Known(
                seen.generation, seen.thing.spec, explained=True, replicas=seen.replicas
            )
        self._began = True
        return self._words.baseline(moment.now, (state.seen.thing for _, state in prior))

    def _idle(self, uid: str) -> bool:
        track = self._tracks.get(uid)
        return track is None or track.idle


def _kind_of(track: Track) -> Kind | None:
    newest = track.newest
    if newest is not None:
        return newest.seen.kind
    if track.held is not None:
        return track.held.claim.thing.key.kind
    return next((claim.thing.key.kind for claim, _ in track.claims.values()), None)


def _rolled(state: State, pods: Collection[Seen]) -> Rolled | None:
    """Say what the pods run; None while some are missing, or their nodes haven't said."""
    progress, kind = state.seen.progress, state.seen.kind
    assert progress is not None
    if not pods or (kind not in (JOB, POD) and len(pods) != progress.desired):
        return None
    for pod in pods:
        if pod.progress is None or not pod.progress.settled:
            return None
        if not pod.uses or not all(use.running for use in pod.uses):
            return None
    wanted = {use.name: use.image for use in state.seen.images}
    exact = all(_like(pod, wanted) for pod in pods)
    uses = tuple(pod.uses for pod in pods)
    return Rolled(uses, progress.desired, len(pods) if kind == JOB else progress.ready, exact)


def _like(pod: Seen, wanted: dict[str, str]) -> bool:
    """Whether a pod has what its root's template says; more may have been put beside it."""
    has = {use.name: use.image for use in pod.uses}
    volumes = {use.name for use in pod.images if use.name not in has}
    return all(has.get(name) == image for name, image in wanted.items() if name not in volumes)
