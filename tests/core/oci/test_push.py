"""Writing: what goes over the wire, and what happens when others write too."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from tests.core.oci.peers import SECRET, app
from tests.core.oci.support import SLSA, Place, client_for, image_manifest, push_image
from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci import documents, media, push
from trailgate.oci.attached import fallback_tag, fetch_attached
from trailgate.oci.errors import (
    ConflictError,
    DigestMismatchError,
    HostRefusedError,
    ProtocolError,
    TooLargeError,
    UnavailableError,
)
from trailgate.oci.limits import Limits
from trailgate.oci.memory import MemoryRegistry
from trailgate.oci.push import LegacyLayer
from trailgate.oci.registry import Descriptor, Manifest, Precondition, Pushed

CONTENT = b"some blob"
DIGEST = Digest.of(CONTENT)


@pytest.mark.parametrize(
    ("location", "put"),
    [
        ("/v2/acme/web/blobs/uploads/1", f"/v2/acme/web/blobs/uploads/1?digest={DIGEST}"),
        (
            "/v2/acme/web/blobs/uploads/1?_state=a%2Fb%3D%3D&x=1",
            f"/v2/acme/web/blobs/uploads/1?_state=a%2Fb%3D%3D&x=1&digest={DIGEST}",
        ),
        ("uploads/2", f"/v2/acme/web/blobs/uploads/uploads/2?digest={DIGEST}"),
        ("http://HOST/up/3#fragment", f"/up/3?digest={DIGEST}"),
    ],
)
async def test_an_upload_goes_where_the_registry_says(location: str, put: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=404)
        if request.method == "POST":
            target = location.replace("HOST", request.host)
            return web.Response(status=202, headers={"Location": target})
        assert await request.read() == CONTENT
        return web.Response(status=201)

    async with app(answer) as peer, client_for(peer.address) as client:
        assert await client.push_blob(ImageReference(peer.address, "acme/web"), CONTENT) == DIGEST
        assert [request.method for request in peer.seen] == ["HEAD", "POST", "PUT"]
        assert peer.seen[2].raw_path == put
        assert peer.seen[2].headers["Content-Type"] == "application/octet-stream"


async def test_a_blob_that_is_there_is_not_sent() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=200)

    async with app(answer) as peer, client_for(peer.address) as client:
        assert await client.push_blob(ImageReference(peer.address, "acme/web"), CONTENT) == DIGEST
        assert peer.paths() == [f"HEAD /v2/acme/web/blobs/{DIGEST}"]


@pytest.mark.parametrize(
    "location",
    [
        "https://elsewhere.example/up",
        "http://169.254.169.254/up",
        "//elsewhere.example/up",
        "http://user:pw@HOST/up",
        "https://HOST/up",
        "http://127.0.0.1:1/up",
    ],
)
async def test_content_is_uploaded_nowhere_else(location: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=404)
        target = location.replace("HOST", request.host)
        return web.Response(status=202, headers={"Location": target})

    async with app(answer) as peer, client_for(peer.address) as client:
        with pytest.raises(HostRefusedError, match="upload"):
            await client.push_blob(ImageReference(peer.address, "acme/web"), CONTENT)
        assert [request.method for request in peer.seen] == ["HEAD", "POST"]


@pytest.mark.parametrize("headers", [{}, {"Location": "http://["}])
async def test_an_upload_without_a_place(headers: dict[str, str]) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=404 if request.method == "HEAD" else 202, headers=headers)

    async with app(answer) as peer, client_for(peer.address) as client:
        with pytest.raises(ProtocolError, match="Location"):
            await client.push_blob(ImageReference(peer.address, "acme/web"), CONTENT)


@pytest.mark.parametrize(
    ("precondition", "expected"),
    [
        (None, (None, None)),
        (Precondition(None), (None, "*")),
        (Precondition('"abc"'), ('"abc"', None)),
    ],
)
async def test_conditions_of_a_write(
    precondition: Precondition | None, expected: tuple[str | None, str | None]
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=201, headers={"OCI-Subject": str(DIGEST)})

    async with app(answer) as peer, client_for(peer.address) as client:
        image = ImageReference(peer.address, "acme/web", "v1")
        pushed = await client.push_manifest(image, b"{}", media.OCI_MANIFEST, precondition)
        assert pushed == Pushed(Digest.of(b"{}"), subject_listed=True)
        headers = peer.seen[0].headers
        assert (headers.get("If-Match"), headers.get("If-None-Match")) == expected
        assert headers["Content-Type"] == media.OCI_MANIFEST


async def test_a_failed_condition_is_a_conflict() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=412, text=SECRET)

    async with app(answer) as peer, client_for(peer.address) as client:
        image = ImageReference(peer.address, "acme/web", "v1")
        with pytest.raises(ConflictError) as caught:
            await client.push_manifest(image, b"{}", media.OCI_MANIFEST)
        assert SECRET not in str(caught.value)


async def test_a_registry_that_stored_something_else() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=201, headers={"Docker-Content-Digest": str(Digest.of(b"x"))})

    async with app(answer) as peer, client_for(peer.address) as client:
        image = ImageReference(peer.address, "acme/web", "v1")
        with pytest.raises(DigestMismatchError):
            await client.push_manifest(image, b"{}", media.OCI_MANIFEST)


async def test_the_entity_tag_is_read() -> None:
    content = documents.image_manifest(
        config=Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2), layers=[]
    )

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=media.OCI_MANIFEST, headers={"ETag": '"e"'})

    async with app(answer) as peer, client_for(peer.address) as client:
        found = await client.manifest(ImageReference(peer.address, "acme/web"))
        assert found.etag == '"e"'


def _twin(**options: bool) -> tuple[Place, MemoryRegistry]:
    twin = MemoryRegistry(**options)
    return Place(twin, "registry.example", "acme/web", twin.referrers_api), twin


async def test_a_registry_that_lists_without_saying_so_needs_no_tag() -> None:
    """The API lists the referrer, the answer lacked OCI-Subject: no second list is made."""

    class Silent(MemoryRegistry):
        async def push_manifest(
            self,
            image: ImageReference,
            content: bytes,
            media_type: str,
            precondition: Precondition | None = None,
        ) -> Pushed:
            pushed = await super().push_manifest(image, content, media_type, precondition)
            return replace(pushed, subject_listed=False)

    twin = Silent()
    place = Place(twin, "registry.example", "acme/web", referrers=True)
    image = await push_image(place)
    await twin.attach(image, b"{}", SLSA)
    assert twin.tags(image) == {}


async def test_the_tag_keeps_what_others_listed() -> None:
    place, twin = _twin(referrers_api=False)
    image = await push_image(place)
    other = (await twin.manifest(await push_image(place))).descriptor
    other = replace(other, artifact_type="application/spdx+json", annotations={"a": "b"})
    content = documents.index([other], {"note": "kept"})
    await twin.push_manifest(fallback_tag(image), content, media.OCI_INDEX)
    digest = await twin.attach(image, b"{}", SLSA)
    index = await twin.manifest(fallback_tag(image))
    assert index.manifests[0] == other
    assert [entry.digest for entry in index.manifests[1:]] == [digest]
    assert index.annotations == {"note": "kept"}


@pytest.mark.parametrize("kind", ["image", "sha512"])
async def test_a_tag_that_cannot_be_kept_whole_is_not_rewritten(kind: str) -> None:
    place, twin = _twin(referrers_api=False)
    image = await push_image(place)
    if kind == "image":
        content = (await twin.manifest(image)).content
        await twin.push_manifest(fallback_tag(image), content, media.OCI_MANIFEST)
    else:
        entry = '{"mediaType":"x","digest":"sha512:%s","size":1}' % ("ab" * 64)
        content = f'{{"schemaVersion":2,"manifests":[{entry}]}}'.encode()
        await twin.push_manifest(fallback_tag(image), content, media.OCI_INDEX)
    before = twin.tags(image)
    with pytest.raises(ProtocolError):
        await twin.attach(image, b"{}", SLSA)
    assert twin.tags(image) == before


async def test_a_full_tag_is_not_overfilled() -> None:
    place, twin = _twin(referrers_api=False)
    image = await push_image(place)
    entries = [Descriptor(media.OCI_MANIFEST, Digest.of(b"%d" % n), 1) for n in range(256)]
    await twin.push_manifest(fallback_tag(image), documents.index(entries), media.OCI_INDEX)
    with pytest.raises(TooLargeError):
        await twin.attach(image, b"{}", SLSA)


async def test_a_full_legacy_tag_is_not_overfilled() -> None:
    place, twin = _twin()
    image = await push_image(place)
    layers = [Descriptor(media.SIMPLE_SIGNING, Digest.of(b"%d" % n), 1) for n in range(256)]
    config = Descriptor(media.OCI_CONFIG, Digest.of(b"{}"), 2)
    content = documents.image_manifest(config=config, layers=layers)
    await twin.push_manifest(fallback_tag(image, ".sig"), content, media.OCI_MANIFEST)
    with pytest.raises(TooLargeError):
        await push.append_legacy(
            twin, image, ".sig", LegacyLayer(media.SIMPLE_SIGNING, b"one more")
        )


async def test_a_legacy_tag_that_is_an_index_is_not_rewritten() -> None:
    place, twin = _twin()
    image = await push_image(place)
    await twin.push_manifest(fallback_tag(image, ".sig"), documents.index([]), media.OCI_INDEX)
    with pytest.raises(ProtocolError):
        await push.append_legacy(twin, image, ".sig", LegacyLayer(media.SIMPLE_SIGNING, b"x"))


async def test_the_legacy_config_names_the_layers() -> None:
    place, twin = _twin()
    image = await push_image(place)
    for content in (b"one", b"two"):
        layer = LegacyLayer(media.DSSE_ENVELOPE, content)
        await push.append_legacy(twin, image, ".att", layer)
    manifest = await twin.manifest(fallback_tag(image, ".att"))
    assert manifest.config is not None
    assert manifest.config.media_type == media.OCI_CONFIG
    config = await twin.blob(image, manifest.config.digest, manifest.config.size)
    for content in (b"one", b"two"):
        assert str(Digest.of(content)).encode() in config


class _Interfering(MemoryRegistry):
    """Somebody else writes the tag right after each of our writes, without reading it."""

    rounds: int = 0
    index: bytes = documents.index([])

    async def push_manifest(
        self,
        image: ImageReference,
        content: bytes,
        media_type: str,
        precondition: Precondition | None = None,
    ) -> Pushed:
        pushed = await super().push_manifest(image, content, media_type, precondition)
        if image.tag and self.rounds:
            self.rounds -= 1
            await super().push_manifest(image, self.index, media.OCI_INDEX)
        return pushed


async def test_an_entry_that_was_overwritten_is_written_again() -> None:
    twin = _Interfering(referrers_api=False, conditional=False)
    place = Place(twin, "registry.example", "acme/web", referrers=False)
    image = await push_image(place)
    twin.rounds = 3
    await twin.attach(image, b"{}", SLSA)
    attached = await fetch_attached(twin, image)
    assert [artifact.content for artifact in attached.artifacts] == [b"{}"]


async def test_an_entry_that_is_overwritten_late_is_written_again() -> None:
    """Not at once, but after our first look at it: by somebody who had read before us."""

    class Late(MemoryRegistry):
        looks = 0

        async def manifest(self, image: ImageReference) -> Manifest:
            found = await super().manifest(image)
            if image.tag and found.manifests:
                self.looks += 1
                if self.looks == 1:
                    content = documents.index([])
                    await super().push_manifest(image, content, media.OCI_INDEX)
            return found

    twin = Late(referrers_api=False, conditional=False)
    image = await push_image(Place(twin, "registry.example", "acme/web", referrers=False))
    await twin.attach(image, b"{}", SLSA)
    assert len((await twin.manifest(fallback_tag(image))).manifests) == 1


async def test_an_entry_added_between_our_read_and_our_write_is_kept() -> None:
    """The registry honours conditions: our write is refused, and we read again."""

    class Between(MemoryRegistry):
        other: Descriptor | None = None

        async def manifest(self, image: ImageReference) -> Manifest:
            found = await super().manifest(image)
            if image.tag and self.other is not None:
                content, self.other = documents.index([*found.manifests, self.other]), None
                await super().push_manifest(image, content, media.OCI_INDEX)
            return found

    twin = Between(referrers_api=False)
    image = await push_image(Place(twin, "registry.example", "acme/web", referrers=False))
    first = await twin.attach(image, b"first", SLSA)
    other = Digest.of(b"other")
    twin.other = Descriptor(media.OCI_MANIFEST, other, 1)
    second = await twin.attach(image, b"second", SLSA)
    listed = (await twin.manifest(fallback_tag(image))).manifests
    assert [entry.digest for entry in listed] == [first, other, second]


async def test_overwritten_for_ever_is_a_conflict() -> None:
    twin = _Interfering(referrers_api=False)
    place = Place(twin, "registry.example", "acme/web", referrers=False)
    image = await push_image(place)
    twin.rounds = 1000
    with pytest.raises(ConflictError, match="others overwrote it"):
        await twin.attach(image, b"{}", SLSA)


async def test_a_conflict_is_tried_again() -> None:
    """Another writer gets in between our read and our write: the registry says 412."""
    place, twin = _twin(referrers_api=False)
    image = await push_image(place)
    conflicts = 0

    class Crowded(MemoryRegistry):
        async def push_manifest(
            self,
            image: ImageReference,
            content: bytes,
            media_type: str,
            precondition: Precondition | None = None,
        ) -> Pushed:
            nonlocal conflicts
            if image.tag and conflicts < 3:
                conflicts += 1
                raise ConflictError("412")
            return await twin.push_manifest(image, content, media_type, precondition)

        async def manifest(self, image: ImageReference) -> Manifest:
            return await twin.manifest(image)

        async def push_blob(self, image: ImageReference, content: bytes) -> Digest:
            return await twin.push_blob(image, content)

    await Crowded(referrers_api=False).attach(image, b"{}", SLSA)
    assert conflicts == 3
    assert len((await twin.manifest(fallback_tag(image))).manifests) == 1


async def test_legacy_signing_at_the_same_time_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(push, "_lock", lambda _: asyncio.Lock())
    place, twin = _twin()
    image = await push_image(place)
    layers = [LegacyLayer(media.SIMPLE_SIGNING, b"%d" % number) for number in range(5)]
    await asyncio.gather(*(push.append_legacy(twin, image, ".sig", layer) for layer in layers))
    attached = await fetch_attached(twin, image)
    assert {artifact.content for artifact in attached.artifacts} == {b"0", b"1", b"2", b"3", b"4"}


@pytest.mark.parametrize("refusals", [1, 2, 3])
async def test_a_passing_refusal_of_the_manifest_is_tried_again(refusals: int) -> None:
    class Moody(MemoryRegistry):
        left = refusals

        async def push_manifest(
            self,
            image: ImageReference,
            content: bytes,
            media_type: str,
            precondition: Precondition | None = None,
        ) -> Pushed:
            if b'"subject"' in content and self.left:
                self.left -= 1
                raise ProtocolError("400")
            return await super().push_manifest(image, content, media_type, precondition)

    twin = Moody()
    image = await push_image(Place(twin, "registry.example", "acme/web", referrers=True))
    if refusals < 3:
        await twin.attach(image, b"{}", SLSA)
        assert len(await twin.referrers(image)) == 1
    else:
        with pytest.raises(ProtocolError):
            await twin.attach(image, b"{}", SLSA)


async def test_writing_to_a_registry_that_hangs_ends() -> None:
    async def answer(_: web.Request) -> web.Response:
        await hold.wait()
        return web.Response()

    hold = asyncio.Event()
    limits = Limits(read=0.2, upload=0.5)
    async with app(answer) as peer, client_for(peer.address, limits=limits) as client:
        image = ImageReference(peer.address, "acme/web", "v1")
        with pytest.raises(UnavailableError):
            await client.push_blob(image, CONTENT)
        with pytest.raises(UnavailableError):
            await client.push_manifest(image, CONTENT, media.OCI_MANIFEST)
        hold.set()


async def test_a_manifest_may_go_to_latest() -> None:
    place, twin = _twin()
    content = await image_manifest(twin, place.image())
    await twin.push_manifest(place.image(), content, media.OCI_MANIFEST)
    assert twin.tags(place.image()) == {"latest": Digest.of(content)}
