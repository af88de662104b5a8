"""Real HTTP peers on loopback: raw ones that misbehave, and a registry that wants tokens."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[asyncio.StreamWriter], Coroutine[None, None, None]]
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECRET = "BODY-OF-A-STRANGER"


@dataclass
class Raw:
    """A socket server that says whatever the handler writes."""

    handler: Handler
    address: str = ""
    connections: int = 0
    open: int = 0
    requests: list[bytes] = field(default_factory=list)

    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Let the handler talk until it has finished or the client has gone."""
        self.connections += 1
        self.open += 1
        self._idle.clear()
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                talk = asyncio.create_task(self.handler(writer))
                gone = asyncio.create_task(reader.read())
                await asyncio.wait({talk, gone}, return_when=asyncio.FIRST_COMPLETED)
                for task in (talk, gone):
                    task.cancel()
                await asyncio.gather(talk, gone, return_exceptions=True)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.open -= 1
            if not self.open:
                self._idle.set()

    async def closed(self) -> None:
        """Wait until no client is connected any more."""
        async with asyncio.timeout(5):
            await self._idle.wait()


@contextlib.asynccontextmanager
async def raw(handler: Handler) -> AsyncIterator[Raw]:
    peer = Raw(handler)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(peer.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    peer.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield peer
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@dataclass
class App:
    """An aiohttp server that keeps the requests it saw."""

    address: str = ""
    seen: list[web.Request] = field(default_factory=list)

    def headers(self, name: str) -> list[str | None]:
        return [request.headers.get(name) for request in self.seen]

    def paths(self) -> list[str]:
        return [f"{request.method} {request.rel_url}" for request in self.seen]


@contextlib.asynccontextmanager
async def app(answer: Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[App]:
    peer = App()

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        peer.seen.append(request)
        return await answer(request)

    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    peer.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield peer
    finally:
        await runner.cleanup()
