"""Signing in to a registry: challenges, tokens, and who may see a password.

Token flow: https://distribution.github.io/distribution/spec/auth/token/ and
https://distribution.github.io/distribution/spec/auth/oauth/
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode
from weakref import WeakValueDictionary

import msgspec
from yarl import URL

from trailgate.model.image import ImageReference
from trailgate.oci.credentials import Credential, CredentialSource
from trailgate.oci.errors import ProtocolError, UnauthorizedError
from trailgate.oci.guard import Guard

_DEFAULT_LIFE: Final = 60
_LONGEST_LIFE: Final = 3600
_MARGIN: Final = 5
_KEPT: Final = 1024
_OK: Final = 200
_DENIED: Final = (400, 401, 403)
_SCHEME: Final = re.compile(r"(?:^|,)\s*(bearer|basic)(?=\s|,|$)", re.IGNORECASE)
_PARAMETER: Final = re.compile(r'([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,65536}")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One ``WWW-Authenticate`` offer that we can take up."""

    bearer: bool
    realm: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is sent to a token realm."""

    url: URL
    headers: Mapping[str, str] = field(repr=False)
    form: bytes | None = field(repr=False)
    """A POST's body; None for a GET."""


FetchToken = Callable[[TokenRequest], Awaitable[tuple[int, bytes]]]
"""Sends it (no redirects, bounded body) and returns status and body."""


class _Answer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: int | None = None


_DECODER = msgspec.json.Decoder(_Answer)

_Key = tuple[str, str, Credential | None]


class Authenticator:
    """Finds the ``Authorization`` header for a request; keeps tokens until they expire.

    The scope that is asked for is our own, never the challenge's: a registry
    can't make us ask for more than the request needs.
    """

    def __init__(
        self,
        guard: Guard,
        credentials: CredentialSource,
        fetch: FetchToken,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self._credentials = credentials
        self._fetch = fetch
        self._clock = clock
        self._challenges: OrderedDict[str, Challenge] = OrderedDict()
        self._tokens: OrderedDict[_Key, tuple[str, float]] = OrderedDict()
        self._locks: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    async def known(self, image: ImageReference, *, push: bool) -> str | None:
        """Return the header that this registry is known to want; None before it asked."""
        challenge = self._challenges.get(image.registry)
        credential = self._credentials.find(image)
        if credential is not None and credential.registry_token:
            return f"Bearer {_header_safe(credential.registry_token, image)}"
        if challenge is None:
            return None
        return await self._header(challenge, credential, image, push=push)

    async def challenged(
        self, image: ImageReference, offers: Iterable[str], used: str | None, *, push: bool
    ) -> str:
        """Answer a 401, given the header that was refused; ``UnauthorizedError``."""
        challenge = choose(offers)
        credential = self._credentials.find(image)
        if challenge is None or (credential is not None and credential.registry_token):
            raise UnauthorizedError(f"{image.registry}: 401, {self.tried(image)}")
        key = (image.registry, _scope(image, push=push), credential)
        kept = self._tokens.get(key)
        if kept is not None and used == f"Bearer {kept[0]}":
            del self._tokens[key]
        self._challenges[image.registry] = challenge
        _trim(self._challenges)
        header = await self._header(challenge, credential, image, push=push)
        if header == used:
            raise UnauthorizedError(f"{image.registry}: 401, {self.tried(image)}")
        return header

    def tried(self, image: ImageReference) -> str:
        """Say which credentials a request for the image is made with."""
        credential = self._credentials.find(image)
        if credential is not None:
            return f"tried {credential.source}"
        return (
            f"asked without credentials (none for {image.name} in: {self._credentials.describe()})"
        )

    async def _header(
        self,
        challenge: Challenge,
        credential: Credential | None,
        image: ImageReference,
        *,
        push: bool,
    ) -> str:
        if not challenge.bearer:
            if credential is None or credential.basic is None:
                raise UnauthorizedError(
                    f"{image.registry}: it wants user and password, {self.tried(image)}"
                )
            return credential.basic
        key = (image.registry, _scope(image, push=push), credential)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # one request for a token, however many wait for it
            kept = self._tokens.get(key)
            if kept is None or kept[1] <= self._clock():
                kept = await self._issue(challenge, credential, image, key[1])
                self._tokens[key] = kept
                _trim(self._tokens)
        return f"Bearer {kept[0]}"

    async def _issue(
        self, challenge: Challenge, credential: Credential | None, image: ImageReference, scope: str
    ) -> tuple[str, float]:
        """Fetch a token; returns it and when it expires on our clock."""
        try:
            realm = URL(challenge.realm, encoded=True)
        except ValueError:
            raise ProtocolError(f"{image.registry}: its token realm is not a URL") from None
        self._guard.admit_realm(image.registry, realm)
        asked_at = self._clock()
        status, body = await self._fetch(_token_request(realm, challenge, credential, scope))
        if status in _DENIED:
            raise UnauthorizedError(
                f"{image.registry}: {realm.raw_host} issued no token ({status}), "
                f"{self.tried(image)}"
            )
        if status != _OK:
            raise ProtocolError(
                f"{image.registry}: {realm.raw_host} answered {status} to a request for a token"
            )
        try:
            answer = _DECODER.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ProtocolError(
                f"{image.registry}: {realm.raw_host} answered with something that is no token"
            ) from None
        stated = _DEFAULT_LIFE if answer.expires_in is None else answer.expires_in
        life = min(max(stated, 0), _LONGEST_LIFE)
        token = _header_safe(answer.token or answer.access_token, image)
        return token, asked_at + max(life - _MARGIN, 0)


def choose(offers: Iterable[str]) -> Challenge | None:
    """Take the best of the ``WWW-Authenticate`` headers: bearer before basic."""
    found: list[Challenge] = []
    for offer in offers:
        marks = list(_SCHEME.finditer(offer))
        ends = [mark.start() for mark in marks[1:]] + [len(offer)]
        for mark, end in zip(marks, ends, strict=False):  # one end too many without a mark
            text = offer[mark.end() : end]
            values = {
                name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else bare
                for name, quoted, bare in _PARAMETER.findall(text)
            }
            bearer = mark[1].lower() == "bearer"
            if not bearer or values.get("realm"):
                found.append(Challenge(bearer, values.get("realm", ""), values.get("service", "")))
    return max(found, key=lambda challenge: challenge.bearer, default=None)


def _token_request(
    realm: URL, challenge: Challenge, credential: Credential | None, scope: str
) -> TokenRequest:
    query = [("service", challenge.service)] if challenge.service else []
    query.append(("scope", scope))
    if credential is not None and credential.identity_token:
        form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", credential.identity_token),
            ("client_id", "trailgate"),
            *query,
        ]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return TokenRequest(realm, headers, urlencode(form).encode())
    basic = credential.basic if credential is not None else None
    separator = "&" if realm.raw_query_string else "?"
    url = URL(f"{realm.with_fragment(None)}{separator}{urlencode(query)}", encoded=True)
    return TokenRequest(url, {"Authorization": basic} if basic else {}, None)


def _scope(image: ImageReference, *, push: bool) -> str:
    return f"repository:{image.repository}:{'pull,push' if push else 'pull'}"


def _header_safe(token: str, image: ImageReference) -> str:
    if not _TOKEN.fullmatch(token):
        raise ProtocolError(f"{image.registry}: got a token that doesn't fit into a header")
    return token


def _trim(table: OrderedDict[_Key, tuple[str, float]] | OrderedDict[str, Challenge]) -> None:
    while len(table) > _KEPT:
        table.popitem(last=False)
