"""Signing in: challenges, tokens, and who gets to see a password."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tests.core.oci.peers import SECRET, App, app
from tests.core.oci.support import guard_for
from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci import media
from trailgate.oci.auth import Authenticator, Challenge, TokenRequest, choose
from trailgate.oci.client import RegistryClient
from trailgate.oci.credentials import Anonymous, Credential, CredentialSource, DockerConfig
from trailgate.oci.errors import (
    HostRefusedError,
    OciError,
    ProtocolError,
    UnauthorizedError,
    UnavailableError,
)
from trailgate.oci.guard import Guard

BLOB = b"content"
PASSWORD = "pa55-w0rd"
BASIC = "Basic " + base64.b64encode(f"robot:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ([], None),
        (["Negotiate"], None),
        (["Bearer"], None),
        (['Bearer service="s"'], None),
        (['Digest realm="x"'], None),
        (["Basic"], Challenge(bearer=False)),
        (['Basic realm="My Bearer realm"'], Challenge(bearer=False, realm="My Bearer realm")),
        (
            ['Bearer realm="https://a/token",service="s",scope="repository:x:pull"'],
            Challenge(bearer=True, realm="https://a/token", service="s"),
        ),
        (
            ["bearer realm=https://a/token, service=s"],
            Challenge(bearer=True, realm="https://a/token", service="s"),
        ),
        (
            ['Bearer  realm = "https://a/\\"q\\"" , service="a,b"'],
            Challenge(bearer=True, realm='https://a/"q"', service="a,b"),
        ),
        (
            ['Basic realm="b", Bearer realm="https://a/token"'],
            Challenge(bearer=True, realm="https://a/token"),
        ),
        (
            ['Basic realm="b"', 'Bearer realm="https://a/token"'],
            Challenge(bearer=True, realm="https://a/token"),
        ),
    ],
)
def test_offers(offers: list[str], expected: Challenge | None) -> None:
    assert choose(offers) == expected


@given(st.lists(st.text(max_size=300), max_size=5))
def test_no_offer_breaks_the_parser(offers: list[str]) -> None:
    found = choose(offers)
    assert found is None or isinstance(found, Challenge)


def _config(
    host: str, entry: str = f'{{"username":"robot","password":"{PASSWORD}"}}'
) -> DockerConfig:
    return DockerConfig.parse(f'{{"auths":{{"{host}":{entry}}}}}'.encode(), "secret web/pull")


class _Registry:
    """A registry that wants tokens from its own realm."""

    def __init__(self, **answer: object) -> None:
        self.answer: dict[str, object] = {"token": "t1", "expires_in": 300, **answer}
        self.status = 200
        self.valid: Callable[[str | None], bool] = lambda header: header == "Bearer t1"
        self.realm = ""
        self.peer: App | None = None

    async def __call__(self, request: web.Request) -> web.Response:
        if request.path == "/token":
            return web.json_response(self.answer, status=self.status)
        if not self.valid(request.headers.get("Authorization")):
            realm = self.realm or f"http://{request.host}/token"
            offer = f'Bearer realm="{realm}",service="reg",scope="registry:catalog:*"'
            return web.Response(status=401, headers={"WWW-Authenticate": offer}, text=SECRET)
        if request.method in ("POST", "PUT"):
            return web.Response(status=201)
        return web.Response(body=BLOB)


async def _blob(client: RegistryClient, peer: App, repository: str = "acme/web") -> bytes:
    return await client.blob(ImageReference(peer.address, repository), Digest.of(BLOB), 100)


async def test_an_anonymous_token() -> None:
    async with app(_Registry()) as peer, RegistryClient(guard_for(peer.address)) as client:
        assert await _blob(client, peer) == BLOB
        assert await _blob(client, peer) == BLOB
        assert peer.headers("Authorization") == [None, None, "Bearer t1", "Bearer t1"]
        token = peer.seen[1]
        assert token.path == "/token"
        assert dict(token.query) == {"service": "reg", "scope": "repository:acme/web:pull"}


async def test_a_token_for_a_password() -> None:
    async with app(_Registry()) as peer:
        async with RegistryClient(guard_for(peer.address), _config(peer.address)) as client:
            assert await _blob(client, peer) == BLOB
        assert peer.headers("Authorization") == [None, BASIC, "Bearer t1"]


async def test_a_token_for_an_identity_token() -> None:
    entry = '{"identitytoken":"refresh-me"}'
    async with app(_Registry(token="", access_token="t1")) as peer:
        async with RegistryClient(guard_for(peer.address), _config(peer.address, entry)) as client:
            assert await _blob(client, peer) == BLOB
        request = peer.seen[1]
        assert request.method == "POST"
        assert dict(await request.post()) == {
            "grant_type": "refresh_token",
            "refresh_token": "refresh-me",
            "client_id": "trailgate",
            "service": "reg",
            "scope": "repository:acme/web:pull",
        }
        assert peer.headers("Authorization") == [None, None, "Bearer t1"]


async def test_a_registry_token_is_sent_as_it_is() -> None:
    async with app(_Registry()) as peer:
        config = _config(peer.address, '{"registrytoken":"t1"}')
        async with RegistryClient(guard_for(peer.address), config) as client:
            assert await _blob(client, peer) == BLOB
        assert peer.headers("Authorization") == ["Bearer t1"]


async def test_a_refused_registry_token() -> None:
    async with app(_Registry()) as peer:
        config = _config(peer.address, '{"registrytoken":"old"}')
        async with RegistryClient(guard_for(peer.address), config) as client:
            with pytest.raises(UnauthorizedError, match="tried secret web/pull"):
                await _blob(client, peer)
        assert len(peer.seen) == 1


async def test_each_repository_and_right_has_its_own_token() -> None:
    async with app(_Registry()) as peer, RegistryClient(guard_for(peer.address)) as client:
        await _blob(client, peer, "acme/web")
        await _blob(client, peer, "acme/api")
        image = ImageReference(peer.address, "acme/web", "v1")
        await client.push_manifest(image, b"{}", media.OCI_MANIFEST)
        scopes = [request.query["scope"] for request in peer.seen if request.path == "/token"]
        assert scopes == [
            "repository:acme/web:pull",
            "repository:acme/api:pull",
            "repository:acme/web:pull,push",
        ]


async def test_many_requests_wait_for_one_token() -> None:
    async with app(_Registry()) as peer, RegistryClient(guard_for(peer.address)) as client:
        await asyncio.gather(*(_blob(client, peer) for _ in range(12)))
        assert sum(request.path == "/token" for request in peer.seen) == 1


async def test_basic() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        return web.Response(body=BLOB)

    async with app(answer) as peer:
        async with RegistryClient(guard_for(peer.address), _config(peer.address)) as client:
            assert await _blob(client, peer) == BLOB
            assert await _blob(client, peer) == BLOB
        assert peer.headers("Authorization") == [None, BASIC, BASIC]
        async with RegistryClient(guard_for(peer.address)) as client:
            with pytest.raises(UnauthorizedError, match="no credentials configured"):
                await _blob(client, peer)


async def test_a_wrong_password_is_tried_once_and_named() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            status=401, headers={"WWW-Authenticate": 'Basic realm="r"'}, text=SECRET
        )

    async with (
        app(answer) as peer,
        RegistryClient(guard_for(peer.address), _config(peer.address)) as client,
    ):
        with pytest.raises(UnauthorizedError) as caught:
            await _blob(client, peer)
        text = str(caught.value)
        assert "401" in text
        assert f"tried secret web/pull entry {peer.address}" in text
        assert PASSWORD not in text
        assert SECRET not in text
        assert len(peer.seen) == 2
        with pytest.raises(UnauthorizedError):
            await _blob(client, peer)
        assert len(peer.seen) == 3, "the same header isn't sent twice for one request"


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_realm_that_issues_no_token(status: int) -> None:
    registry = _Registry()
    registry.status = status
    registry.answer = {"details": SECRET}
    async with app(registry) as peer:
        async with RegistryClient(guard_for(peer.address), _config(peer.address)) as client:
            with pytest.raises(UnauthorizedError, match="tried secret web/pull") as caught:
                await _blob(client, peer)
        assert str(status) in str(caught.value)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_realm_that_is_busy(status: int) -> None:
    registry = _Registry()
    registry.status = status
    async with app(registry) as peer, RegistryClient(guard_for(peer.address)) as client:
        with pytest.raises(UnavailableError, match=str(status)):
            await _blob(client, peer)


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (302, {}),
        (404, {}),
        (200, {}),
        (200, []),
        (200, {"token": 7}),
        (200, {"token": "a b"}),
        (200, {"token": "a\r\nX-Evil: 1"}),
        (200, {"token": "ü"}),
        (200, {"token": "x" * 65537}),
    ],
)
async def test_a_realm_that_answers_nonsense(status: int, answer: object) -> None:
    registry = _Registry()
    registry.status, registry.answer = status, answer  # type: ignore[assignment]
    async with app(registry) as peer, RegistryClient(guard_for(peer.address)) as client:
        with pytest.raises(OciError) as caught:
            await _blob(client, peer)
        assert not isinstance(caught.value, UnavailableError)


async def test_a_token_that_does_not_help() -> None:
    registry = _Registry()
    registry.valid = lambda _: False
    async with app(registry) as peer:
        async with RegistryClient(guard_for(peer.address), _config(peer.address)) as client:
            for _ in range(2):
                with pytest.raises(UnauthorizedError, match="tried secret web/pull"):
                    await _blob(client, peer)
        assert len(peer.seen) < 10


async def test_a_revoked_token_is_replaced() -> None:
    registry = _Registry()
    async with app(registry) as peer, RegistryClient(guard_for(peer.address)) as client:
        await _blob(client, peer)
        registry.answer["token"] = "t2"
        registry.valid = lambda header: header == "Bearer t2"
        assert await _blob(client, peer) == BLOB
        assert peer.headers("Authorization")[-2:] == [None, "Bearer t2"]


async def test_403_says_what_was_tried() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=403, text=SECRET)

    async with app(answer) as peer:
        async with RegistryClient(guard_for(peer.address), _config(peer.address)) as client:
            with pytest.raises(UnauthorizedError, match=r"403.*tried secret web/pull") as caught:
                await _blob(client, peer)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest/meta-data",
        "https://evil.example/token",
        "http://localhost:1/token",
        "/token",
        "gopher://x",
        "http://[",
    ],
)
async def test_the_password_goes_to_no_foreign_realm(realm: str) -> None:
    registry = _Registry()
    registry.realm = realm
    async with app(registry) as peer:
        async with RegistryClient(guard_for(peer.address), _config(peer.address)) as client:
            with pytest.raises((HostRefusedError, ProtocolError)):
                await _blob(client, peer)
        assert len(peer.seen) == 1


async def test_a_realm_on_the_list_may_be_another_host() -> None:
    tokens = _Registry()
    registry = _Registry()
    async with app(tokens) as other, app(registry) as peer:
        registry.realm = f"http://{other.address}/token?account=x"
        guard = Guard(
            named=lambda: {peer.address}, insecure=frozenset({peer.address, other.address})
        )
        async with RegistryClient(guard, _config(peer.address)) as client:
            assert await _blob(client, peer) == BLOB
        assert other.headers("Authorization") == [BASIC]
        assert other.seen[0].query["account"] == "x"
        assert other.seen[0].query["scope"] == "repository:acme/web:pull"


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Realm:
    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[TokenRequest] = []

    async def __call__(self, request: TokenRequest) -> tuple[int, bytes]:
        self.requests.append(request)
        return 200, self.answer


OFFER = 'Bearer realm="https://registry.example/token"'
IMAGE = ImageReference("registry.example", "acme/web")


def _authenticator(
    realm: _Realm, clock: _Clock, credentials: CredentialSource | None = None
) -> Authenticator:
    guard = Guard(named=lambda: {"registry.example"})
    return Authenticator(guard, credentials or Anonymous(), realm, clock)


@pytest.mark.parametrize(
    ("expires_in", "life"),
    [("", 55), (',"expires_in":300', 295), (',"expires_in":1e9', 3595), (',"expires_in":null', 55)],
)
async def test_a_token_is_kept_until_shortly_before_it_expires(expires_in: str, life: int) -> None:
    if "1e9" in expires_in:
        expires_in = ',"expires_in":1000000000'
    clock = _Clock()
    realm = _Realm(f'{{"token":"t"{expires_in}}}'.encode())
    auth = _authenticator(realm, clock)
    assert await auth.known(IMAGE, push=False) is None
    assert await auth.challenged(IMAGE, [OFFER], None, push=False) == "Bearer t"
    clock.now += life - 1
    assert await auth.known(IMAGE, push=False) == "Bearer t"
    assert len(realm.requests) == 1
    clock.now += 1
    assert await auth.known(IMAGE, push=False) == "Bearer t"
    assert len(realm.requests) == 2


@pytest.mark.parametrize("expires_in", ["0", "-5", "3"])
async def test_a_token_that_expires_at_once_is_used_once(expires_in: str) -> None:
    realm = _Realm(f'{{"token":"t","expires_in":{expires_in}}}'.encode())
    auth = _authenticator(realm, _Clock())
    await auth.challenged(IMAGE, [OFFER], None, push=False)
    await auth.known(IMAGE, push=False)
    assert len(realm.requests) == 2


async def test_new_credentials_mean_a_new_token() -> None:
    class Rotating:
        password = "one"

        def find(self, image: ImageReference) -> Credential | None:
            return Credential("secret", "robot", self.password)

        def describe(self) -> str:
            return "secret"

    source = Rotating()
    realm = _Realm(b'{"token":"t","expires_in":300}')
    auth = _authenticator(realm, _Clock(), source)
    await auth.challenged(IMAGE, [OFFER], None, push=False)
    await auth.known(IMAGE, push=False)
    source.password = "two"
    await auth.known(IMAGE, push=False)
    assert len(realm.requests) == 2
    assert realm.requests[0].headers != realm.requests[1].headers


async def test_a_cancelled_wait_does_not_lock_the_others_out() -> None:
    release = asyncio.Event()
    asked = 0

    async def slow(_: TokenRequest) -> tuple[int, bytes]:
        nonlocal asked
        asked += 1
        await release.wait()
        return 200, b'{"token":"t"}'

    auth = Authenticator(Guard(named=lambda: {"registry.example"}), Anonymous(), slow, _Clock())
    first = asyncio.create_task(auth.challenged(IMAGE, [OFFER], None, push=False))
    second = asyncio.create_task(auth.challenged(IMAGE, [OFFER], None, push=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert await second == "Bearer t"
    assert asked == 2
    with pytest.raises(asyncio.CancelledError):
        await first


def test_secrets_do_not_show() -> None:
    config = _config("registry.example")
    credential = config.find(IMAGE)
    assert credential is not None
    request = TokenRequest(guard_for("x").admit("x"), {"Authorization": BASIC}, PASSWORD.encode())
    for text in (repr(config), repr(credential), repr(request)):
        assert PASSWORD not in text
        assert BASIC not in text
