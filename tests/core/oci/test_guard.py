"""Hosts and addresses: nobody but us decides who is contacted."""

from __future__ import annotations

import ipaddress
import socket
from unittest.mock import patch

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from tests.core.oci.peers import app
from tests.core.oci.support import guard_for
from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci.address import Reach, parse, reach
from trailgate.oci.client import RegistryClient
from trailgate.oci.credentials import DockerConfig
from trailgate.oci.errors import HostRefusedError, OciError, ProtocolError, UnavailableError
from trailgate.oci.guard import (
    Guard,
    GuardedResolver,
    guarded_socket,
    matches,
    same_site,
)
from trailgate.oci.limits import Limits

BLOB = b"content"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.8.8.8", Reach.PUBLIC),
        ("2606:4700::1111", Reach.PUBLIC),
        ("64:ff9b::808:808", Reach.PUBLIC),
        ("127.0.0.1", Reach.PRIVATE),
        ("127.9.9.9", Reach.PRIVATE),
        ("::1", Reach.PRIVATE),
        ("10.0.0.1", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("198.18.0.1", Reach.PRIVATE),
        ("fd12::1", Reach.PRIVATE),
        ("2001:db8::1", Reach.PRIVATE),
        ("::ffff:127.0.0.1", Reach.PRIVATE),
        ("::ffff:10.1.2.3", Reach.PRIVATE),
        ("::127.0.0.1", Reach.PRIVATE),
        ("2002:0a00:0001::", Reach.PRIVATE),
        ("64:ff9b::10.0.0.1", Reach.PRIVATE),
        ("169.254.169.254", Reach.NEVER),
        ("169.254.170.2", Reach.NEVER),
        ("::ffff:169.254.169.254", Reach.NEVER),
        ("64:ff9b::169.254.169.254", Reach.NEVER),
        ("2002:a9fe:a9fe::", Reach.NEVER),
        ("fe80::1", Reach.NEVER),
        ("fe80::1%eth0", Reach.NEVER),
        ("fec0::1", Reach.NEVER),
        ("fd00:ec2::254", Reach.NEVER),
        ("fd00:ec2::23", Reach.NEVER),
        ("fd20:ce::254", Reach.NEVER),
        ("100.100.100.200", Reach.NEVER),
        ("168.63.129.16", Reach.NEVER),
        ("192.0.0.192", Reach.NEVER),
        ("0.0.0.0", Reach.NEVER),
        ("::", Reach.NEVER),
        ("224.0.0.1", Reach.NEVER),
        ("ff02::1", Reach.NEVER),
        ("255.255.255.255", Reach.NEVER),
        ("240.0.0.1", Reach.NEVER),
    ],
)
def test_where_an_address_leads(text: str, expected: Reach) -> None:
    assert reach(ipaddress.ip_address(text)) is expected


@given(st.ip_addresses(v=4))
def test_wrapping_an_address_changes_nothing(address: ipaddress.IPv4Address) -> None:
    expected = reach(address)
    number = int(address)
    for wrapped in (
        (0xFFFF << 32) | number,
        (0x64FF9B << 96) | number,
        (0x2002 << 112) | (number << 80),
    ):
        assert reach(ipaddress.IPv6Address(wrapped)) is expected


@given(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(network="fc00::/7"))
def test_private_ranges_are_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert reach(address) is not Reach.PUBLIC


def test_literal_addresses_are_told_from_names() -> None:
    assert parse("[::1]") == ipaddress.ip_address("::1")
    assert parse("ghcr.io") is None
    assert parse("127.1") is None


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("ghcr.io", "ghcr.io:443", False),
        ("ghcr.io", "xghcr.io", False),
        ("ghcr.io", "ghcrxio", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "a.example.com.evil.net", False),
        ("*.example.com", "a.example.com:8443", False),
        ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com", True),
        ("*", "localhost", True),
        ("*", "ghcr.io", False),
        ("[a-z]+", "abc", False),
    ],
)
def test_patterns_of_hosts(pattern: str, host: str, *, expected: bool) -> None:
    assert matches(pattern, host) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("registry.acme.com", "registry.acme.com", True),
        ("registry.acme.com", "gitlab.acme.com", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.acme.co.uk", "auth.acme.co.uk", True),
        ("registry.acme.co.uk", "evil.co.uk", False),
        ("registry.acme.com", "evil.com", False),
        ("acme.azurecr.io", "evil.azurecr.io", False),
        ("acme.azurecr.io", "acme.azurecr.io", True),
        ("a.github.io", "b.github.io", False),
        ("1.dkr.ecr.eu-west-1.amazonaws.com", "evil.s3.amazonaws.com", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "9.0.0.1", False),
        ("localhost", "localhost", True),
        ("registry", "auth", False),
        ("com", "acme.com", False),
    ],
)
def test_sites(one: str, other: str, *, expected: bool) -> None:
    assert same_site(one, other) is expected
    assert same_site(other, one) is expected


def test_only_named_registries_are_admitted() -> None:
    names = {"ghcr.io", "*.example.com"}
    guard = Guard(named=lambda: names)
    assert guard.admit("ghcr.io") == URL("https://ghcr.io/")
    assert guard.admit("a.example.com") == URL("https://a.example.com/")
    with pytest.raises(HostRefusedError, match="no policy or command names it"):
        guard.admit("quay.io")
    names.add("quay.io")  # a policy was added
    assert guard.admit("quay.io") == URL("https://quay.io/")


def test_docker_hub_lives_elsewhere() -> None:
    guard = Guard(named=lambda: {"docker.io"})
    assert guard.admit("docker.io") == URL("https://registry-1.docker.io/")
    guard.admit_realm("docker.io", URL("https://auth.docker.io/token"))
    guard.admit_redirect(
        "docker.io",
        guard.admit("docker.io"),
        URL("https://production.cloudflare.docker.com/registry-v2/x"),
    )


@pytest.mark.parametrize(
    "host", ["127.0.0.1:5000", "10.0.0.1", "169.254.169.254", "[::1]:5000", "2130706433.", "127.1"]
)
def test_naming_an_address_is_not_enough(host: str) -> None:
    guard = Guard(named=lambda: {host})
    with pytest.raises(HostRefusedError):
        guard.admit(host)


def test_private_addresses_by_opt_in() -> None:
    guard = Guard(
        named=lambda: {"127.0.0.1:5000", "10.0.0.1:5000", "169.254.169.254"},
        insecure=frozenset({"127.0.0.1:5000"}),
        private=frozenset({"10.0.0.1", "169.254.169.254", "*.cluster.local"}),
    )
    assert guard.admit("127.0.0.1:5000") == URL("http://127.0.0.1:5000/")
    assert guard.admit("10.0.0.1:5000") == URL("https://10.0.0.1:5000/")
    with pytest.raises(HostRefusedError, match="metadata"):
        guard.admit("169.254.169.254")
    guard.admit_address("registry.cluster.local", ipaddress.ip_address("10.96.0.10"))
    with pytest.raises(HostRefusedError, match="private"):
        guard.admit_address("ghcr.io", ipaddress.ip_address("10.96.0.10"))
    with pytest.raises(HostRefusedError, match="metadata"):
        guard.admit_address("registry.cluster.local", ipaddress.ip_address("fe80::1"))


REGISTRY = "registry.example.com"


@pytest.mark.parametrize(
    "target",
    [
        "https://elsewhere.example.net/blob",
        "https://other.example.com/blob",
        "http://registry.example.com/blob",
        "ftp://registry.example.com/blob",
        "file:///etc/passwd",
        "https://user:password@registry.example.com/blob",
        "https://user@cdn.example.com/blob",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:169.254.169.254]/",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://127.1/",
    ],
)
def test_redirects_that_are_not_followed(target: str) -> None:
    guard = Guard(
        named=lambda: {REGISTRY},
        redirects={"registry.example.com": ("cdn.example.com", "*", "*.*.*.*", "*.*")}
        if target.removeprefix("https://")[0].isdigit()
        else {"registry.example.com": ("cdn.example.com",)},
    )
    with pytest.raises(HostRefusedError):
        guard.admit_redirect(REGISTRY, guard.admit(REGISTRY), URL(target))


def test_redirects_that_are_followed() -> None:
    guard = Guard(
        named=lambda: {REGISTRY}, redirects={"*.example.com": ("cdn.example.com", "*.r2.example")}
    )
    own = guard.admit(REGISTRY)
    for target in ("registry.example.com:8443", "cdn.example.com", "x.r2.example"):
        guard.admit_redirect(REGISTRY, own, URL(f"https://{target}/blob?sig=1"))


@pytest.mark.parametrize(
    "realm",
    [
        "https://evil.example.net/token",
        "http://registry.example.com/token",
        "https://169.254.169.254/token",
        "https://[fd00:ec2::254]/token",
        "https://10.0.0.1/token",
        "https://user:pw@registry.example.com/token",
        "/token",
        "https:///token",
    ],
)
def test_realms_that_are_not_asked(realm: str) -> None:
    guard = Guard(named=lambda: {REGISTRY})
    with pytest.raises(HostRefusedError):
        guard.admit_realm(REGISTRY, URL(realm))


def test_realms_on_the_list_are_asked() -> None:
    guard = Guard(named=lambda: {REGISTRY}, realms={REGISTRY: ("login.example.net",)})
    guard.admit_realm(REGISTRY, URL("https://login.example.net/token"))
    guard.admit_realm(REGISTRY, URL("https://auth.example.com/token"))


class _Names(AbstractResolver):
    """Answers with the next list of addresses at each lookup."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.lookups = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self.answers[min(self.lookups, len(self.answers) - 1)]
        self.lookups += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


async def test_a_name_with_only_forbidden_addresses() -> None:
    guard = Guard(named=lambda: {"ghcr.io"})
    for addresses in (["127.0.0.1"], ["169.254.169.254", "10.0.0.1"], ["::1"]):
        with pytest.raises(HostRefusedError, match=r"ghcr\.io"):
            await GuardedResolver(guard, _Names(addresses)).resolve("ghcr.io", 443)


async def test_forbidden_addresses_are_left_out() -> None:
    guard = Guard(named=lambda: {"ghcr.io"})
    names = _Names(["10.0.0.1", "140.82.121.34", "fe80::1"])
    found = await GuardedResolver(guard, names).resolve("ghcr.io", 443)
    assert [result["host"] for result in found] == ["140.82.121.34"]


async def test_a_rebound_name_reaches_nobody() -> None:
    """A named host whose address turns out to be loopback: nothing is sent there."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=BLOB)

    async with app(answer) as peer:
        port = peer.address.rpartition(":")[2]
        host = f"rebound.example:{port}"
        names = _Names(["127.0.0.1"])
        with patch("trailgate.oci.guard.DefaultResolver", return_value=names):
            guard = Guard(named=lambda: {host}, insecure=frozenset({"other.example"}))
            async with RegistryClient(guard) as client:
                with pytest.raises(HostRefusedError, match="private"):
                    await client.blob(ImageReference(host, "acme/web"), Digest.of(BLOB), 100)
        assert names.lookups == 1
        assert peer.seen == []


async def test_the_checked_address_is_the_one_connected_to() -> None:
    """The name is looked up once a connection: a second answer can't slip in."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=BLOB)

    async with app(answer) as peer:
        port = peer.address.rpartition(":")[2]
        host = f"steady.example:{port}"
        names = _Names(["127.0.0.1"], ["169.254.169.254"])
        with patch("trailgate.oci.guard.DefaultResolver", return_value=names):
            async with RegistryClient(guard_for(host)) as client:
                found = await client.blob(ImageReference(host, "acme/web"), Digest.of(BLOB), 100)
        assert found == BLOB
        assert names.lookups == 1


def test_the_last_look_before_a_connection() -> None:
    for address in ("169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "fd00:ec2::254"):
        with pytest.raises(PermissionError):
            guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80)))
    with guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))) as made:
        assert made.gettimeout() == 0


async def test_the_last_look_stops_what_passed_before_it() -> None:
    """Were the resolver's check ever bypassed, the socket still isn't made."""
    names = _Names(["169.254.169.254", "224.0.0.1"], ["169.254.169.254"])
    with (
        patch("trailgate.oci.guard.DefaultResolver", return_value=names),
        patch.object(Guard, "admit_address", lambda *_: None),
    ):
        guard = guard_for("metadata.example:80")
        async with RegistryClient(guard, limits=Limits(total=3)) as client:
            with pytest.raises(HostRefusedError, match="address is not contacted"):
                await client.manifest(ImageReference("metadata.example:80", "acme/web"))
    assert names.lookups == 1


async def test_an_unnamed_host_is_refused_before_any_lookup() -> None:
    names = _Names(["127.0.0.1"])
    with patch("trailgate.oci.guard.DefaultResolver", return_value=names):
        async with RegistryClient(guard_for("named.example")) as client:
            image = ImageReference("unnamed.example", "acme/web", "v1")
            digest = Digest.of(BLOB)
            for call in (
                client.resolve(image),
                client.manifest(image),
                client.blob(image, digest, 10),
                client.referrers(image.with_digest(digest)),
                client.push_blob(image, BLOB),
                client.push_manifest(image, BLOB, "x"),
                client.attach(image, BLOB, "x"),
            ):
                with pytest.raises(HostRefusedError):
                    await call
    assert names.lookups == 0


async def test_a_name_that_does_not_resolve() -> None:
    class Nowhere(_Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            raise OSError(-2, "Name or service not known")

    with patch("trailgate.oci.guard.DefaultResolver", return_value=Nowhere()):
        async with RegistryClient(guard_for("gone.example")) as client:
            with pytest.raises(UnavailableError, match="resolve"):
                await client.manifest(ImageReference("gone.example", "acme/web"))


CONFIG = DockerConfig.parse(b'{"auths":{"127.0.0.1":{"username":"u","password":"p"}}}', "test")


async def test_credentials_stay_with_the_first_origin() -> None:
    """Even on the way back: a → b → a."""
    config: list[DockerConfig] = []

    async def second(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"http://{first.address}/final"})

    async def opening(request: web.Request) -> web.Response:
        if "Authorization" not in request.headers and request.path != "/final":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        if request.path == "/final":
            return web.Response(body=BLOB)
        return web.Response(status=307, headers={"Location": f"http://{other.address}/x"})

    async with app(second) as other, app(opening) as first:
        text = b'{"auths":{"%s":{"username":"u","password":"p"}}}' % first.address.encode()
        config.append(DockerConfig.parse(text, "test"))
        guard = Guard(
            named=lambda: {first.address}, insecure=frozenset({first.address, other.address})
        )
        async with RegistryClient(guard, config[0]) as client:
            image = ImageReference(first.address, "acme/web")
            assert await client.blob(image, Digest.of(BLOB), 100) == BLOB
        assert first.headers("Authorization") == [None, "Basic dTpw", None]
        assert other.headers("Authorization") == [None]


async def test_a_challenge_from_where_we_were_redirected_is_ignored() -> None:
    async def second(_: web.Request) -> web.Response:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="give"'})

    async def opening(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"http://{other.address}/x"})

    async with app(second) as other, app(opening) as first:
        text = b'{"auths":{"%s":{"username":"u","password":"p"}}}' % first.address.encode()
        guard = Guard(
            named=lambda: {first.address}, insecure=frozenset({first.address, other.address})
        )
        async with RegistryClient(guard, DockerConfig.parse(text, "test")) as client:
            with pytest.raises(OciError, match="401"):
                await client.blob(ImageReference(first.address, "a"), Digest.of(BLOB), 100)
        assert other.headers("Authorization") == [None]
        assert len(first.seen) == 1


@pytest.mark.parametrize("listed", [True, False])
async def test_a_redirect_elsewhere_is_followed_only_where_listed(*, listed: bool) -> None:
    async def second(_: web.Request) -> web.Response:
        return web.Response(body=BLOB)

    async def opening(_: web.Request) -> web.Response:
        port = other.address.rpartition(":")[2]
        return web.Response(status=307, headers={"Location": f"http://localhost:{port}/x"})

    async with app(second) as other, app(opening) as first:
        elsewhere = f"localhost:{other.address.rpartition(':')[2]}"
        guard = Guard(
            named=lambda: {first.address, elsewhere},  # being a registry isn't being listed
            insecure=frozenset({first.address, elsewhere}),
            redirects={"127.0.0.1:*": ("localhost",)} if listed else {},
        )
        async with RegistryClient(guard) as client:
            fetch = client.blob(ImageReference(first.address, "a"), Digest.of(BLOB), 100)
            if listed:
                assert await fetch == BLOB
            else:
                with pytest.raises(HostRefusedError, match="redirect to localhost"):
                    await fetch
        assert len(other.seen) == (1 if listed else 0)


async def test_cookies_are_not_kept() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=BLOB, headers={"Set-Cookie": "session=1; Path=/"})

    async with app(answer) as peer:
        host = f"localhost:{peer.address.rpartition(':')[2]}"  # cookies of addresses are dropped anyway
        async with RegistryClient(guard_for(host)) as client:
            for _ in range(2):
                await client.blob(ImageReference(host, "acme/web"), Digest.of(BLOB), 100)
        assert peer.headers("Cookie") == [None, None]


async def test_a_redirect_of_a_write_is_not_followed() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with app(answer) as peer:
        async with RegistryClient(guard_for(peer.address)) as client:
            with pytest.raises(ProtocolError, match="307"):
                await client.push_manifest(ImageReference(peer.address, "a"), b"{}", "x")
        assert len(peer.seen) == 1
