"""The loop that keeps the webhook's certificates: issued, renewed, rotated with overlap."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography.x509 import Certificate

from trailgate_kube import logs
from trailgate_kube.errors import (
    AlreadyExistsError,
    ConfigurationError,
    ConflictError,
    KubeError,
    NotFoundError,
)
from trailgate_operator.authority import (
    BACKDATE,
    PairError,
    bundle_pem,
    issue,
    new_authority,
    read_bundle,
)
from trailgate_operator.certificates_metrics import CertificateMetrics
from trailgate_operator.certificates_plan import (
    UNKNOWN,
    AddAuthority,
    Answer,
    Drop,
    IssueLeaf,
    Lifetimes,
    Promote,
    Request,
    State,
    Step,
    Trust,
    Unknown,
    Wait,
    plan,
)
from trailgate_operator.certificates_state import (
    ACTIVE_KEY,
    AUTHORITY,
    JOINING_KEY,
    SERVING,
    Stored,
    touched,
)
from trailgate_operator.keyring_secret import Secret, SecretBox
from trailgate_operator.loops import Routine, WaitingError
from trailgate_operator.metrics import LoopMetrics

_EVERY = 15.0
_SECOND = 1.1
_MOST_STEPS = 12
"""In one pass; what takes more is fighting with somebody."""

Published = Callable[[], bytes | None]
"""The bundle (PEM) of the webhook configuration that is in the cluster; None where there is
none. Raises ``KubeError`` until that was read: not known is not the same as not armed. Where
its entries differ: those that all of them have."""


def _now() -> datetime:
    return datetime.now(UTC)


class Certificates:
    """The loop; see ``certificates_plan`` for what it does when."""

    name = "certificates"

    def __init__(
        self,
        secrets: SecretBox,
        names: Sequence[str],
        published: Published,
        metrics: CertificateMetrics,
        loops: LoopMetrics,
        *,
        lifetimes: Lifetimes | None = None,
        changed: Callable[[], None] = lambda: None,
        most_ahead: timedelta = BACKDATE / 2,
        clock: Callable[[], datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``names`` the leaf has (``authority.service_names``); ``changed`` after each step."""
        self._secrets, self._names, self._published = secrets, tuple(names), published
        self._metrics, self._changed = metrics, changed
        self._lifetimes = lifetimes or Lifetimes()
        self._clock, self._monotonic, self._most_ahead = clock, monotonic, most_ahead
        self._carried: dict[Certificate, float] = {}
        """Since when no published configuration was seen without it. Waits are measured by a
        clock that never goes back, and begin anew with the process: longer, never shorter."""
        self._settled: tuple[Certificate, float] | None = None
        """Since when every leaf seen was one of this active authority's."""
        self._seen = False
        """A published configuration was seen."""
        self._dropped: set[Certificate] = set()
        self._answered = False
        """A new leaf that was asked for is there; what asks is still to be taken away."""
        self._bundle: bytes | None = None
        self._routine = Routine(self.name, self.once, loops, every=_EVERY)

    def bundle(self) -> bytes | None:
        """Return what the webhook configuration is to trust (PEM), as it is stored.

        None until there is something, and where publishing it could take a leaf out
        of service: leave what is published as it is.
        """
        return self._bundle

    def problem(self) -> str | None:
        """Say what keeps it from its work, and what to do; None when nothing does."""
        return self._routine.problem()

    def wake(self) -> None:
        """Look now: the published configuration may have changed."""
        self._routine.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``; what passes by itself is waited out."""
        await self._routine.run(stop)

    async def once(self) -> float | None:
        """Take every step that can be taken now; raises ``KubeError`` or ``WaitingError``."""
        for _ in range(_MOST_STEPS):
            stored = Stored(await self._secrets.get(AUTHORITY), await self._secrets.get(SERVING))
            state = self._state(stored)
            self._note(state)
            step = plan(state, self._clock(), self._lifetimes, self._names)
            if isinstance(step, Wait):
                if step.problem is not None:
                    raise WaitingError(step.problem)
                return None
            try:
                await self._take(step, state, stored)
            except (AlreadyExistsError, ConflictError, NotFoundError) as error:
                # Somebody else wrote: what to do follows from what is there now.
                logs.write(logging.INFO, "certificates: look again", detail=str(error))
                continue
            name = type(step).__name__
            self._metrics.took(name)
            logs.write(logging.INFO, "certificates: a step", step=name, why=step.why)
        raise WaitingError(
            f"somebody else keeps changing Secret {AUTHORITY} or Secret {SERVING}: find out who"
        )

    def _state(self, stored: Stored) -> State:
        trusted, no_bundle = stored.trusted()
        self._dropped.difference_update(trusted)  # it came back, or never went
        active, no_active = stored.signer(ACTIVE_KEY, trusted)
        joining, no_joining = stored.signer(JOINING_KEY, trusted)
        leaf, no_leaf = stored.leaf()
        asked, no_request = stored.asked()
        published = self._read_published()
        damage = (no_bundle, no_active, no_joining, no_leaf, no_request)
        if asked is not Request.LEAF:
            self._answered = False
        state = State(
            trusted=trusted,
            active=active,
            joining=joining,
            stray=no_joining is not None,
            leaf=leaf,
            published=published,
            carried=self._carry(trusted, published),
            fresh=published is None and not self._seen,
            dropped=frozenset(self._dropped),
            asked=asked,
            answered=self._answered,
            begun=stored.begun(),
            foreign=stored.foreign(),
            damage=tuple(text for text in damage if text),
            written=stored.written(),
        )
        return self._settle(state)

    def _read_published(self) -> tuple[Certificate, ...] | Unknown | None:
        try:
            found = self._published()
        except ConfigurationError:
            raise
        except KubeError:
            return UNKNOWN
        if found is None:
            return None
        self._seen = True
        try:
            return read_bundle(found)
        except PairError:
            return ()  # it trusts nobody, whatever it is

    def _carry(
        self,
        trusted: Sequence[Certificate],
        published: tuple[Certificate, ...] | Unknown | None,
    ) -> dict[Certificate, timedelta]:
        now = self._monotonic()
        seen = () if isinstance(published, Unknown) else published
        carried = trusted if seen is None else [one for one in trusted if one in seen]
        self._carried = {one: self._carried.get(one, now) for one in carried}
        return {one: timedelta(seconds=now - since) for one, since in self._carried.items()}

    def _settle(self, state: State) -> State:
        issuer = state.issuer()
        if state.active is None or issuer != state.active.certificate:
            self._settled = None
            return state
        now = self._monotonic()
        if self._settled is None or self._settled[0] != issuer:
            self._settled = (issuer, now)
        return replace(state, settled=timedelta(seconds=now - self._settled[1]))

    def _note(self, state: State) -> None:
        """Make public what is stored."""
        good = state.active is not None and state.covered()
        before = self._bundle
        self._bundle = bundle_pem(state.trusted) if good and not state.foreign else None
        for name, pair in (("leaf", state.leaf), ("authority", state.active)):
            end = None if pair is None else pair.certificate.not_valid_after_utc
            self._metrics.ends(name, end)
        if self._bundle != before:
            self._changed()

    async def _take(self, step: Step, state: State, stored: Stored) -> None:
        if isinstance(step, IssueLeaf):
            await self._issue(state, stored)
        elif isinstance(step, Answer):
            assert stored.authority is not None
            await self._secrets.replace(stored.authority.annotated(rotate=None, rotating=None))
        else:
            await self._put(self._authority(step, state, stored))

    async def _issue(self, state: State, stored: Stored) -> None:
        assert state.active is not None
        await self._check_clock(stored)
        leaf = issue(state.active, self._names, self._clock(), self._lifetimes.leaf)
        await self._put(stored.with_leaf(leaf))
        self._answered = state.asked is Request.LEAF

    async def _check_clock(self, stored: Stored) -> None:
        """Hold our clock against the API server's: a leaf that is not valid yet locks out.

        It tells the time of a write, in whole seconds. Where it doesn't, ours is believed.
        """
        assert stored.authority is not None
        secret, before = stored.authority, touched(stored.authority)
        there, now = before, self._clock()
        for pause in (0.0, _SECOND):
            await asyncio.sleep(pause)
            now = self._clock()
            text = now.isoformat(timespec="milliseconds")
            secret = await self._secrets.replace(secret.annotated(**{"last-issued": text}))
            there = touched(secret)
            if there is None or there != before:
                break
        if there is None or there == before or now - there <= self._most_ahead:
            return
        raise WaitingError(
            f"the clock is ahead: here it is {now:%Y-%m-%dT%H:%MZ}, at the API server "
            f"{there:%Y-%m-%dT%H:%MZ}; until it is right no leaf is issued"
        )

    def _authority(self, step: Step, state: State, stored: Stored) -> Secret:
        """Return the authority's Secret as it is after a step."""
        if isinstance(step, AddAuthority):
            made = new_authority(self._clock(), self._lifetimes.authority)
            trusted = (made.certificate, *step.trusted)
            if not step.joining or state.active is None:
                return stored.with_authority(trusted, made, None).annotated(rotating=None)
            secret = stored.with_authority(
                (state.active.certificate, *_others(trusted, state.active.certificate)),
                state.active,
                made,
            )
            return secret.annotated(rotating="asked" if step.begun else None)
        if isinstance(step, Promote):
            assert state.joining is not None
            chosen = state.joining
            others = _others(state.trusted, chosen.certificate)
            return stored.with_authority((chosen.certificate, *others), chosen, None)
        assert state.active is not None
        if isinstance(step, Trust):
            return stored.with_authority(step.trusted, state.active, state.joining)
        self._dropped.update(_others(state.trusted, state.active.certificate))
        secret = stored.with_authority([state.active.certificate], state.active, None)
        secret = secret.annotated(rotating=None)
        return secret.annotated(rotate=None) if isinstance(step, Drop) and step.answered else secret

    async def _put(self, secret: Secret) -> None:
        if secret.read is None:
            await self._secrets.create(secret)
        else:
            await self._secrets.replace(secret)


def _others(all_: Sequence[Certificate], one: Certificate) -> Sequence[Certificate]:
    return [other for other in all_ if other != one]
