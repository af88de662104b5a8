"""What to do next about the webhook's certificates. Pure: from what is there to one step.

One rule keeps the cluster from being locked out: **a leaf is issued only by the authority of
the leaf before, or by one that the published webhook configuration has carried for the overlap
time; and what is published stays trusted until no leaf of its own was in use for the
grace time.** So whatever lags behind (an API server its configuration, a kubelet its mounted
Secret), the leaf that is served verifies under the bundle that is trusted. What is damaged
is mended by the same two waits, as a rotation; only before anything was published (then
nobody asks the webhook) is a leaf that can't be served replaced at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from cryptography.x509 import Certificate

from trailgate.model.errors import TrailgateError
from trailgate_operator.authority import Pair, issued_by, names_of, valid

_LAG = timedelta(minutes=3)
"""How long a kubelet may take to bring a changed Secret into a mounted volume."""
_SHORTEST_LEAF = timedelta(hours=1)
_SHORTEST_OVERLAP = timedelta(minutes=1)
_SHORTEST_GRACE = timedelta(minutes=5)
_LEAVES = 6
"""An authority lives at least so many leaves: the last third of its life outlasts one."""
_DUE = 3
"""Renewed when less than this part of a life is left: at two thirds of it."""
_WORTH = 10
"""A renewal that gains less than this part is none: the authority itself ends."""
_LATE = 6
"""Worth a word when less than this part is left: renewal had half its time in vain."""


class LifetimesError(TrailgateError):
    """Lifetimes that could lock the cluster out; the text says which and the minimum."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things live, and how long one waits for those who lag behind."""

    authority: timedelta = timedelta(days=365)
    leaf: timedelta = timedelta(days=30)
    overlap: timedelta = timedelta(minutes=10)
    """An authority is published so long before it issues a leaf."""
    grace: timedelta = timedelta(hours=1)
    """An authority is trusted so long after its last leaf was replaced."""

    def __post_init__(self) -> None:
        """Refuse what is shorter than what it waits for (``LifetimesError``)."""
        leaf = max(_SHORTEST_LEAF, _DUE * 2 * (self.overlap + _LAG))
        for name, value, least in (
            ("overlap", self.overlap, _SHORTEST_OVERLAP),
            ("grace", self.grace, _SHORTEST_GRACE),
            ("leaf lifetime", self.leaf, leaf),
            ("authority lifetime", self.authority, _LEAVES * self.leaf),
        ):
            if value < least:
                raise LifetimesError(f"certificates: got {name} {value}, expected at least {least}")


class Unknown(Enum):
    """What could not be read yet."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN


class Request(Enum):
    """What an administrator asks for by the annotation ``trailgate.dev/rotate``."""

    LEAF = "leaf"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class State:
    """Everything that decides."""

    trusted: tuple[Certificate, ...] = ()
    """The bundle: who is trusted as an issuer of leaves."""
    active: Pair | None = None
    """Issues leaves; one of ``trusted``."""
    joining: Pair | None = None
    """Will issue them, once it is published long enough; one of ``trusted``."""
    stray: bool = False
    """There is a key of a joining authority that can't be used."""
    leaf: Pair | None = None
    """What the webhook serves, or will as soon as its kubelet brings it."""
    published: tuple[Certificate, ...] | Unknown | None = UNKNOWN
    """The bundle of the webhook configuration in the cluster; None: not armed."""
    fresh: bool = False
    """Nothing is published, nor was ever seen to be: nobody can be locked out."""
    carried: Mapping[Certificate, timedelta] = field(default_factory=dict)
    """How long no published configuration was seen without this authority."""
    settled: timedelta = timedelta()
    """How long every leaf seen was one of the active authority's."""
    dropped: frozenset[Certificate] = frozenset()
    """Authorities that were taken out of the bundle on purpose."""
    asked: Request | None = None
    answered: bool = False
    """The leaf that was asked for is there."""
    begun: bool = False
    """A rotation that was asked for is under way."""
    foreign: tuple[str, ...] = ()
    """Secrets of our names that somebody else made."""
    damage: tuple[str, ...] = ()
    """What can't be used of ours, a line each; mended by the steps below."""
    written: datetime | None = None
    """When our Secrets were last written, by the API server's clock."""

    def issuer(self) -> Certificate | None:
        """Return the trusted issuer of the leaf; None where there is none, or no leaf."""
        if self.leaf is None:
            return None
        leaf = self.leaf.certificate
        return next((one for one in self.trusted if issued_by(leaf, one)), None)

    def covered(self) -> bool:
        """Whether publishing ``trusted`` takes no leaf out of service that somebody serves.

        What is published stays trusted until it is dropped on purpose: whatever became of
        our Secrets, a leaf of its may be in use.
        """
        if isinstance(self.published, Unknown):
            return self.issuer() is not None
        return set(self.published or ()) - self.dropped <= set(self.trusted)


@dataclass(frozen=True, slots=True)
class AddAuthority:
    """Make a new authority and trust it, beside ``trusted``; ``joining`` an active one."""

    trusted: tuple[Certificate, ...]
    joining: bool
    begun: bool
    why: str


@dataclass(frozen=True, slots=True)
class Trust:
    """Trust these: they are published, and the leaf in use may be one of theirs."""

    trusted: tuple[Certificate, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Promote:
    """Make the joining authority the active one. The key of the one before is destroyed."""

    why: str


@dataclass(frozen=True, slots=True)
class IssueLeaf:
    """Issue a leaf by the active authority."""

    why: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Trust the active authority alone; with ``answered`` the request is done."""

    answered: bool
    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Take the request away: it is done."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing now; ``problem`` says what is wrong and what to do, where something is."""

    problem: str | None = None


Step = AddAuthority | Trust | Promote | IssueLeaf | Drop | Answer | Wait


def plan(state: State, now: datetime, lifetimes: Lifetimes, names: Collection[str]) -> Step:
    """Say what to do next."""
    if state.foreign:
        return Wait(
            f"Secret {' and Secret '.join(state.foreign)}: not made by this operator, so it is "
            "left alone; delete it, or run with certificates of your own"
        )
    if state.written is not None and now < state.written - _LAG:
        return Wait(
            f"the clock went back: here it is {now:%Y-%m-%dT%H:%MZ}, and the API server wrote our "
            f"Secrets at {state.written:%Y-%m-%dT%H:%MZ}; until it is right nothing is issued"
        )
    return _Planner(state, now, lifetimes, names).step()


@dataclass(frozen=True, slots=True)
class _Planner:
    state: State
    now: datetime
    lifetimes: Lifetimes
    names: Collection[str]

    def step(self) -> Step:
        if self.state.asked is Request.LEAF and self.state.answered:
            return Answer("the leaf was renewed")
        for part in (self._mend, self._rotate, self._renew, self._retire, self._begin):
            if (step := part()) is not None:
                return step
        return self._wait()

    def _mend(self) -> Step | None:
        """Make good what is missing, by what is published."""
        state, active = self.state, self.state.active
        lost = active is None or not valid(active.certificate, self.now)
        if isinstance(state.published, Unknown) and (lost or not state.covered()):
            return Wait("waits for the webhook configuration to be read: what it trusts is kept")
        if lost:
            return self._succeed()
        if state.stray:
            return Trust(self._known(), "the next authority's key can't be used: it is put away")
        if not state.covered():
            return Trust(self._known(), "a leaf in use may be of an authority that is published")
        if not self._usable() and (state.fresh or self._carried(active)):
            return IssueLeaf(self._unusable())
        return None

    def _succeed(self) -> Step:
        """Find another active authority: the one there is can't issue any more."""
        state = self.state
        if state.joining is not None and valid(state.joining.certificate, self.now):
            return Promote("the active authority can't issue any more")
        why = "; ".join(state.damage) or "there is none"
        if state.active is not None:
            why = "the active one ended"
        return AddAuthority(self._known(), joining=False, begun=False, why=why)

    def _known(self) -> tuple[Certificate, ...]:
        """Return everyone whose leaf may be in use."""
        published = self.state.published
        others = () if isinstance(published, Unknown) else published or ()
        kept = [one for one in others if one not in self.state.dropped]
        return tuple(dict.fromkeys((*self.state.trusted, *kept)))

    def _rotate(self) -> Step | None:
        """Let the next authority take over."""
        state, active = self.state, self.state.active
        if active is None or not self._usable():
            return None
        if state.joining is not None and self._carried(state.joining):
            return Promote("the next authority is published long enough")
        if state.issuer() != active.certificate and self._carried(active):
            return IssueLeaf("the leaf is of another authority than the active one")
        return None

    def _renew(self) -> Step | None:
        """Replace the leaf by one of the same authority: who trusts this one trusts that one."""
        active = self.state.active
        if active is None or not self._usable() or self.state.issuer() != active.certificate:
            return None
        why = self._due()
        return None if why is None else IssueLeaf(why)

    def _retire(self) -> Step | None:
        """Drop an authority whose leaves are out of use."""
        state = self.state
        if not self._retired() or state.joining is not None or not self._settled():
            return None
        answered = state.asked is Request.AUTHORITY and state.begun
        return Drop(answered, "no leaf of the authority before is in use any more")

    def _begin(self) -> Step | None:
        """Begin a rotation of the authority, or end the request for one."""
        state, active = self.state, self.state.active
        if active is None or self._retired() or state.joining is not None:
            return None
        if state.issuer() != active.certificate:
            return None
        asked = state.asked is Request.AUTHORITY
        if asked and state.begun:
            return Answer("the authority was rotated")
        left = active.certificate.not_valid_after_utc - self.now
        if asked or left < self.lifetimes.authority / _DUE:
            why = "asked for" if asked else f"the active one ends in {left.days} days"
            return AddAuthority(state.trusted, joining=True, begun=asked, why=why)
        return None

    def _wait(self) -> Wait:
        """Nothing to do now; say what is wrong nevertheless."""
        state = self.state
        if state.damage:
            return Wait("; ".join(state.damage))
        if not self._usable():
            return Wait(f"{self._unusable()}; waits until the webhook configuration carries {_NEW}")
        assert state.leaf is not None
        left = state.leaf.certificate.not_valid_after_utc - self.now
        if left < self.lifetimes.leaf / _LATE:
            return Wait(
                f"the webhook's certificate ends in {left}, and is not renewed because the webhook "
                f"configuration doesn't carry {_NEW}: see why the operator doesn't arm"
            )
        return Wait()

    def _usable(self) -> bool:
        leaf = self.state.leaf
        return (
            leaf is not None
            and valid(leaf.certificate, self.now)
            and self.state.issuer() is not None
        )

    def _unusable(self) -> str:
        leaf = self.state.leaf
        if leaf is None:
            return "there is no leaf that can be served"
        if not valid(leaf.certificate, self.now):
            return f"the leaf ended at {leaf.certificate.not_valid_after_utc:%Y-%m-%dT%H:%MZ}"
        return "the leaf is of no authority that is trusted"

    def _due(self) -> str | None:
        """Say why the leaf is to be renewed; None where it isn't."""
        state = self.state
        assert state.leaf is not None
        assert state.active is not None
        leaf, issuer = state.leaf.certificate, state.active.certificate
        if state.asked is Request.LEAF:
            return "asked for"
        if not set(self.names) <= names_of(leaf):
            return "the leaf lacks a name"
        left = leaf.not_valid_after_utc - self.now
        end = min(self.now + self.lifetimes.leaf, issuer.not_valid_after_utc)
        gained = end - leaf.not_valid_after_utc
        if left < self.lifetimes.leaf / _DUE and gained > self.lifetimes.leaf / _WORTH:
            return f"the leaf ends in {left}"
        return None

    def _carried(self, authority: Pair | None) -> bool:
        if authority is None:
            return False
        since = self.state.carried.get(authority.certificate)
        return since is not None and since >= self.lifetimes.overlap

    def _settled(self) -> bool:
        active = self.state.active
        of_active = active is not None and self.state.issuer() == active.certificate
        return of_active and self._usable() and self.state.settled >= self.lifetimes.grace

    def _retired(self) -> Sequence[Certificate]:
        kept = {pair.certificate for pair in (self.state.active, self.state.joining) if pair}
        return [one for one in self.state.trusted if one not in kept]


_NEW = "the authority that is to issue the next one"
