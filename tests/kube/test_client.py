"""The client against servers that misbehave, and credentials that change."""

import asyncio
import contextlib
import json
import socket
import time

import pytest
from aiohttp import web
from kubernetes.aio.config import incluster_config

from e2e.controlplane.pki import Authority
from trailgate.model.admission import Kind
from trailgate_kube import connection
from trailgate_kube.answers import error_of
from trailgate_kube.client import KubeClient
from trailgate_kube.errors import (
    AlreadyExistsError,
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from trailgate_kube.resources import NAMESPACES, Resource

PODS = Resource("", "v1", "pods", "Pod")


def kubeconfig(path, server, **user):
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(document))
    return path


@contextlib.asynccontextmanager
async def server(handler):
    """Serve every request with ``handler``; yields the URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = site._server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client_of(handler, tmp_path, seconds=5.0, **user):
    async with server(handler) as url:
        path = kubeconfig(tmp_path / "kubeconfig", url, **user)
        async with await KubeClient.open(path, seconds=seconds) as client:
            yield client


def status(code, reason="", message="no"):
    body = {"kind": "Status", "reason": reason, "message": message, "code": code}
    return web.json_response(body, status=code)


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", InvalidError),
        (401, "Unauthorized", UnauthorizedError),
        (403, "Forbidden", ForbiddenError),
        (404, "NotFound", NotFoundError),
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (410, "Expired", GoneError),
        (413, "RequestEntityTooLarge", InvalidError),
        (422, "Invalid", InvalidError),
        (429, "TooManyRequests", UnavailableError),
        (500, "InternalError", UnavailableError),
        (503, "ServiceUnavailable", UnavailableError),
        (504, "Timeout", UnavailableError),
    ],
)
def test_each_refusal_is_its_own_error(code, reason, expected):
    content = json.dumps({"reason": reason, "message": "because"}).encode()
    error = error_of("POST /x", code, content)
    assert type(error) is expected
    assert str(error) == f"POST /x: {code} {reason} because"
    if isinstance(error, UnavailableError):
        assert error.maybe_done is (code >= 500)


@pytest.mark.parametrize("content", [b"", b"<html>proxy</html>", b"\xff\xfe", b"[]", b"null"])
def test_a_refusal_that_is_no_status_is_read_all_the_same(content):
    assert isinstance(error_of("GET /x", 503, content), UnavailableError)
    assert isinstance(error_of("GET /x", 403, content), ForbiddenError)


def test_a_long_refusal_is_cut():
    assert len(str(error_of("GET /x", 500, b"x" * 100_000))) < 600


async def test_nobody_listening_means_certainly_not_done(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        path = kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}")
        async with await KubeClient.open(path) as client:
            with pytest.raises(UnavailableError) as refused:
                await client.create(PODS, {}, "shop")
    assert not refused.value.maybe_done


async def test_a_server_of_another_authority_is_not_spoken_to(tmp_path):
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    pair = theirs.server("web", ["127.0.0.1"])
    context = connection.ssl.SSLContext(connection.ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    listening = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    path = kubeconfig(tmp_path / "kubeconfig", f"https://127.0.0.1:{port}", token="secret")
    document = json.loads(path.read_text())
    document["clusters"][0]["cluster"]["certificate-authority"] = str(ours.file)
    path.write_text(json.dumps(document))
    async with listening, await KubeClient.open(path) as client:
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED") as refused:
            await client.create(PODS, {}, "shop")
    assert not refused.value.maybe_done


async def test_a_server_that_hangs_is_left_in_time_and_may_have_done_it(tmp_path):
    async def hang(_request):
        await asyncio.sleep(30)

    async with client_of(hang, tmp_path) as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError) as late:
            await client.create(PODS, {}, "shop", seconds=0.3)
        assert time.monotonic() - began < 3
    assert late.value.maybe_done


async def test_a_connection_that_is_cut_may_have_done_it(tmp_path):
    async def cut(request):
        request.transport.abort()
        await asyncio.sleep(1)

    async with client_of(cut, tmp_path) as client:
        with pytest.raises(UnavailableError) as lost:
            await client.create(PODS, {}, "shop")
    assert lost.value.maybe_done


@pytest.mark.parametrize("body", ["not json", "[]", '"text"', ""])
async def test_an_answer_that_is_no_object_is_invalid(tmp_path, body):
    async def answer(_request):
        return web.Response(text=body)

    async with client_of(answer, tmp_path) as client:
        with pytest.raises(InvalidError):
            await client.get(PODS, "web", "shop")


async def test_a_redirect_is_not_followed(tmp_path):
    asked = []

    async def elsewhere(request):
        asked.append(request.path)
        raise web.HTTPFound("/elsewhere")

    async with client_of(elsewhere, tmp_path, token="secret") as client:
        with pytest.raises(InvalidError):
            await client.get(PODS, "web", "shop")
    assert asked == ["/api/v1/namespaces/shop/pods/web"]


async def test_names_are_escaped_in_paths(tmp_path):
    asked = []

    async def answer(request):
        asked.append(request.raw_path)
        return status(404)

    async with client_of(answer, tmp_path) as client:
        with pytest.raises(NotFoundError):
            await client.get(PODS, "../../x?y#z", "a/b")
        assert await client.discover(Kind("../../evil", "Kind")) is None
    assert asked == ["/api/v1/namespaces/a%2Fb/pods/..%2F..%2Fx%3Fy%23z", "/apis/..%2F..%2Fevil"]


async def test_a_token_that_is_no_longer_accepted_is_read_again_once(tmp_path):
    token = tmp_path / "token"
    token.write_text("old")
    seen = []

    async def answer(request):
        seen.append(request.headers["Authorization"])
        return web.json_response({}) if seen[-1] == "Bearer new" else status(401)

    async with client_of(answer, tmp_path, tokenFile=str(token)) as client:
        token.write_text("new")
        await client.get(NAMESPACES, "default")
        assert seen == ["Bearer old", "Bearer new"]
        token.write_text("newer")
        seen.clear()
        await client.get(NAMESPACES, "default")
        assert seen == ["Bearer new"]


async def test_a_credential_that_is_never_accepted_is_not_tried_forever(tmp_path):
    seen = []

    async def answer(_request):
        seen.append(1)
        return status(401)

    async with client_of(answer, tmp_path, token="bad") as client:
        for _ in range(3):
            with pytest.raises(UnauthorizedError):
                await client.get(NAMESPACES, "default")
    assert len(seen) == 4  # one of the three was worth a second try


async def test_in_a_pod_the_renewed_token_is_used(tmp_path, monkeypatch):
    token, authority = tmp_path / "token", Authority(tmp_path / "pki")
    token.write_text("first")
    pair = authority.server("api", ["127.0.0.1"])
    context = connection.ssl.SSLContext(connection.ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    seen = []

    async def answer(request):
        seen.append(request.headers["Authorization"].lower())
        return web.json_response({})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority.file))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
    async with await KubeClient.open() as client:
        await client.get(NAMESPACES, "default")
        token.write_text("second")
        assert await client._connection.renew()
        await client.get(NAMESPACES, "default")
    await runner.cleanup()
    assert seen == ["bearer first", "bearer second"]


@pytest.mark.parametrize(
    "content", ["", "{", "a: [", "apiVersion: v1\nkind: Config\n", "[]", "\x00\x01"]
)
async def test_a_kubeconfig_that_is_none_is_said_to_be(tmp_path, content):
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="kubeconfig"):
        await KubeClient.open(path)


async def test_without_a_kubeconfig_outside_a_pod_that_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="in-cluster"):
        await KubeClient.open()
    with pytest.raises(ConfigurationError, match="missing"):
        await KubeClient.open(tmp_path / "missing")


async def watch_of(lines, tmp_path):
    async def answer(request):
        assert request.query["watch"] == "true"
        assert request.query["resourceVersion"] == "7"
        return web.Response(body=b"\n".join(lines) + b"\n")

    async with client_of(answer, tmp_path) as client:
        return [event async for event in client.watch(PODS, "shop", resource_version="7")]


def line(kind, version):
    return json.dumps({"type": kind, "object": {"metadata": {"resourceVersion": version}}}).encode()


async def test_bookmarks_and_empty_lines_are_no_trouble(tmp_path):
    events = await watch_of([line("ADDED", "8"), b"", line("BOOKMARK", "9")], tmp_path)
    assert [(event.type.value, event.resource_version) for event in events] == [
        ("ADDED", "8"),
        ("BOOKMARK", "9"),
    ]


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (b'{"type":"ERROR","object":{"code":410,"reason":"Expired"}}', GoneError),
        (b'{"type":"ERROR","object":{"code":500}}', UnavailableError),
        (b'{"type":"ERROR","object":{}}', UnavailableError),
        (b'{"type":"SOMETHING","object":{}}', UnavailableError),
        (b'{"type":"ADDED"}', UnavailableError),
        (b"half a li", UnavailableError),
    ],
)
async def test_a_watch_that_breaks_says_how(tmp_path, bad, expected):
    with pytest.raises(expected):
        await watch_of([line("ADDED", "8"), bad], tmp_path)


async def test_a_watch_reads_a_token_that_is_no_longer_accepted_again_once(tmp_path):
    token = tmp_path / "token"
    token.write_text("old")
    seen = []

    async def answer(request):
        seen.append(request.headers["Authorization"])
        if seen[-1] != "Bearer new":
            return status(401)
        return web.Response(body=line("ADDED", "8") + b"\n")

    async with client_of(answer, tmp_path, tokenFile=str(token)) as client:
        token.write_text("new")
        events = [event async for event in client.watch(PODS, resource_version="7")]
        assert [event.resource_version for event in events] == ["8"]
        assert seen == ["Bearer old", "Bearer new"]


async def test_a_watch_whose_credential_is_never_accepted_says_so(tmp_path):
    seen = []

    async def answer(_request):
        seen.append(1)
        return status(401)

    async with client_of(answer, tmp_path, token="bad") as client:
        for _ in range(2):
            with pytest.raises(UnauthorizedError):
                await anext(client.watch(PODS, resource_version="7"))
    assert len(seen) == 3  # the first was worth a second try


async def test_a_watch_that_is_no_longer_authorized_on_its_way_is_not_begun_again(tmp_path):
    """Its resourceVersion is the old one: what was told already would come twice."""
    bad = b'{"type":"ERROR","object":{"code":401,"reason":"Unauthorized"}}'
    seen = []

    async def answer(_request):
        seen.append(1)
        return web.Response(body=line("ADDED", "8") + b"\n" + bad + b"\n")

    async with client_of(answer, tmp_path, token="good") as client:
        events = client.watch(PODS, resource_version="7")
        assert (await anext(events)).resource_version == "8"
        with pytest.raises(UnauthorizedError):
            await anext(events)
    assert len(seen) == 1


async def test_a_watch_whose_server_falls_silent_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("trailgate_kube.client._WATCH_GRACE_SECONDS", 0.2)

    async def silent(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(30)
        return response

    async with client_of(silent, tmp_path) as client:
        events = client.watch(PODS, resource_version="1", seconds=0.3)
        with pytest.raises(UnavailableError):
            await anext(events)


async def test_discovery_asks_once_and_forgets_a_flood_of_names(tmp_path):
    asked = []

    async def answer(request):
        asked.append(request.path)
        if request.path == "/apis/argoproj.io":
            return web.json_response({"preferredVersion": {"version": "v1alpha1"}})
        if request.path == "/apis/argoproj.io/v1alpha1":
            resources = [
                {"name": "rollouts/status", "kind": "Rollout", "namespaced": True},
                {"name": "rollouts", "kind": "Rollout", "namespaced": True},
            ]
            return web.json_response({"resources": resources})
        return status(404)

    async with client_of(answer, tmp_path) as client:
        for _ in range(3):
            found = await client.discover(Kind("argoproj.io", "Rollout"))
            assert found == Resource("argoproj.io", "v1alpha1", "rollouts", "Rollout")
        assert len(asked) == 2
        for number in range(1_100):
            assert await client.discover(Kind(f"g{number}.example", "X")) is None
        assert len(client._discovery._known) <= 1_000
