"""SIGTERM: what is being decided is answered, what comes later is not lost on the way."""

import asyncio

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
