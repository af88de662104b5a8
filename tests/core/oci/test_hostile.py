"""Peers that misbehave: each gets a typed error in time, and nothing leaks."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from aiohttp import web

from tests.core.oci.peers import SECRET, Handler, app, raw
from tests.core.oci.support import client_for
from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci import documents, media
from trailgate.oci.attached import fetch_attached
from trailgate.oci.client import RegistryClient
from trailgate.oci.errors import (
    DigestMismatchError,
    NotFoundError,
    OciError,
    ProtocolError,
    TooLargeError,
    UnavailableError,
)
from trailgate.oci.guard import Guard
from trailgate.oci.limits import Limits
from trailgate.oci.registry import Descriptor

LIMITS = Limits(connect=1.0, read=0.4, total=1.0, upload=1.0)
DEADLINE = 1.6
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n"


def _image(address: str, digest: Digest | None = None) -> ImageReference:
    return ImageReference(address, "acme/web", None if digest else "v1", digest)


async def _hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


def _says(content: bytes) -> Handler:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()

    return say


def _repeats(first: bytes, again: bytes, pause: float = 0.0) -> Handler:
    async def repeat(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)

    return repeat


def _body(content: bytes, content_type: str = media.OCI_MANIFEST) -> Handler:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return _says(head.encode() + content)


JUNK = SECRET.encode()
MANIFEST = documents.image_manifest(
    config=Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2), layers=[]
)

PEERS: dict[str, tuple[Handler, type[OciError]]] = {
    "hangs": (_hang, UnavailableError),
    "closes at once": (_says(b""), UnavailableError),
    "dribbles headers": (_repeats(OK, b"X", 0.1), UnavailableError),
    "dribbles the body": (
        _repeats(OK + b"Content-Length: 4000\r\n\r\n", b" ", 0.1),
        UnavailableError,
    ),
    "hangs inside the body": (
        _repeats(OK + b"Content-Length: 4000\r\n\r\n", b" ", 30),
        UnavailableError,
    ),
    "cuts the body off": (_says(OK + b"Content-Length: 4000\r\n\r\n" + JUNK), UnavailableError),
    "endless header lines": (_repeats(OK, b"X-A: " + JUNK + b"\r\n"), ProtocolError),
    "endless header line": (_repeats(OK + b"X-A: ", JUNK * 100), ProtocolError),
    "endless status line": (_repeats(b"HTTP/1.1 200 ", JUNK * 100), ProtocolError),
    "endless interim answers": (
        _repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
        UnavailableError,
    ),
    "not HTTP": (_says(b"SSH-2.0-" + JUNK + b"\r\n\r\n"), ProtocolError),
    "a bad chunk size": (
        _says(OK + b"Transfer-Encoding: chunked\r\n\r\n" + JUNK + b"\r\n"),
        ProtocolError,
    ),
    "endless chunks": (
        _repeats(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"),
        TooLargeError,
    ),
    "endless body without a length": (
        _repeats(OK + b"Connection: close\r\n\r\n", b" " * 65536),
        TooLargeError,
    ),
    "a huge announced length": (_says(OK + b"Content-Length: 99999999999\r\n\r\n"), TooLargeError),
    "a gzip bomb": (
        _body(b"", media.OCI_MANIFEST + "\r\nContent-Encoding: gzip"),
        ProtocolError,
    ),
    "an endless 404": (
        _repeats(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n", b" " * 65536),
        NotFoundError,
    ),
    "no JSON": (_body(JUNK), ProtocolError),
    "half of JSON": (_body(MANIFEST[:-10]), ProtocolError),
    "no UTF-8": (_body(b'{"schemaVersion":2,"mediaType":"\xff\xfe"}'), ProtocolError),
    "deep JSON": (_body(b'{"schemaVersion":2,"a":' + b"[" * 1_000_000), ProtocolError),
    "deep and closed JSON": (
        _body(b'{"schemaVersion":2,"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        ProtocolError,
    ),
    "JSON of another form": (_body(b'["' + JUNK + b'"]'), ProtocolError),
    "a string for a number": (_body(b'{"schemaVersion":"' + JUNK + b'"}'), ProtocolError),
    "schema 1": (_body(b'{"schemaVersion":1}'), ProtocolError),
    "another media type in the body": (
        _body(b'{"schemaVersion":2,"mediaType":"' + JUNK + b'"}'),
        ProtocolError,
    ),
    "a media type that differs from the header": (_body(MANIFEST, media.OCI_INDEX), ProtocolError),
    "HTML": (_body(b"<html>" + JUNK, "text/html"), ProtocolError),
    "JSON called HTML": (_body(MANIFEST, "text/html"), ProtocolError),
    "a manifest that is an index too": (
        _body(MANIFEST[:-1] + b',"manifests":[]}'),
        ProtocolError,
    ),
    "an index with layers": (
        _body(documents.index([])[:-1] + b',"layers":[]}', media.OCI_INDEX),
        ProtocolError,
    ),
    "a layer with another digest algorithm": (
        _body(b'{"schemaVersion":2,"layers":[{"mediaType":"x","digest":"sha512:ab","size":1}]}'),
        ProtocolError,
    ),
    "a negative size": (
        _body(
            b'{"schemaVersion":2,"layers":[{"mediaType":"x","digest":"%s","size":-1}]}'
            % str(Digest.of(b"")).encode()
        ),
        ProtocolError,
    ),
    "a digest header that lies": (
        _says(
            OK
            + b"Docker-Content-Digest: %s\r\n" % str(Digest.of(JUNK)).encode()
            + b"Content-Length: %d\r\n\r\n" % len(MANIFEST)
            + MANIFEST
        ),
        DigestMismatchError,
    ),
    "too many entries": (
        _body(
            documents.index(
                [Descriptor(media.OCI_MANIFEST, Digest.of(b"%d" % n), 1) for n in range(257)]
            ),
            media.OCI_INDEX,
        ),
        TooLargeError,
    ),
    "a redirect without a target": (_says(b"HTTP/1.1 302 Found\r\n\r\n"), ProtocolError),
    "a redirect to nonsense": (
        _says(b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n"),
        ProtocolError,
    ),
    "a teapot": (_says(b"HTTP/1.1 418 No\r\nContent-Length: 0\r\n\r\n"), ProtocolError),
    "an informational end": (_says(b"HTTP/1.1 204 No Content\r\n\r\n"), ProtocolError),
}


@pytest.mark.parametrize("name", PEERS)
async def test_a_hostile_manifest(name: str) -> None:
    handler, expected = PEERS[name]
    async with raw(handler) as peer, client_for(peer.address, limits=LIMITS) as client:
        began = time.monotonic()
        with pytest.raises(OciError) as caught:
            await client.manifest(_image(peer.address))
        assert time.monotonic() - began < DEADLINE
        assert type(caught.value) is expected
        assert peer.address in str(caught.value)
        assert SECRET not in f"{caught.value!s} {caught.value!r}"
        assert len(str(caught.value)) < 300
        assert caught.value.__cause__ is None, "the foreign error must not ride along"
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
        await peer.closed()


async def test_nothing_listens() -> None:
    async with raw(_hang) as peer:
        address = peer.address
    async with client_for(address, limits=LIMITS) as client:
        with pytest.raises(UnavailableError, match=address):
            await client.manifest(_image(address))


async def test_a_gzip_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b" " * 64 * 1024 * 1024)

    async def answer(_: web.Request) -> web.Response:
        headers = {"Content-Encoding": "gzip", "Content-Type": media.OCI_MANIFEST}
        return web.Response(body=bomb, headers=headers)

    async with app(answer) as peer, client_for(peer.address, limits=LIMITS) as client:
        tracemalloc.start()
        try:
            with pytest.raises(ProtocolError, match="compressed"):
                await client.manifest(_image(peer.address))
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
        finally:
            tracemalloc.stop()
        assert peer.headers("Accept-Encoding") == ["identity"]


async def test_a_redirect_loop() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": str(request.rel_url)})

    async with app(answer) as peer, client_for(peer.address, limits=LIMITS) as client:
        with pytest.raises(ProtocolError, match="redirects"):
            await client.manifest(_image(peer.address))
        assert len(peer.seen) == LIMITS.redirects + 1


@pytest.mark.parametrize("served", [MANIFEST + b" ", b"", JUNK])
async def test_other_bytes_than_the_digest_asked_for(served: bytes) -> None:
    """By digest nothing is even parsed before it hashes right."""
    digest = Digest.of(MANIFEST)
    header = {"Docker-Content-Digest": str(digest)}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=served, content_type=media.OCI_MANIFEST, headers=header)

    async with app(answer) as peer, client_for(peer.address, limits=LIMITS) as client:
        with pytest.raises(DigestMismatchError) as caught:
            await client.manifest(_image(peer.address, digest))
        assert SECRET not in str(caught.value)
        with pytest.raises(DigestMismatchError):
            await client.blob(_image(peer.address), digest, 1000)


async def test_a_manifest_over_four_mebibytes() -> None:
    padding = {"a": "x" * (4 * 1024 * 1024)}
    large = documents.image_manifest(
        config=Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2), layers=[], annotations=padding
    )

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=large, content_type=media.OCI_MANIFEST)

    async with app(answer) as peer, client_for(peer.address) as client:
        with pytest.raises(TooLargeError):
            await client.manifest(_image(peer.address, Digest.of(large)))


async def test_a_blob_is_bounded_by_eight_mebibytes_whatever_is_asked() -> None:
    large = b"x" * (8 * 1024 * 1024 + 1)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=large)

    async with app(answer) as peer, client_for(peer.address) as client:
        with pytest.raises(TooLargeError):
            await client.blob(_image(peer.address), Digest.of(large), 1 << 40)


def _listing(more: Callable[[int], str | None]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        page = int(request.query.get("page", "0"))
        entry = Descriptor(media.OCI_MANIFEST, Digest.of(b"%d" % page), 1)
        link = more(page)
        return web.Response(
            body=documents.index([entry]),
            content_type=media.OCI_INDEX,
            headers={"Link": link} if link else {},
        )

    return answer


async def test_pages_of_referrers_are_followed() -> None:
    def more(page: int) -> str | None:
        return f'</other>; rel="prev", <?page={page + 1}>; rel="next"' if page < 3 else None

    async with app(_listing(more)) as peer, client_for(peer.address) as client:
        found = await client.referrers(_image(peer.address, Digest.of(b"x")))
        assert [entry.digest for entry in found] == [Digest.of(b"%d" % page) for page in range(4)]


async def test_endless_pages_of_referrers() -> None:
    def more(page: int) -> str:
        return f'<?page={page + 1}>; rel="next"'

    async with app(_listing(more)) as peer, client_for(peer.address) as client:
        with pytest.raises(TooLargeError, match="pages"):
            await client.referrers(_image(peer.address, Digest.of(b"x")))
        assert len(peer.seen) == Limits().pages


async def test_too_many_referrers_on_one_page() -> None:
    entries = [Descriptor(media.OCI_MANIFEST, Digest.of(b"%d" % n), 1) for n in range(257)]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=documents.index(entries), content_type=media.OCI_INDEX)

    async with app(answer) as peer, client_for(peer.address) as client:
        with pytest.raises(TooLargeError, match="256 referrers"):
            await client.referrers(_image(peer.address, Digest.of(b"x")))


@pytest.mark.parametrize(
    ("status", "header"),
    [(405, None), (200, None), (200, "sha512:" + "ab" * 64), (200, "nonsense")],
)
async def test_a_head_that_names_no_digest_is_followed_by_a_get(
    status: int, header: str | None
) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            headers = {"Docker-Content-Digest": header} if header else {}
            return web.Response(status=status, headers=headers)
        return web.Response(body=MANIFEST, content_type=media.OCI_MANIFEST)

    async with app(answer) as peer, client_for(peer.address) as client:
        assert await client.resolve(_image(peer.address)) == Digest.of(MANIFEST)
        assert [request.method for request in peer.seen] == ["HEAD", "GET"]


@pytest.mark.parametrize(
    "target",
    ["https://elsewhere.example/page", "http://169.254.169.254/latest", "//other.example/"],
)
async def test_a_page_elsewhere_is_not_asked(target: str) -> None:
    async with app(_listing(lambda _: f'<{target}>; rel="next"')) as peer:
        async with client_for(peer.address) as client:
            with pytest.raises(OciError, match="next page"):
                await client.referrers(_image(peer.address, Digest.of(b"x")))
        assert len(peer.seen) == 1


async def test_a_page_that_fails_fails_the_list() -> None:
    """Half a list would be taken for the whole one."""

    async def answer(request: web.Request) -> web.Response:
        if request.query:
            return web.Response(status=404)
        return await _listing(lambda _: '<?page=1>; rel="next"')(request)

    async with app(answer) as peer, client_for(peer.address) as client:
        with pytest.raises(ProtocolError, match="missing"):
            await client.referrers(_image(peer.address, Digest.of(b"x")))


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
async def test_no_referrers_api(status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=SECRET)

    async with app(answer) as peer, client_for(peer.address) as client:
        assert await client.referrers(_image(peer.address, Digest.of(b"x"))) == ()


async def test_a_web_page_is_no_referrers_api() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async with app(answer) as peer, client_for(peer.address) as client:
        assert await client.referrers(_image(peer.address, Digest.of(b"x"))) == ()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_referrers_api_is_no_absence(status: int) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "60"})

    async with app(answer) as peer, client_for(peer.address, limits=LIMITS) as client:
        with pytest.raises(UnavailableError):
            await client.referrers(_image(peer.address, Digest.of(b"x")))
        with pytest.raises(UnavailableError):
            await fetch_attached(client, _image(peer.address, Digest.of(b"x")))


async def test_referrers_that_are_no_list() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=JUNK, content_type=media.OCI_INDEX)

    async with app(answer) as peer, client_for(peer.address) as client:
        with pytest.raises(ProtocolError) as caught:
            await client.referrers(_image(peer.address, Digest.of(b"x")))
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured(status: int) -> None:
    times: list[float] = []

    async def answer(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.Response(status=status, headers={"Retry-After": "1"})
        return web.Response(body=MANIFEST, content_type=media.OCI_MANIFEST)

    async with app(answer) as peer, client_for(peer.address) as client:
        assert (await client.manifest(_image(peer.address))).content == MANIFEST
    assert 0.95 < times[1] - times[0] < 2


@pytest.mark.parametrize("when", ["30", "Fri, 31 Dec 2999 23:59:59 GMT"])
async def test_retry_after_the_deadline_fails_at_once(when: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": when}, text=SECRET)

    async with app(answer) as peer, client_for(peer.address, limits=LIMITS) as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="429") as caught:
            await client.manifest(_image(peer.address))
        assert time.monotonic() - began < 0.5
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 30
        assert SECRET not in str(caught.value)
        assert len(peer.seen) == 1


@pytest.mark.parametrize("when", ["", "soon", "-1", "1e9", "٣", "9" * 400])
async def test_a_retry_after_that_says_nothing(when: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": when})

    async with app(answer) as peer, client_for(peer.address, limits=LIMITS) as client:
        with pytest.raises(UnavailableError):
            await client.manifest(_image(peer.address))


async def test_a_failing_write_is_not_repeated() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with app(answer) as peer, client_for(peer.address) as client:
        with pytest.raises(UnavailableError):
            await client.push_manifest(_image(peer.address), MANIFEST, media.OCI_MANIFEST)
        assert len(peer.seen) == 1


async def test_cancelling_leaves_no_connection_and_the_pool_usable() -> None:
    ready = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await ready.wait()
        return web.Response(body=MANIFEST, content_type=media.OCI_MANIFEST)

    limits = Limits(connections=2)
    async with app(answer) as peer, client_for(peer.address, limits=limits) as client:
        for _ in range(5):  # more often than there are connections
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.manifest(_image(peer.address))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await fetch_attached(client, _image(peer.address, Digest.of(MANIFEST)))
        session = client._transport._session
        assert session is not None
        assert session.connector is not None
        assert not session.connector._acquired
        ready.set()
        assert (await client.manifest(_image(peer.address))).content == MANIFEST


async def test_connections_to_one_registry_are_bounded_and_kept() -> None:
    now = most = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return web.Response(body=MANIFEST, content_type=media.OCI_MANIFEST)

    async with (
        app(answer) as peer,
        client_for(peer.address, limits=Limits(connections=3)) as client,
    ):
        await asyncio.gather(*(client.manifest(_image(peer.address)) for _ in range(30)))
        assert most == 3
        ports = {
            request.transport.get_extra_info("peername")[1]
            for request in peer.seen
            if request.transport
        }
        assert len(ports) == 3


async def test_a_connection_outlives_a_404() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=404, text=SECRET * 100)

    async with app(answer) as peer, client_for(peer.address) as client:
        for _ in range(5):
            with pytest.raises(NotFoundError):
                await client.manifest(_image(peer.address))
        ports = {
            request.transport.get_extra_info("peername")[1]
            for request in peer.seen
            if request.transport
        }
        assert len(ports) == 1


async def test_plain_http_only_where_opted_in() -> None:
    async with raw(_hang) as peer:
        guard = Guard(named=lambda: {peer.address}, private=frozenset({"127.0.0.1"}))
        async with RegistryClient(guard, limits=LIMITS) as client:
            with pytest.raises(UnavailableError, match=r"TLS|silent|connection|complete"):
                await client.manifest(_image(peer.address))
        assert all(not request.startswith(b"GET") for request in peer.requests)


async def test_one_bad_referrer_does_not_hide_the_others() -> None:
    """Too large, not hashing, gone, not a manifest: told, and the good bundle is found."""
    bundle = b'{"good":true}'
    good = documents.image_manifest(
        config=Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2),
        layers=[Descriptor(media.BUNDLE, Digest.of(bundle), len(bundle))],
    )
    huge = documents.image_manifest(
        config=Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2),
        layers=[Descriptor(media.BUNDLE, Digest.of(b"huge"), 9 * 1024 * 1024)],
    )
    lying = documents.image_manifest(
        config=Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2),
        layers=[Descriptor(media.BUNDLE, Digest.of(b"lying"), 5)],
    )
    longer = documents.image_manifest(
        config=Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2),
        layers=[Descriptor(media.BUNDLE, Digest.of(b"longer"), 3)],
    )
    elsewhere = msgspec.json.decode(good)
    elsewhere["subject"] = {
        "mediaType": media.OCI_MANIFEST,
        "digest": str(Digest.of(b"another image")),
        "size": 1,
    }
    subject = msgspec.json.encode(elsewhere)
    stored = {str(Digest.of(one)): one for one in (MANIFEST, good, huge, lying, longer, subject)}
    stored[str(Digest.of(b"mangled"))] = good
    names = [*stored, str(Digest.of(b"gone"))]
    blobs = {
        str(Digest.of(bundle)): bundle,
        str(Digest.of(b"lying")): b"truth",
        str(Digest.of(b"longer")): b"longer",
    }

    async def answer(request: web.Request) -> web.Response:
        last = request.path.rpartition("/")[2]
        if "/referrers/" in request.path:
            entries = [Descriptor(media.OCI_MANIFEST, Digest.parse(name), 1) for name in names]
            return web.Response(body=documents.index(entries), content_type=media.OCI_INDEX)
        if "/blobs/" in request.path and last in blobs:
            return web.Response(body=blobs[last])
        if last in stored:
            return web.Response(body=stored[last], content_type=media.OCI_MANIFEST)
        return web.Response(status=404, text=SECRET)

    async with app(answer) as peer, client_for(peer.address) as client:
        attached = await fetch_attached(client, _image(peer.address, Digest.of(MANIFEST)))
    assert [artifact.content for artifact in attached.artifacts] == [bundle]
    told = "\n".join(attached.skipped)
    assert len(attached.skipped) == 6
    for name in (b"huge", b"lying", b"longer", b"mangled", b"gone"):
        assert str(Digest.of(name)) in told
    assert "subject is another image" in told
    assert SECRET not in told
