"""Deadlines and limits of the HTTP side."""

import asyncio
import ssl
import time

import pytest

from tests.webhook.conftest import until
from trailgate_webhook.app import BODY_LIMIT, TOTAL_LIMIT, App
from trailgate_webhook.deadline import Deadline, seconds_of
from trailgate_webhook.endpoint import Reply
from trailgate_webhook.health import Health
from trailgate_webhook.metrics import Metrics


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        (b"timeout=10s", 10),
        (b"timeout=1s", 1),
        (b"timeout=2.5s", 2.5),
        (b"timeout=500ms", 0.5),
        (b"a=b&timeout=7s", 7),
        (b"timeout=30s", 30),
        (b"timeout=3600s", 30),
        (b"", 10),
        (b"timeout=", 10),
        (b"timeout=0s", 10),
        (b"timeout=-1s", 10),
        (b"timeout=1m0s", 10),
        (b"timeout=10", 10),
        (b"timeout=10s&timeout=1s", 10),
        (b"timeout=\xff", 10),
        (b"timeout=99999999999999999999s", 10),
    ],
)
def test_the_api_server_s_time_out_is_read_and_nothing_else(query, seconds):
    assert seconds_of(query) == seconds


@pytest.mark.parametrize("seconds", [0.5, 1, 5, 10, 30])
def test_a_deadline_is_below_the_api_server_s_and_keeps_time_for_the_spool(seconds):
    deadline = Deadline.of_query(f"timeout={int(seconds * 1000)}ms".encode())
    assert 0 < deadline.for_assessment() < deadline.remaining() <= 0.8 * seconds
    assert 0 < deadline.for_evidence() < 0.9 * deadline.for_assessment()
    assert 0 < deadline.for_spool() <= 2
    left = deadline.at - deadline.for_spool() - time.monotonic()
    assert deadline.for_assessment() == pytest.approx(left, abs=0.05)


def test_past_its_end_a_deadline_gives_nothing():
    deadline = Deadline(time.monotonic() - 1, 2)
    assert (deadline.remaining(), deadline.for_assessment(), deadline.for_spool()) == (0, 0, 0)


class Counting:
    def __init__(self):
        self.bodies, self.unread = [], []

    def turned_away(self, cause):
        self.unread.append(cause)

    async def review(self, body, deadline):
        self.bodies.append(body)
        return Reply(200, b"{}")


class Client:
    """One ASGI request whose body comes when the test says."""

    def __init__(self, app, headers, method="POST", path="/validate", query=b"timeout=10s"):
        self.messages = asyncio.Queue()
        self.sent = []
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": headers,
        }
        self.task = asyncio.create_task(app(scope, self.messages.get, self.send))

    async def send(self, message):
        self.sent.append(message)

    def body(self, content, *, more=False):
        self.messages.put_nowait({"type": "http.request", "body": content, "more_body": more})

    async def status(self):
        await self.task
        return self.sent[0]["status"]


@pytest.fixture
async def app():
    metrics = Metrics()
    return App(Counting(), Health({}, {}), metrics)


def length(number):
    return [(b"content-length", str(number).encode())]


async def test_a_body_in_pieces_is_put_together(app):
    client = Client(app, length(6))
    for piece in (b"ab", b"cd"):
        client.body(piece, more=True)
    client.body(b"ef")
    assert await client.status() == 200
    assert app._gate.bodies == [b"abcdef"]


async def test_a_body_at_the_limit_is_taken_and_one_byte_more_is_not(app):
    client = Client(app, length(BODY_LIMIT))
    client.body(b"x" * BODY_LIMIT)
    assert await client.status() == 200
    client = Client(app, length(BODY_LIMIT + 1))
    client.body(b"x" * (BODY_LIMIT + 1))
    assert await client.status() == 413
    assert len(app._gate.bodies) == 1
    assert app._gate.unread == ["too-large"]


async def test_a_body_longer_than_announced_is_413(app):
    client = Client(app, length(10))
    client.body(b"x" * 8, more=True)
    client.body(b"x" * 8)
    assert await client.status() == 413


async def test_all_bodies_together_are_bounded_and_the_room_comes_back(app):
    chunked = [(b"transfer-encoding", b"chunked")]
    room = TOTAL_LIMIT // BODY_LIMIT
    clients = [Client(app, chunked) for _ in range(room)]
    for client in clients:
        client.body(b"x" * BODY_LIMIT, more=True)
    await until(lambda: app._held == room * BODY_LIMIT)
    late = Client(app, chunked)
    late.body(b"x" * (TOTAL_LIMIT - room * BODY_LIMIT + 1))
    assert await late.status() == 503
    assert (b"connection", b"close") in late.sent[0]["headers"]
    assert app._gate.unread == ["overload"]
    for client in clients:
        client.body(b"")
    assert [await client.status() for client in clients] == [200] * len(clients)
    assert app._held == 0
    again = Client(app, chunked)
    again.body(b"{}")
    assert await again.status() == 200


async def test_bodies_that_were_only_announced_take_no_room(app):
    """Idle connections must not keep the API server's reviews out."""
    idle = [Client(app, length(BODY_LIMIT)) for _ in range(2 * TOTAL_LIMIT // BODY_LIMIT)]
    await asyncio.sleep(0)
    client = Client(app, length(2))
    client.body(b"{}")
    assert await client.status() == 200
    for one in idle:
        one.task.cancel()
    await asyncio.gather(*(one.task for one in idle), return_exceptions=True)
    assert app._held == 0


async def test_a_wrong_method_is_no_review_that_went_unread(app):
    client = Client(app, length(0), method="GET")
    client.body(b"")
    assert await client.status() == 405
    assert app._gate.unread == []


async def test_a_client_that_leaves_is_no_review(app):
    client = Client(app, length(10))
    client.messages.put_nowait({"type": "http.disconnect"})
    client.messages.put_nowait({"type": "http.disconnect"})
    await client.task
    assert app._gate.bodies == []
    assert app._held == 0


async def test_a_body_that_never_comes_is_408_at_the_deadline(start):
    server = start()
    context = ssl.create_default_context(cafile=server.certs / "ca.crt")
    reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
    writer.write(
        b"POST /validate?timeout=1s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    )
    began = time.monotonic()
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408")
    assert 0.5 < time.monotonic() - began < 3
    writer.close()
    await writer.wait_closed()
    assert await server.metric('trailgate_admission_turned_away_total{cause="slow"}') == 1
    assert await server.metric("trailgate_admission_reviews_undecided_total") == 1


async def test_a_content_length_that_is_no_number_is_refused(start):
    server = start()
    context = ssl.create_default_context(cafile=server.certs / "ca.crt")
    reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
    writer.write(b"POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()
