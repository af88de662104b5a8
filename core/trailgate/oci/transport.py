"""HTTP to registries, guarded: hosts, addresses, redirects, times, sizes, credentials."""

from __future__ import annotations

import asyncio
import io
import random
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Final, Self

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from trailgate import __version__
from trailgate.model.image import ImageReference
from trailgate.oci.auth import Authenticator, TokenRequest
from trailgate.oci.credentials import CredentialSource
from trailgate.oci.errors import (
    ConflictError,
    NotFoundError,
    OciError,
    ProtocolError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from trailgate.oci.failures import converted
from trailgate.oci.guard import Guard, GuardedResolver, guarded_socket
from trailgate.oci.limits import Limits

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_TEMPORARY: Final = (429, 500, 502, 503, 504)
_SAFE: Final = ("GET", "HEAD")
_SMALL: Final = 64 * 1024
_ATTEMPTS: Final = 4
_PIECE: Final = 64 * 1024
_ERROR: Final = 400


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to an image's registry, under ``/v2/<repository>/`` unless ``url`` says."""

    image: ImageReference
    method: str
    path: str
    limit: int = 0
    """Bytes of answer that are accepted."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    url: URL | None = None
    push: bool = False
    """Ask for a token that may write."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers, and a body within the limit (empty where it wasn't wanted)."""

    url: URL
    status: int
    headers: CIMultiDictProxy[str]
    content: bytes = field(repr=False)


class Transport:
    """A pool of connections to the registries that the guard admits."""

    def __init__(
        self,
        guard: Guard,
        credentials: CredentialSource,
        limits: Limits,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._limits = limits
        self._tls = tls
        self._auth = Authenticator(guard, credentials, self._fetch_token)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, ask: Ask, expect: Collection[int]) -> Answer:
        """Send it, signed in where needed; any ``OciError`` if the status isn't expected.

        A read that got 429 or a 5xx is tried again when the registry says when
        (or shortly), as long as the operation's time allows. (Distribution 2
        answers 500 while somebody else writes the same tag.)
        """
        registry = ask.image.registry
        base = self._guard.admit(registry)
        total = self._limits.upload if ask.push else self._limits.total
        try:
            async with asyncio.timeout(total) as scope:
                for attempt in range(1, _ATTEMPTS + 1):
                    answer = await self._signed_in(ask, base)
                    if answer.status in expect:
                        return answer
                    error = self._failure(ask, answer)
                    if answer.status not in _TEMPORARY or ask.method not in _SAFE:
                        raise error
                    asked = _retry_after(answer)
                    wait = _backoff(attempt) if asked is None else asked
                    ends = scope.when() or 0.0
                    if attempt == _ATTEMPTS or asyncio.get_running_loop().time() + wait >= ends:
                        raise error
                    await asyncio.sleep(wait)
        except TimeoutError:
            raise UnavailableError(f"{registry}: no complete answer within {total:g} s") from None
        raise AssertionError  # the loop always returns or raises

    async def _signed_in(self, ask: Ask, base: URL) -> Answer:
        header = await self._auth.known(ask.image, push=ask.push)
        answer = await self._follow(ask, base, header)
        if answer.status == 401 and answer.url.origin() == base.origin():  # noqa: PLR2004
            offers = answer.headers.getall("WWW-Authenticate", [])
            header = await self._auth.challenged(ask.image, offers, header, push=ask.push)
            answer = await self._follow(ask, base, header)
        return answer

    async def _follow(self, ask: Ask, base: URL, authorization: str | None) -> Answer:
        """Send it along redirects; credentials stay with the first origin, for good."""
        registry = ask.image.registry
        url = ask.url or base.join(URL(f"/v2/{ask.image.repository}/{ask.path}", encoded=True))
        headers = CIMultiDict(ask.headers)
        if authorization:
            headers["Authorization"] = authorization
        for _ in range(self._limits.redirects + 1):
            answer = await self._exchange(ask.method, url, headers, ask.body, ask.limit)
            if answer.status not in _REDIRECTS or ask.method not in _SAFE:
                return answer
            url = location(registry, answer)
            self._guard.admit_redirect(registry, base, url)
            if url.origin() != base.origin():
                headers.popall("Authorization", None)
        raise ProtocolError(f"{registry}: more than {self._limits.redirects} redirects")

    async def _fetch_token(self, request: TokenRequest) -> tuple[int, bytes]:
        method = "GET" if request.form is None else "POST"
        headers = CIMultiDict(request.headers)
        answer = await self._exchange(method, request.url, headers, request.form, _SMALL)
        if answer.status in _TEMPORARY:
            raise UnavailableError(
                f"{request.url.raw_host}: {answer.status} to a request for a token",
                _retry_after(answer),
            )
        return answer.status, answer.content

    async def _exchange(
        self,
        method: str,
        url: URL,
        headers: CIMultiDict[str],
        body: bytes | None,
        limit: int,
    ) -> Answer:
        """Send one request and read one answer, converting every failure."""
        host = url.raw_authority
        # As a stream: aiohttp warns of bytes that are large enough to hold up the loop.
        data = None if body is None else io.BytesIO(body)
        try:
            async with self._opened().request(
                method, url, headers=headers, data=data, allow_redirects=False
            ) as response:
                content = await _read(response, method, limit)
                return Answer(url, response.status, response.headers, content)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            raise converted(error, host, self._limits) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._limits.connections * 4,
                limit_per_host=self._limits.connections,
                resolver=GuardedResolver(self._guard),
                socket_factory=guarded_socket,
                ssl=self._tls or True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": f"trailgate/{__version__}", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._limits.connect, sock_read=self._limits.read
                ),
            )
        return self._session

    def _failure(self, ask: Ask, answer: Answer) -> OciError:
        host, status = answer.url.raw_authority, answer.status
        what = f"{ask.method} {ask.image.repository}/{ask.path.partition('?')[0]}"
        match status:
            case 401 | 403:
                return UnauthorizedError(
                    f"{host}: {status} to {what}, {self._auth.tried(ask.image)}"
                )
            case 404:
                return NotFoundError(f"{host}: 404, {what} is not there")
            case 412:
                return ConflictError(f"{host}: 412 to {what}, somebody else wrote in between")
            case 408 | 429:
                return UnavailableError(f"{host}: {status} to {what}", _retry_after(answer))
            case _ if status >= 500:  # noqa: PLR2004
                return UnavailableError(f"{host}: {status} to {what}", _retry_after(answer))
        return ProtocolError(f"{host}: got status {status} to {what}")


def location(registry: str, answer: Answer) -> URL:
    """Read the ``Location`` of an answer as an absolute URL; ``ProtocolError``."""
    try:
        target = answer.url.join(URL(answer.headers["Location"], encoded=True)).with_fragment(None)
        target.origin()
    except (KeyError, ValueError):
        raise ProtocolError(f"{registry}: got {answer.status} without a usable Location") from None
    return target


async def _read(response: aiohttp.ClientResponse, method: str, limit: int) -> bytes:
    """Read the body up to the limit; an error's small body is read so the connection lives."""
    host = response.url.raw_authority
    failed = response.status >= _ERROR or response.status in _REDIRECTS
    bound = _SMALL if failed else limit
    if method == "HEAD":
        return b""
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        if failed:
            return b""
        raise ProtocolError(f"{host}: got a compressed answer, expected it as it is")
    received = bytearray()
    if (response.content_length or 0) <= bound:
        async for piece in response.content.iter_chunked(_PIECE):
            received += piece
            if len(received) > bound:
                break
        else:
            return b"" if failed else bytes(received)
    if failed:
        return b""
    raise TooLargeError(f"{host}: got more than {bound} bytes")


def _retry_after(answer: Answer) -> float | None:
    """Seconds, from either form of the header (RFC 9110 §10.2.3)."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


def _backoff(attempt: int) -> float:
    """Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/."""
    return random.uniform(0.05, 0.2 * 2**attempt)  # noqa: S311 (no secret)
