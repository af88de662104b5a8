"""SIGTERM: what is being decided is answered, what comes later is not lost on the way."""

import asyncio
import contextlib
import json
import re
import ssl

import aiohttp
import pytest

from tests.webhook.conftest import review, until


async def test_a_review_in_flight_is_answered_and_the_process_ends_with_0(start):
    server = start()
    slow = asyncio.create_task(server.post(review("create-deployment", test="slow")))

    async def in_flight():
        return await server.metric("trailgate_admission_in_flight") == 1

    await until(in_flight)
    code = asyncio.create_task(server.stop())
    status, answer = await slow
    assert (status, answer["response"]["allowed"]) == (200, True)
    assert await code == 0
    with pytest.raises(aiohttp.ClientConnectorError):
        await server.post(review("create-deployment"))


async def test_while_draining_it_is_not_ready_and_still_answers(start):
    server = start(drain_delay=2)
    code = asyncio.create_task(server.stop())

    async def not_ready():
        return (await server.get("/readyz"))[0] == 503

    await until(not_ready, 1.5)
    assert "shutting down" in (await server.get("/readyz"))[1]
    assert (await server.get("/livez"))[0] == 200
    status, answer = await server.post(review("create-deployment"))
    assert (status, answer["response"]["allowed"]) == (200, True)
    assert await code == 0


async def test_an_idle_keep_alive_connection_does_not_hold_the_end_up(start):
    server = start()
    async with server.client() as client:
        async with client.get("/livez") as got:
            assert got.status == 200
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await server.stop() == 0
        assert loop.time() - began < 3


class Endpoints:
    """Two replicas, and where new connections go: as a Service does, some time after /readyz."""

    def __init__(self, leaving, staying):
        self.leaving, self.staying = leaving, staying
        self.current = leaving

    async def follow(self):
        async def left():
            return (await self.leaving.get("/readyz"))[0] == 503

        await until(left)
        await asyncio.sleep(0.5)  # the Service's endpoints are later than the probe
        self.current = self.staying


class KeepAlive:
    """One connection, used again until the server says that it closes; never retried."""

    def __init__(self, endpoints, body):
        self.endpoints = endpoints
        self.request = (
            b"POST /validate?timeout=10s HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        ) + body
        self.answered = dict.fromkeys((endpoints.leaving, endpoints.staying), 0)

    async def run(self, stop, pause):
        while not stop.is_set():
            server = self.endpoints.current
            context = ssl.create_default_context(cafile=server.certs / "ca.crt")
            reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
            try:
                while not stop.is_set():
                    writer.write(self.request)
                    await writer.drain()
                    closing = await self.answer(reader)
                    self.answered[server] += 1
                    if closing:
                        break
                    await asyncio.sleep(pause)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def answer(self, reader):
        """Read one whole answer; say whether the server closes the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        assert json.loads(await reader.readexactly(length))["response"]["allowed"] is True
        return b"connection: close" in head


async def test_a_replica_that_leaves_under_load_fails_no_request(start):
    leaving, staying = start(drain_delay=3), start()
    endpoints = Endpoints(leaving, staying)
    stop = asyncio.Event()
    body = json.dumps(review("create-pod-child")).encode()
    clients = [KeepAlive(endpoints, body) for _ in range(40)]
    tasks = [
        asyncio.create_task(client.run(stop, 0.05 * (number % 8)))
        for number, client in enumerate(clients)
    ]
    await until(lambda: all(client.answered[leaving] for client in clients))
    following = asyncio.create_task(endpoints.follow())
    assert await leaving.stop() == 0
    await following
    after = [client.answered[staying] for client in clients]
    await until(
        lambda: all(
            client.answered[staying] > before for client, before in zip(clients, after, strict=True)
        )
    )
    stop.set()
    await asyncio.gather(*tasks)  # raises what any client met: a reset, an end too early, a 503


async def test_what_drains_asks_to_be_left_and_what_does_not_keeps_its_connections(start):
    server = start(drain_delay=2)
    async with server.client() as client:
        async with client.post("/validate", json=review("create-pod-child")) as got:
            assert "Connection" not in got.headers
        code = asyncio.create_task(server.stop())

        async def not_ready():
            async with client.get("/readyz") as got:
                return got.status == 503 and got.headers["Connection"] == "close"

        await until(not_ready, 1.5)
        async with client.post("/validate", json=review("create-pod-child")) as got:
            assert got.status == 200
            assert got.headers["Connection"] == "close"
    assert await code == 0
