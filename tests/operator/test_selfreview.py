"""The self-review: only a decision, on this very question, by whom the bundle vouches for, counts."""

import asyncio
import json
import ssl

import pytest
from aiohttp import web

from e2e.controlplane.pki import Authority
from tests.webhook.conftest import certs, start  # noqa: F401  the gate's own server
from trailgate_kube.errors import NotFoundError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import SERVICES
from trailgate_kube.webhooks import Address
from trailgate_operator.selfreview import SelfReview, judge, review
from trailgate_webhook.review import read

SYSTEM = "trailgate-system"
TOKEN = "0123456789abcdef" * 4
SERVER = f"trailgate-webhook.{SYSTEM}.svc"


def answer(uid="u", *, allowed=True, code=None, **changes):
    response = {"uid": uid, "allowed": allowed}
    if code is not None:
        response["status"] = {"code": code}
    made = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    return json.dumps(made | changes).encode()


@pytest.mark.parametrize("body", [answer(), answer(allowed=False, code=403)])
def test_a_decision_is_an_answer(body):
    assert judge(200, body, "u") is None


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (503, b"not yet", "HTTP 503"),
        (302, answer(), "HTTP 302"),
        (200, b"<html>", "no AdmissionReview"),
        (200, b"[]", "no AdmissionReview"),
        (200, b'{"response": 1}', "no AdmissionReview"),
        (200, answer(uid="other"), "something else"),
        (200, answer(kind="Review"), "something else"),
        (200, answer(apiVersion="admission.k8s.io/v1beta1"), "something else"),
        (200, answer(allowed="yes"), "expected a decision"),
        (200, answer(allowed=False, code=503), "expected a decision"),
        (200, answer(allowed=False, code=400), "expected a decision"),
        (200, answer(allowed=False), "expected a decision"),
    ],
)
def test_anything_else_is_none(status, body, why):
    assert why in judge(status, body, "u")


def test_the_question_is_one_that_the_gate_understands():
    request = read(json.dumps(review("u", SYSTEM)).encode())
    assert (request.uid, request.namespace, request.dry_run) == ("u", SYSTEM, True)


class Server:
    """Answers as it is told."""

    def __init__(self, pair):
        self.pair, self.status, self.asked = pair, 200, []
        self.path = "/validate"
        self.reply = answer

    async def __aenter__(self):
        made = web.Application()
        made.add_routes([web.post(self.path, self._answer)])
        self._runner = web.AppRunner(made, access_log=None)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.pair.certificate, self.pair.key)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _answer(self, request):
        asked = await request.json()
        self.asked.append(asked)
        return web.Response(status=self.status, body=self.reply(asked["request"]["uid"]))


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "pki")


async def service(port, cluster_ip="127.0.0.1", token=None):
    kube = MemoryKube()
    body = {"metadata": {"name": "trailgate-webhook"}, "spec": {"clusterIP": cluster_ip}}
    await kube.create(SERVICES, body, SYSTEM)
    return SelfReview(kube, Address(SYSTEM, port=port, token=token), SYSTEM)


async def test_a_service_is_asked_by_its_address_and_must_have_its_name(authority):
    async with Server(authority.server("gate", [SERVER])) as server:
        asking = await service(server.port)
        assert await asking.problem(authority.pem) is None
    (asked,) = server.asked
    assert asked["request"]["namespace"] == SYSTEM


async def test_the_path_with_the_token_is_asked(authority):
    for by_url in (False, True):
        server = Server(authority.server("gate", [SERVER, "localhost"]))
        server.path = f"/validate/{TOKEN}"
        async with server:
            asking = await service(server.port, token=TOKEN)
            if by_url:
                url = f"https://localhost:{server.port}/validate"
                asking = SelfReview(MemoryKube(), Address(url=url, token=TOKEN), SYSTEM)
            assert await asking.problem(authority.pem) is None
            assert "HTTP 404" in await (await service(server.port)).problem(authority.pem)


async def test_what_is_wrong_never_quotes_the_token(authority):
    server = Server(authority.server("gate", [SERVER]))
    server.path = "/{any:.*}"
    async with server:
        asking = await service(server.port, token=TOKEN)
        server.status, server.reply = 404, lambda _uid: f"Cannot POST /validate/{TOKEN}".encode()
        assert "Cannot POST /validate/…" in await asking.problem(authority.pem)

    async def nonsense(_reader, writer):
        writer.write(b"HTTP/1.1 2OO nonsense\r\n\r\n")
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.pair.certificate, server.pair.key)
    broken = await asyncio.start_server(nonsense, "127.0.0.1", 0, ssl=context)
    async with broken:
        asking = await service(broken.sockets[0].getsockname()[1], token=TOKEN)
        wrong = await asking.problem(authority.pem)
        assert "/validate/…" in wrong
        assert TOKEN not in wrong


async def test_another_name_or_authority_is_not_the_gate(authority, tmp_path):
    async with Server(authority.server("gate", ["trailgate-webhook.other.svc"])) as server:
        asking = await service(server.port)
        assert "certificate" in await asking.problem(authority.pem)
    stranger = Authority(tmp_path / "stranger")
    async with Server(stranger.server("gate", [SERVER])) as server:
        asking = await service(server.port)
        assert "certificate" in await asking.problem(authority.pem)
        both = authority.pem + stranger.pem
        assert await asking.problem(both) is None
    assert "no PEM certificate" in await asking.problem(b"nonsense")
    assert "no PEM certificate" in await asking.problem(b"\xff")


async def test_nobody_there_is_no_answer(authority):
    async with Server(authority.server("gate", [SERVER])) as server:
        port = server.port
    assert await (await service(port)).problem(authority.pem)


@pytest.mark.parametrize("address", ["None", "", "nonsense"])
async def test_a_service_without_an_address_is_no_gate(authority, address):
    asking = await service(443, address)
    assert "IPv4 or IPv6" in await asking.problem(authority.pem)


async def test_no_service_is_waited_for(authority):
    with pytest.raises(NotFoundError):
        await SelfReview(MemoryKube(), Address(SYSTEM), SYSTEM).problem(authority.pem)


async def test_what_is_too_long_is_not_read(authority):
    async with Server(authority.server("gate", [SERVER])) as server:
        server.reply = lambda _uid: b"x" * 100_000
        asking = await service(server.port)
        assert "more than 65536 bytes" in await asking.problem(authority.pem)


async def test_an_answer_to_something_else_is_none(authority):
    async with Server(authority.server("gate", [SERVER])) as server:
        server.reply = lambda _uid: answer("replayed")
        assert "something else" in await (await service(server.port)).problem(authority.pem)


async def test_the_real_gate_answers_by_url_and_not_before_it_knows_the_policies(start, certs):  # noqa: F811
    pem = (certs / "ca.crt").read_bytes()
    ready, late = start(), start(policies_after=3600)
    for gate, right in ((ready, True), (late, False)):
        asking = SelfReview(MemoryKube(), Address(SYSTEM, url=f"{gate.url}/validate"), SYSTEM)
        wrong = await asking.problem(pem)
        assert (wrong is None) is right, wrong
    assert "HTTP 503" in wrong or "within 5 s" in wrong
