"""Verified facts about images, fetched once and kept: never a verdict, never an error.

How long a fact is taken as fresh bounds how long a registry (or who controls it) can
hide newer, negative evidence: see ``Freshness``. Fetching and verifying belong to
nobody's request; a request only waits, and may stop waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from trailgate.assess.cache import BoundedCache, BusyError, Flights, Slots
from trailgate.assess.pull import NO_SECRETS, OWN, Accounts, NoAccounts, PullSecrets
from trailgate.evidence.verify import verify
from trailgate.model.artifact import Attached
from trailgate.model.digest import Digest
from trailgate.model.evidence import (
    Evidence,
    Gathered,
    PublicKey,
    StatementKind,
    Unavailable,
    UnresolvedTag,
)
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason
from trailgate.oci.attached import fetch_attached
from trailgate.oci.errors import (
    CredentialsError,
    NotFoundError,
    OciError,
    UnauthorizedError,
)
from trailgate.oci.registry import Registry

_MIB = 1024 * 1024
_OVERHEAD = 1024

# By name, not "all kinds": a fifth kind must not make everything short-lived unasked.
_COMPLETE = frozenset(
    {
        StatementKind.SIGNATURE,
        StatementKind.PROVENANCE,
        StatementKind.TESTS,
        StatementKind.CHANGE,
    }
)

_Content = tuple[str, str, str, str]
"""Registry, repository, digest, and the account that saw it."""
_Facts = tuple[str, str, str, str, tuple[str, ...]]
"""The same, and the fingerprints of the verification material."""


@dataclass(frozen=True, slots=True)
class _Absent(Evidence):
    """What an account learned that the registry shows no such image."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from the fetch for which facts are taken as fresh.

    ``complete`` is the maximum age of negative evidence: for so long can an image
    with all four statements go on without a fifth being seen. An image of which a policy
    asks less, and which has less, stays ``partial``: what is missing may be there next,
    and the policy that will ask for it too. Such images are asked for every 30 seconds.
    """

    absent: float = 15.0
    """Nothing verified, or something could not be read: likely to be signed next."""
    partial: float = 30.0
    """Something verified, not all four kinds of statement, whatever the policy asks for."""
    complete: float = 300.0
    """Signature, provenance, tests and change record verified."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept and done at once."""

    content_bytes: int = 64 * _MIB
    facts_bytes: int = 64 * _MIB
    flights: int = 256
    """Images being fetched or verified, beyond which a request is told to come again."""
    host_flights: int = 192
    """The same for one registry: one that does not answer leaves room for the others."""
    fetches: int = 32
    """Images being fetched at the same time."""
    host_fetches: int = 8
    """The same from one registry."""
    threads: int = 2
    """For verification."""
    fetch_seconds: float = 30.0
    """For all requests of one image."""
    tag_seconds: float = 2.0
    """To say what a tag names."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    attached: Attached
    at: float
    weight: int


class RegistryEvidence:
    """``EvidenceSource`` and ``WarmSource`` on a registry client.

    ``named`` gives the registries that some policy names, read at each call: no other
    host is ever contacted. ``accounts`` are the pull secrets that may be used; what was
    learned by one answers no request that does not name it. Use it in one event loop, and
    ``close`` it there.
    """

    def __init__(
        self,
        registry: Registry,
        named: Callable[[], Collection[str]],
        *,
        accounts: Accounts | None = None,
        freshness: Freshness | None = None,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._named = named
        self._accounts = accounts or NoAccounts()
        self._freshness = freshness or Freshness()
        self._bounds = bounds or Bounds()
        self._clock = clock
        self._content = BoundedCache[_Content, _Fetched](self._bounds.content_bytes)
        self._facts = BoundedCache[_Facts, Evidence](self._bounds.facts_bytes)
        self._tags = BoundedCache[_Content, Digest](_MIB)
        most, share = self._bounds.flights, self._bounds.host_flights
        self._fetching = Flights[_Content, _Fetched](most, share=share, group=_host)
        self._verifying = Flights[_Facts, Evidence](most, share=share, group=_host)
        self._resolving = Flights[_Content, Digest](most, share=share, group=_host)
        self.warm = 0
        """How often facts were there at once."""
        self.fetched = 0
        """How often a registry was asked for all that is attached to an image."""
        self._slots = Slots(self._bounds.fetches, self._bounds.host_fetches)
        self._pool = ThreadPoolExecutor(self._bounds.threads, thread_name_prefix="verify")

    @property
    def evicted(self) -> int:
        """How many facts and contents were put out of the caches to make room."""
        return self._content.evicted + self._facts.evicted

    @property
    def in_flight(self) -> int:
        """How many images are being fetched or verified."""
        return len(self._verifying)

    @property
    def cached_bytes(self) -> int:
        """About how much is kept."""
        return self._content.weight + self._facts.weight + self._tags.weight

    async def close(self) -> None:
        """Stop everything that is under way."""
        await self._verifying.close()
        await self._fetching.close()
        await self._resolving.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def peek(
        self,
        image: ImageReference,
        keys: tuple[PublicKey, ...],
        secrets: PullSecrets = NO_SECRETS,
        *,
        running: bool = False,
    ) -> Gathered | None:
        """Return fresh facts without waiting; ``running``: or old ones that say something."""
        if image.digest is None:
            return None
        entries = [
            self._facts.get(_facts_key(image, image.digest, keys, account))
            for account in (OWN, *self._accounts.listed(secrets))
        ]
        now = self._clock()
        known = [one for one in entries if one is not None and one.fresh_until > now]
        telling = [
            one
            for one in entries
            if one is not None and one.value.statements and (running or one.fresh_until > now)
        ]
        if telling or len(known) == len(entries):  # nothing was seen, by no account
            self.warm += 1
            return (telling or known)[0].value
        return None

    async def gather(
        self,
        image: ImageReference,
        keys: tuple[PublicKey, ...],
        secrets: PullSecrets = NO_SECRETS,
    ) -> Gathered:
        """Return the facts, from the cache or the registry.

        What cannot be fetched is ``Unavailable`` and is asked for again next time.
        """
        if image.registry not in self._named():
            return Unavailable(image, f"{image.registry} is not named by any policy: not asked")
        if image.digest is None:
            return await self._resolve(image)
        found = self.peek(image, keys, secrets)
        if found is not None:
            return found
        try:
            return await self._asked(image, keys, secrets)
        except (OciError, TimeoutError, BusyError) as error:
            return Unavailable(image, self._cause(image, error))

    async def _asked(
        self, image: ImageReference, keys: tuple[PublicKey, ...], secrets: PullSecrets
    ) -> Gathered:
        """Ask with one account after the other, until one sees something that verifies.

        Our own comes first where it has an entry for the image: it is the admin's, while
        whoever may edit a namespace may also edit its secrets.
        """
        assert image.digest is not None
        listed = self._accounts.listed(secrets)
        own_first = not listed or self._accounts.covers(image)
        nothing: Evidence | None = None
        seen: Evidence | None = None
        refused: list[str] = []
        for account in (OWN, *listed) if own_first else (*listed, OWN):
            key = _facts_key(image, image.digest, keys, account)
            try:
                found = await self._seen(account, image, keys, key)
            except NotFoundError:
                found = self._absent(image.with_digest(image.digest), key)
            except (UnauthorizedError, CredentialsError) as error:
                refused.append(str(error))
                continue
            if found is not None and found.statements:
                return found
            nothing = nothing or found
            seen = seen or (None if isinstance(found, _Absent) else found)
        if seen is not None:  # who reads the image reads what is attached to it
            return seen
        if refused or nothing is None:  # who was turned away can't say that nothing is there
            return Unavailable(image, "; ".join([*refused, *_unread(secrets, listed)]))
        return nothing

    async def _seen(
        self, account: str, image: ImageReference, keys: tuple[PublicKey, ...], key: _Facts
    ) -> Evidence | None:
        """Return what one account sees; None where it has no credentials for the image."""
        entry = self._facts.get(key)
        if entry is not None and entry.fresh_until > self._clock():
            return entry.value
        registry: Registry | None = self._registry
        if account != OWN:
            registry = await self._accounts.open(account, image)
        if registry is None:
            return None
        there = registry
        return await self._verifying.join(key, lambda: self._verified(account, there, image, keys))

    async def recall(
        self,
        image: ImageReference,
        keys: tuple[PublicKey, ...],
        secrets: PullSecrets = NO_SECRETS,
    ) -> Evidence | None:
        """Verify content that was fetched at some time, without asking anybody."""
        if image.digest is None:
            return None
        for account in (OWN, *self._accounts.listed(secrets)):
            entry = self._content.get(_content_key(image, str(image.digest), account))
            if entry is not None:
                return await self._verify(entry.value.attached, keys)
        return None

    async def _verified(
        self, account: str, registry: Registry, image: ImageReference, keys: tuple[PublicKey, ...]
    ) -> Evidence:
        assert image.digest is not None
        key = _content_key(image, str(image.digest), account)
        fetched = self._content.get(key)
        if fetched is None or fetched.fresh_until <= self._clock():
            value = await self._fetching.join(key, lambda: self._fetch(registry, image, key))
        else:
            value = fetched.value
        evidence = await self._verify(value.attached, keys)
        self._facts.put(
            _facts_key(image, image.digest, keys, account),
            evidence,
            _OVERHEAD + 2 * value.weight,
            value.at + self._fresh_for(evidence, value.attached),
        )
        return evidence

    async def _fetch(self, registry: Registry, image: ImageReference, key: _Content) -> _Fetched:
        async with asyncio.timeout(self._bounds.fetch_seconds), self._slots.of(image.registry):
            at = self._clock()
            self.fetched += 1
            attached = await fetch_attached(registry, image)
        weight = _OVERHEAD + sum(_OVERHEAD + len(item.content) for item in attached.artifacts)
        fetched = _Fetched(attached, at, weight)
        fresh = self._freshness.partial if attached.artifacts else self._freshness.absent
        self._content.put(key, fetched, weight, at + fresh)
        return fetched

    async def _verify(self, attached: Attached, keys: Sequence[PublicKey]) -> Evidence:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, verify, attached, keys)

    def _cause(self, image: ImageReference, error: Exception) -> str:
        if isinstance(error, BusyError):
            return "too many images are being fetched"
        if isinstance(error, TimeoutError):
            return f"{image.registry}: not done after {self._bounds.fetch_seconds:g} s"
        return str(error)

    def _fresh_for(self, evidence: Evidence, attached: Attached) -> float:
        unread = attached.skipped or any(r.reason is Reason.INTERNAL for r in evidence.rejected)
        if unread or not evidence.statements:
            return self._freshness.absent
        kinds = {statement.kind for statement in evidence.statements}
        return self._freshness.complete if kinds >= _COMPLETE else self._freshness.partial

    def _absent(self, image: ImageReference, key: _Facts) -> Evidence:
        """Keep for a moment that the registry has no such image."""
        evidence = _Absent(image, ())
        self._facts.put(key, evidence, _OVERHEAD, self._clock() + self._freshness.absent)
        return evidence

    async def _resolve(self, image: ImageReference) -> UnresolvedTag:
        """Say what a tag names now, if that is quick to learn: it explains, it proves nothing."""
        key = _content_key(image, image.tag or "latest")
        entry = self._tags.get(key)
        if entry is not None and entry.fresh_until > self._clock():
            return UnresolvedTag(image, entry.value)
        try:
            async with asyncio.timeout(self._bounds.tag_seconds):
                digest = await self._resolving.join(key, lambda: self._ask_tag(image, key))
        except (OciError, TimeoutError, BusyError):
            return UnresolvedTag(image)
        return UnresolvedTag(image, digest)

    async def _ask_tag(self, image: ImageReference, key: _Content) -> Digest:
        async with asyncio.timeout(self._bounds.fetch_seconds), self._slots.of(image.registry):
            digest = await self._registry.resolve(image)
        self._tags.put(key, digest, _OVERHEAD, self._clock() + self._freshness.absent)
        return digest


def _host(key: _Content | _Facts) -> str:
    return key[0]


def _content_key(image: ImageReference, reference: str, account: str = OWN) -> _Content:
    return image.registry, image.repository, reference, account


def _facts_key(
    image: ImageReference, digest: Digest, keys: tuple[PublicKey, ...], account: str
) -> _Facts:
    fingerprints = tuple(key.fingerprint for key in keys)
    return image.registry, image.repository, digest.hex, account, fingerprints


def _unread(secrets: PullSecrets, listed: Collection[str]) -> list[str]:
    """Say which secrets of the Pod were left alone, because nobody listed them."""
    names = (f"{secrets.namespace}/{name}" for name in secrets.names)
    unread = [name for name in names if name not in listed]
    hint = f"not read: {', '.join(unread)} (--image-pull-secret)"
    return [hint] if unread else []
