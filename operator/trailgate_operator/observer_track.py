"""What the observer knows of one object: its states, its claims, what it holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from trailgate.model.admission import Kind
from trailgate.model.digest import Digest
from trailgate_operator.observer_past import Admitted, Held, Known
from trailgate_operator.observer_seen import ImageUse, Seen


@dataclass(frozen=True, slots=True)
class Rules:
    """How long is waited for what."""

    settle: timedelta = timedelta(seconds=10)
    """For what explains a state: its owner, in another watch."""
    patience: timedelta = timedelta(seconds=60)
    """For an admitted change to be stored."""
    odd: timedelta = timedelta(seconds=30)
    """For pods to be those of the newest state."""
    overdue: timedelta = timedelta(minutes=30)
    """For a recorder that can't empty the spool: then what nothing explains is told."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When it is looked at what is due, and how far the others are."""

    now: datetime
    recorded: datetime | None
    """All that can be recorded of what was in the spool then stands in the ledger, and came
    here as claims."""
    heard: Mapping[Kind, datetime]
    """Of which kinds everything that happened before was seen."""
    watching: datetime | None
    """Since when everything was seen, without a break."""
    armed: bool | None
    """Whether the gate is armed now; None: not known."""


class Verdict(Enum):
    """What is said of a state."""

    OPEN = "open"
    EXPLAINED = "explained"
    STRANGE = "strange"
    """A discrepancy was told, of it or of what it was scaled from."""
    PRIOR = "prior"
    """Nothing explains it, and the gate has never been armed: it may become baseline."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """What the pods of a state ran, once it was rolled out."""

    uses: tuple[tuple[ImageUse, ...], ...]
    """Of each pod."""
    desired: int
    ready: int
    exact: bool
    """Whether every container has the image that the state's template says."""


@dataclass(slots=True)
class State:
    """One generation of an object."""

    seen: Seen
    at: datetime
    """When it was first seen."""
    armed: bool | None
    verdict: Verdict = Verdict.OPEN
    rolled: Rolled | None = None
    odd: datetime | None = None
    """Since when its pods are not quite its template's."""
    child: bool = False
    """Whether a workload that makes such objects was there beside it."""
    scaled: tuple[Digest, int | None] | None = None
    """Of which specification this one differs in replicas only: how many those were."""
    emptied: bool = False
    completed: bool = False


@dataclass(slots=True)
class Track:
    """One object."""

    uid: str
    states: dict[int, State] = field(default_factory=dict)
    """By generation; the newest, and older ones that aren't settled."""
    claims: dict[Digest, tuple[Admitted, datetime]] = field(default_factory=dict)
    """Without an answer, and since when they are here."""
    known: Known | None = None
    """The newest state that was settled."""
    held: Held | None = None
    holds: bool = True
    """Whether what is there now is still what ``held`` brought, but for replicas."""
    gone: datetime | None = None
    deletion: Digest | None = None
    """The deletion that was admitted."""
    marked: list[datetime] = field(default_factory=list)
    """Changes of labels and the like that no claim has been found for."""
    strange: frozenset[Digest] = frozenset()
    """Digests that were told to run without having been admitted."""

    @property
    def newest(self) -> State | None:
        """Its newest state, if it was seen."""
        return self.states[max(self.states)] if self.states else None

    @property
    def idle(self) -> bool:
        """Whether nothing is to be said of it until something happens."""
        newest = self.newest
        open_ = any(s.verdict is Verdict.OPEN for s in self.states.values())
        odd = newest is not None and newest.odd is not None
        return not self.claims and not open_ and not odd and self.gone is None

    @property
    def empty(self) -> bool:
        """Whether nothing was seen of it, nothing is held by it, and nothing waits."""
        return not self.states and not self.claims and self.held is None and self.gone is None

    def note(self, seen: Seen, now: datetime, *, armed: bool | None) -> State | None:
        """Take note of what it looks like now; returns that state, None if that is older news."""
        before = self.newest
        if before is not None and seen.generation < before.seen.generation:
            return None  # an old page of a list
        state = self.states.get(seen.generation)
        if state is None or not (state.seen.specs & seen.specs):
            self.states[seen.generation] = State(seen, now, armed)
        else:
            if state.seen.marks != seen.marks:
                self.marked.append(now)
            state.seen = seen
        self.gone = None
        return self.states[seen.generation]

    def forget(self) -> None:
        """Let go of older states of which everything was said."""
        newest = max(self.states, default=0)
        for generation in [g for g in self.states if g < newest]:
            if self.states[generation].verdict is not Verdict.OPEN:
                del self.states[generation]
        del self.marked[:-8]
