"""The listener: uvicorn on sockets that we bind, with signals that we handle.

Why uvicorn: docs/adr/0004-web-server.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn

from trailgate.model.errors import TrailgateError
from trailgate_webhook.app import App

#: Seconds after which a keep-alive connection of the API server is closed when idle.
KEEP_ALIVE = 120
#: Seconds that requests in flight have to end at shutdown; above any deadline of ours.
GRACE = 25
#: Connections; the API servers of a cluster need a few hundred at most.
MAX_CONNECTIONS = 2_000


class ListenError(TrailgateError):
    """The address can't be listened on."""


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process decides when to drain."""

    def __init__(self, app: App, context: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            ssl_context_factory=None if context is None else lambda _config, _default: context,
        )
        super().__init__(config)
        self.accepting = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections, and say so to whoever waits for ``accepting``."""
        await super().startup(sockets)
        self.accepting.set()

    async def run_on(self, listening: socket.socket) -> None:
        """Serve until ``close``; ends when all requests in flight are answered."""
        await self.serve(sockets=[listening])

    def close(self) -> None:
        """Stop accepting, close idle connections, let the others end."""
        self.should_exit = True


def listen(address: str) -> socket.socket:
    """Bind ``HOST:PORT`` (``[::1]:8443`` for IPv6; port 0 for any free one)."""
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004
        raise ListenError(f"got address {address!r}, expected HOST:PORT")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=1024)
    except OSError as error:
        raise ListenError(f"can't listen on {address}: {error.strerror or error}") from error
