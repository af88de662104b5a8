"""One contract, held by the twin and by real registries."""

from __future__ import annotations

import asyncio

import pytest

from tests.core.oci.support import SLSA, Place, client_for, image_manifest, push_image
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import EvidenceFormat
from trailgate.oci import documents, media, push
from trailgate.oci.attached import fallback_tag, fetch_attached
from trailgate.oci.errors import (
    ConflictError,
    DigestMismatchError,
    NotFoundError,
    TooLargeError,
)
from trailgate.oci.memory import MemoryRegistry
from trailgate.oci.push import LegacyLayer
from trailgate.oci.registry import Descriptor, Precondition


async def test_an_image_pushed_by_tag_resolves_and_reads_back(place: Place) -> None:
    image = await push_image(place, "v1")
    assert await place.registry.resolve(place.image("v1")) == image.digest
    by_tag = await place.registry.manifest(place.image("v1"))
    by_digest = await place.registry.manifest(image)
    assert by_tag == by_digest
    assert by_tag.digest == image.digest == Digest.of(by_tag.content)
    assert by_tag.media_type == media.OCI_MANIFEST
    layer = by_tag.layers[0]
    content = await place.registry.blob(image, layer.digest, 64)
    assert Digest.of(content) == layer.digest


async def test_without_tag_and_digest_latest_is_meant(place: Place) -> None:
    image = await push_image(place, "latest")
    assert await place.registry.resolve(place.image()) == image.digest
    assert (await place.registry.manifest(place.image())).digest == image.digest


async def test_a_digest_resolves_to_itself(place: Place) -> None:
    image = place.image(digest=Digest.of(b"never pushed"))
    assert await place.registry.resolve(image) == image.digest


async def test_what_is_not_there_is_not_found(place: Place) -> None:
    image = await push_image(place)
    absent = Digest.of(b"absent")
    with pytest.raises(NotFoundError):
        await place.registry.resolve(place.image("absent"))
    with pytest.raises(NotFoundError):
        await place.registry.manifest(place.image("absent"))
    with pytest.raises(NotFoundError):
        await place.registry.manifest(image.with_digest(absent))
    with pytest.raises(NotFoundError):
        await place.registry.blob(image, absent, 100)
    with pytest.raises(NotFoundError):
        await place.registry.attach(image.with_digest(absent), b"{}", SLSA)
    with pytest.raises(NotFoundError):
        await fetch_attached(place.registry, image.with_digest(absent))


async def test_a_blob_over_the_limit_is_refused(place: Place) -> None:
    image = await push_image(place)
    digest = await place.registry.push_blob(image, b"x" * 101)
    assert len(await place.registry.blob(image, digest, 101)) == 101
    with pytest.raises(TooLargeError):
        await place.registry.blob(image, digest, 100)


async def test_a_manifest_is_stored_only_under_its_own_digest(place: Place) -> None:
    content = await image_manifest(place.registry, place.image())
    wrong = place.image(digest=Digest.of(b"another"))
    with pytest.raises(DigestMismatchError):
        await place.registry.push_manifest(wrong, content, media.OCI_MANIFEST)
    with pytest.raises(NotFoundError):
        await place.registry.manifest(wrong)


async def test_referrers_need_a_digest(place: Place) -> None:
    with pytest.raises(MalformedError):
        await place.registry.referrers(place.image("v1"))
    with pytest.raises(MalformedError):
        await fetch_attached(place.registry, place.image("v1"))


async def test_an_image_without_anything_attached(place: Place) -> None:
    image = await push_image(place)
    assert await place.registry.referrers(image) == ()
    attached = await fetch_attached(place.registry, image)
    assert attached.image == image
    assert (attached.artifacts, attached.platforms, attached.skipped) == ((), (), ())


async def test_bundles_attached_are_found_wherever_they_went(place: Place) -> None:
    image = await push_image(place, "v1")
    first = await place.registry.attach(image, b'{"bundle":1}', SLSA)
    second = await place.registry.attach(image, b'{"bundle":2}', "https://example.com/other")
    assert first != second
    attached = await fetch_attached(place.registry, image)
    assert {artifact.content for artifact in attached.artifacts} == {
        b'{"bundle":1}',
        b'{"bundle":2}',
    }
    for artifact in attached.artifacts:
        assert artifact.format is EvidenceFormat.BUNDLE
        assert artifact.media_type == media.BUNDLE
        assert artifact.digest == Digest.of(artifact.content)
    assert attached.skipped == ()
    if place.referrers:
        assert {entry.digest for entry in await place.registry.referrers(image)} == {first, second}
    else:
        index = await place.registry.manifest(fallback_tag(image))
        assert {entry.digest for entry in index.manifests} == {first, second}
        assert {entry.artifact_type for entry in index.manifests} == {media.BUNDLE}
        assert {entry.annotations[media.BUNDLE_PREDICATE_TYPE] for entry in index.manifests} == {
            SLSA,
            "https://example.com/other",
        }


async def test_the_manifest_of_an_attached_bundle(place: Place) -> None:
    image = await push_image(place)
    digest = await place.registry.attach(image, b'{"bundle":1}', SLSA)
    manifest = await place.registry.manifest(image.with_digest(digest))
    assert manifest.subject == image.digest
    assert manifest.artifact_type == media.BUNDLE
    assert manifest.config == Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2)
    assert [layer.media_type for layer in manifest.layers] == [media.BUNDLE]
    assert manifest.annotations[media.BUNDLE_CONTENT] == "dsse-envelope"
    assert manifest.annotations[media.BUNDLE_PREDICATE_TYPE] == SLSA


async def test_bundles_on_an_index_and_its_platforms(place: Place) -> None:
    children = [await push_image(place) for _ in range(2)]
    attestation = await push_image(place)
    manifests = [await place.registry.manifest(child) for child in [*children, attestation]]
    entries = [
        Descriptor(
            one.media_type, one.digest, len(one.content), platform=platform, annotations=more
        )
        for one, platform, more in zip(
            manifests,
            ["linux/amd64", "linux/arm64/v8", "unknown/unknown"],
            [{}, {}, {media.BUILDKIT_REFERENCE: "attestation-manifest"}],
            strict=True,
        )
    ]
    content = documents.index(entries)
    image = place.image(digest=Digest.of(content))
    await place.registry.push_manifest(image, content, media.OCI_INDEX)
    await place.registry.attach(image, b"{}", SLSA)
    attached = await fetch_attached(place.registry, image)
    assert attached.platforms == tuple(child.digest for child in children)
    assert [artifact.content for artifact in attached.artifacts] == [b"{}"]
    assert (await place.registry.manifest(image)).manifests[1].platform == "linux/arm64/v8"


async def test_legacy_signatures_and_attestations_accumulate(place: Place) -> None:
    image = await push_image(place)
    payload = b'{"critical":{}}'
    for number in range(2):
        layer = LegacyLayer(
            media.SIMPLE_SIGNING,
            payload,
            {"dev.cosignproject.cosign/signature": f"c2ln{number}"},
        )
        await push.append_legacy(place.registry, image, ".sig", layer)
        await push.append_legacy(place.registry, image, ".sig", layer)  # again: no second entry
    envelope = LegacyLayer(media.DSSE_ENVELOPE, b'{"payload":""}', {"predicateType": SLSA})
    await push.append_legacy(place.registry, image, ".att", envelope)
    attached = await fetch_attached(place.registry, image)
    assert [(artifact.media_type, artifact.content) for artifact in attached.artifacts] == [
        (media.SIMPLE_SIGNING, payload),
        (media.SIMPLE_SIGNING, payload),
        (media.DSSE_ENVELOPE, b'{"payload":""}'),
    ]
    assert [
        artifact.annotations.get("dev.cosignproject.cosign/signature")
        for artifact in attached.artifacts
    ] == ["c2ln0", "c2ln1", None]
    assert {artifact.format for artifact in attached.artifacts} == {EvidenceFormat.LEGACY}


async def test_legacy_needs_the_image(place: Place) -> None:
    layer = LegacyLayer(media.SIMPLE_SIGNING, b"{}")
    with pytest.raises(NotFoundError):
        await push.append_legacy(
            place.registry, place.image(digest=Digest.of(b"absent")), ".sig", layer
        )


async def _attach_at_once(place: Place, count: int) -> None:
    """Several clients, each with its own connections, as several CI jobs would be."""
    image = await push_image(place)
    bundles = [f'{{"bundle":{number}}}'.encode() for number in range(count)]

    async def attach(bundle: bytes) -> None:
        if isinstance(place.registry, MemoryRegistry):
            await place.registry.attach(image, bundle, SLSA)
            return
        async with client_for(place.host) as client:
            await client.attach(image, bundle, SLSA)

    await asyncio.gather(*map(attach, bundles))
    attached = await fetch_attached(place.registry, image)
    assert {artifact.content for artifact in attached.artifacts} == set(bundles)


async def test_attaching_at_the_same_time_loses_nothing(place: Place) -> None:
    await _attach_at_once(place, 6)


async def test_nor_from_several_processes_where_the_registry_allows_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lock that one process has. A registry with neither the referrers API nor
    conditional writes can't exclude a loss (docs/reference/registries.md): not asked of it.
    """
    if place.referrers or isinstance(place.registry, MemoryRegistry):
        monkeypatch.setattr(push, "_lock", lambda _: asyncio.Lock())
    await _attach_at_once(place, 6)


async def test_a_conditional_write_that_came_too_late() -> None:
    place = Place(MemoryRegistry(), "registry.example", "acme/web", referrers=True)
    await push_image(place, "v1")
    before = await place.registry.manifest(place.image("v1"))
    await push_image(place, "v1")
    content = await image_manifest(place.registry, place.image())
    for stale in (before.etag, None):
        with pytest.raises(ConflictError):
            await place.registry.push_manifest(
                place.image("v1"), content, media.OCI_MANIFEST, Precondition(stale)
            )
    now = await place.registry.manifest(place.image("v1"))
    await place.registry.push_manifest(
        place.image("v1"), content, media.OCI_MANIFEST, Precondition(now.etag)
    )
    assert await place.registry.resolve(place.image("v1")) == Digest.of(content)
