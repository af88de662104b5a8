"""The HTTP side as a raw ASGI application: routes, limits, and nothing of admission itself.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from trailgate_kube.metrics import CONTENT_TYPE
from trailgate_webhook.deadline import Deadline
from trailgate_webhook.endpoint import Reply, error_body
from trailgate_webhook.health import Health
from trailgate_webhook.metrics import Metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Object and old object: at most 1.5 MiB each in etcd, and in JSON up to six times that,
#: because a byte may be written as \\u0001. Less would let an editor make an object
#: that nobody can change any more.
BODY_LIMIT = 20 * 1024 * 1024
#: All bodies being read or decided at one time, counted as their bytes come.
TOTAL_LIMIT = 128 * 1024 * 1024
_DISCARD_LIMIT = 32 * 1024 * 1024

#: Causes after which the API server's failure policy decides on something we never saw.
_UNREAD = frozenset({"too-large", "overload", "slow"})

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_METRICS = (b"content-type", CONTENT_TYPE.encode())
_CLOSE = (b"connection", b"close")


class Reviews(Protocol):
    """What answers a review."""

    async def review(self, body: bytes, deadline: Deadline) -> Reply:
        """Answer one review before its deadline."""

    def turned_away(self, cause: str) -> None:
        """Take note of a review that was answered without being read."""


class _TurnedAwayError(Exception):
    """A request that never becomes a review."""

    def __init__(self, status: int, cause: str, text: str) -> None:
        super().__init__(text)
        self.status, self.cause = status, cause


@dataclass(slots=True)
class _Upload:
    """One body on its way in, and how much of it is counted."""

    limit: int
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0


class App:
    """``POST /validate``, ``GET /livez``, ``/readyz``, ``/metrics``.

    With a token, reviews are answered at ``/validate/TOKEN`` and nowhere else.
    """

    def __init__(
        self, gate: Reviews | None, health: Health, metrics: Metrics, token: str | None = None
    ) -> None:
        self._gate = gate
        self._health = health
        self._metrics = metrics
        self._secret = token is not None
        self._path = ("/validate" if token is None else f"/validate/{token}").encode()
        self._held = 0

    def without_reviews(self) -> App:
        """Build the same without reviews: for a listener that asks no certificate."""
        return App(None, self._health, self._metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            raise RuntimeError(f"got ASGI scope {scope['type']!r}, expected http")
        if self._gate is not None and self._asks_for_review(scope):
            await self._validate(self._gate, scope, receive, send)
        else:
            await self._read_only(scope, send)

    def _asks_for_review(self, scope: Scope) -> bool:
        # In constant time: how long it takes tells nothing of the token.
        return hmac.compare_digest(scope["path"].encode(errors="replace"), self._path)

    async def _validate(self, gate: Reviews, scope: Scope, receive: Receive, send: Send) -> None:
        deadline = Deadline.of_query(scope["query_string"])
        self._metrics.in_flight.inc()
        upload = _Upload(BODY_LIMIT)
        try:
            upload.limit = _limit(scope)
            body = await self._read(receive, upload, deadline)
            reply = await gate.review(body, deadline)
            await self._respond(send, reply.status, reply.body, _JSON)
        except _TurnedAwayError as error:
            await _discard(receive, deadline)
            self._metrics.turned_away.labels(error.cause).inc()
            if error.cause in _UNREAD:
                gate.turned_away(error.cause)
            await self._respond(send, error.status, error_body(str(error)), _JSON, _CLOSE)
        finally:
            self._held -= upload.size
            self._metrics.in_flight.dec()

    async def _read(self, receive: Receive, upload: _Upload, deadline: Deadline) -> bytes:
        """Read the whole body before the deadline, counting it against all that are held."""
        more = True
        while more:
            message = await _next(receive, deadline)
            chunk = message.get("body", b"")
            if upload.size + len(chunk) > upload.limit:
                raise _TurnedAwayError(413, "too-large", f"got a body over {upload.limit} bytes")
            if self._held + len(chunk) > TOTAL_LIMIT:
                raise _TurnedAwayError(503, "overload", "too many reviews at one time; try again")
            self._held += len(chunk)
            upload.size += len(chunk)
            upload.chunks.append(chunk)
            more = message.get("more_body", False)
        return upload.chunks[0] if len(upload.chunks) == 1 else b"".join(upload.chunks)

    async def _read_only(self, scope: Scope, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path not in ("/livez", "/readyz", "/metrics"):
            if self._secret and self._gate is not None:
                self._metrics.turned_away.labels("path").inc()
            await self._respond(send, 404, error_body("got a path that is not served here"), _JSON)
        elif method not in ("GET", "HEAD"):
            await self._respond(send, 405, error_body(f"got {method}, expected GET"), _JSON)
        elif path == "/livez":
            alive = self._health.alive()
            await self._respond(
                send, 200 if alive else 503, b"ok\n" if alive else b"broken\n", _TEXT
            )
        elif path == "/readyz":
            ready, text = self._health.ready()
            await self._respond(send, 200 if ready else 503, text.encode(), _TEXT)
        else:
            await self._respond(send, 200, self._metrics.render(), _METRICS)

    async def _respond(
        self, send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]
    ) -> None:
        """Answer; on the way out with the request to open the next connection elsewhere.

        Closing an idle connection races with the next request on it. Closing by an answer
        does not: whoever keeps connections alive has let go of them before we stop.
        """
        if self._health.draining and _CLOSE not in headers:
            headers = (*headers, _CLOSE)
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})


def _limit(scope: Scope) -> int:
    """Say how long the body may be: as it was announced, a chunked one as long as any."""
    if scope["method"] != "POST":
        raise _TurnedAwayError(405, "method", f"got {scope['method']}, expected POST")
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > BODY_LIMIT:
            text = f"got a body of {int(value)} bytes, the limit is {BODY_LIMIT}"
            raise _TurnedAwayError(413, "too-large", text)
        if name == b"content-length":
            return int(value)
    return BODY_LIMIT


async def _discard(receive: Receive, deadline: Deadline) -> None:
    """Read what a client still sends, within bounds.

    Closing a socket with unread bytes resets it, and the client never sees our answer.
    """
    size = 0
    try:
        async with asyncio.timeout(min(2.0, deadline.remaining())):
            while size < _DISCARD_LIMIT:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def _next(receive: Receive, deadline: Deadline) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(deadline.remaining()):
            message = await receive()
    except TimeoutError:
        raise _TurnedAwayError(408, "slow", "the body did not arrive before the deadline") from None
    if message["type"] == "http.disconnect":
        raise _TurnedAwayError(400, "disconnected", "the connection closed before the body ended")
    return message
