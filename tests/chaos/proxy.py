"""A TLS proxy before the API server that can kill its client at a chosen point of a request."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "upgrade"}


@dataclass
class Trip:
    """Kills at the ``nth`` request of this method on Admissions.

    - ``received``: it has left the client, and is never forwarded;
    - ``forwarded``: the API server has carried it out, the client never hears of it;
    - ``answered``: the client has the answer, and ``delay`` seconds to use it.
    """

    method: str
    phase: str
    nth: int = 1
    delay: float = 0.0
    fired: asyncio.Event = field(default_factory=asyncio.Event)

    def __str__(self):
        return f"{self.method} {self.phase}"


class ApiProxy:
    """One for each process that may be killed; ``kill`` is called when the trip fires."""

    def __init__(self, upstream, authority, name):
        self._upstream, self._authority, self._name = upstream, authority, name
        self._trip = None
        self.kill = lambda: None
        self.cut = None
        """Paths that contain this get no answer."""

    async def __aenter__(self):
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pair = self._authority.server(f"proxy-{self._name}", ["127.0.0.1"])
        serving.load_cert_chain(pair.certificate, pair.key)
        trusting = ssl.create_default_context(cafile=str(self._authority.file))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusting, limit=0),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        application = web.Application(client_max_size=16 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=serving)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        self.url = f"https://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_):
        await self._session.close()
        await self._runner.cleanup()

    def arm(self, trip):
        self._trip = trip

    def _hit(self, request):
        trip = self._trip
        if (
            trip is None
            or request.method != trip.method
            or "/admissions" not in request.path
            or "watch" in request.query
        ):
            return None
        trip.nth -= 1
        if trip.nth > 0:
            return None
        self._trip = None
        return trip

    def _fire(self, trip):
        self.kill()
        trip.fired.set()

    async def _handle(self, request):
        body = await request.read()
        trip = self._hit(request)
        cut = self.cut is not None and self.cut in request.path
        if cut or (trip is not None and trip.phase == "received"):
            if trip is not None:
                self._fire(trip)
            return _cut(request)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        try:
            async with self._session.request(
                request.method,
                self._upstream + request.raw_path,
                data=body or None,
                headers=headers,
            ) as answer:
                if trip is not None and trip.phase == "forwarded":
                    await answer.read()
                    self._fire(trip)
                    return _cut(request)
                return await self._pass(request, answer, trip)
        except aiohttp.ClientError:
            return _cut(request)

    async def _pass(self, request, answer, trip):
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
        response = web.StreamResponse(status=answer.status, headers=headers)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
        if trip is not None:
            asyncio.get_running_loop().call_later(trip.delay, self._fire, trip)
        return response


def _cut(request):
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=502)


class Balancer:
    """A TCP port before several gates, as a Service is: the next one that answers."""

    def __init__(self):
        self.targets = []
        self._turn = 0
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _connect(self, reader, writer):
        for _ in range(len(self.targets)):
            self._turn += 1
            port = self.targets[self._turn % len(self.targets)]
            try:
                back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            try:
                pipes = {
                    asyncio.create_task(_pipe(reader, back_writer)),
                    asyncio.create_task(_pipe(back_reader, writer)),
                }
                try:
                    await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pipe in pipes:
                        pipe.cancel()
                    await asyncio.gather(*pipes, return_exceptions=True)
            finally:
                back_writer.close()
            return


async def _pipe(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
