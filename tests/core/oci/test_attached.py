"""What is found beside an image, in every shape that registries and tools leave it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from tests.core.oci.support import SLSA, Place, push_image
from trailgate.model.artifact import Attached
from trailgate.model.digest import Digest
from trailgate.model.evidence import EvidenceFormat
from trailgate.model.image import ImageReference
from trailgate.oci import documents, media
from trailgate.oci.attached import discover, fallback_tag, fetch_attached, platforms
from trailgate.oci.errors import (
    OciError,
    ProtocolError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from trailgate.oci.limits import MIB, Limits
from trailgate.oci.memory import MemoryRegistry
from trailgate.oci.registry import Descriptor, Manifest

EMPTY = Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2)
SUFFIX_TYPES = [(".sig", media.SIMPLE_SIGNING), (".att", media.DSSE_ENVELOPE)]


def _place(*, referrers: bool = False) -> tuple[Place, MemoryRegistry]:
    twin = MemoryRegistry(referrers_api=referrers)
    return Place(twin, "registry.example", "acme/web", referrers), twin


async def _store(
    place: Place,
    content: bytes,
    layer_type: str = media.BUNDLE,
    *,
    layers: int = 1,
    subject: ImageReference | None = None,
    config_type: str = media.OCI_EMPTY,
    artifact_type: str | None = None,
) -> Descriptor:
    """Push an artifact's manifest; returns how a list would name it, without any type."""
    layer = Descriptor(
        layer_type, await place.registry.push_blob(place.image(), content), len(content)
    )
    pointer = None
    if subject is not None:
        pointer = (await place.registry.manifest(subject)).descriptor
    manifest = documents.image_manifest(
        config=replace(EMPTY, media_type=config_type),
        layers=[layer] * layers,
        subject=pointer,
        artifact_type=artifact_type,
    )
    image = place.image(digest=Digest.of(manifest))
    pushed = await place.registry.push_manifest(image, manifest, media.OCI_MANIFEST)
    return Descriptor(media.OCI_MANIFEST, pushed.digest, len(manifest))


async def _list(place: Place, image: ImageReference, *entries: Descriptor) -> None:
    content = documents.index(entries)
    await place.registry.push_manifest(fallback_tag(image), content, media.OCI_INDEX)


def _contents(attached: Attached) -> list[bytes]:
    return [artifact.content for artifact in attached.artifacts]


def test_the_names_of_the_tags() -> None:
    image = ImageReference.parse(f"ghcr.io/acme/web:v1@sha256:{'ab' * 32}")
    assert str(fallback_tag(image)) == f"ghcr.io/acme/web:sha256-{'ab' * 32}"
    assert str(fallback_tag(image, ".sig")) == f"ghcr.io/acme/web:sha256-{'ab' * 32}.sig"


@pytest.mark.parametrize(
    "artifact_type", [None, media.OCI_EMPTY, media.OCI_CONFIG, media.BUNDLE, "x"]
)
async def test_the_listed_artifact_type_decides_nothing(artifact_type: str | None) -> None:
    """cosign before go-containerregistry 0.22.1 wrote the empty type into the list."""
    place, _ = _place()
    image = await push_image(place)
    entry = await _store(place, b"bundle", subject=image)
    await _list(place, image, replace(entry, artifact_type=artifact_type))
    assert _contents(await fetch_attached(place.registry, image)) == [b"bundle"]


async def test_a_manifest_without_subject_and_artifact_type_counts() -> None:
    """As written for Amazon's registry, with the parameters cut from the media type."""
    place, _ = _place()
    image = await push_image(place)
    entry = await _store(
        place, b"bundle", "application/vnd.dev.sigstore.bundle+json", config_type=media.OCI_CONFIG
    )
    await _list(place, image, entry)
    attached = await fetch_attached(place.registry, image)
    assert _contents(attached) == [b"bundle"]
    assert attached.artifacts[0].media_type == "application/vnd.dev.sigstore.bundle+json"


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
    ],
)
async def test_versions_of_the_bundle(media_type: str) -> None:
    place, _ = _place(referrers=True)
    image = await push_image(place)
    await _store(place, b"bundle", media_type, subject=image)
    attached = await fetch_attached(place.registry, image)
    assert [(one.format, one.media_type) for one in attached.artifacts] == [
        (EvidenceFormat.BUNDLE, media_type)
    ]


@pytest.mark.parametrize(
    ("layer_type", "layers"),
    [
        ("application/vnd.cyclonedx+json", 1),
        (media.DSSE_ENVELOPE, 1),
        (media.BUNDLE, 2),
        (media.BUNDLE, 0),
    ],
)
async def test_other_artifacts_are_no_bundles(layer_type: str, layers: int) -> None:
    place, _ = _place(referrers=True)
    image = await push_image(place)
    await _store(place, b"x", layer_type, layers=layers, subject=image, artifact_type=media.BUNDLE)
    attached = await fetch_attached(place.registry, image)
    assert (attached.artifacts, attached.skipped) == ((), ())


async def test_an_empty_api_falls_back_to_the_tag_a_full_one_does_not() -> None:
    place, twin = _place(referrers=True)
    image = await push_image(place)
    tagged = await _store(place, b"tagged")
    await _list(place, image, tagged)
    assert _contents(await fetch_attached(place.registry, image)) == [b"tagged"]
    await _store(place, b"listed", subject=image)
    assert _contents(await fetch_attached(place.registry, image)) == [b"listed"]
    twin.referrers_api = False
    assert _contents(await fetch_attached(place.registry, image)) == [b"tagged"]


async def test_a_fallback_tag_that_is_an_image() -> None:
    place, _ = _place()
    image = await push_image(place)
    manifest = await place.registry.manifest(image)
    await place.registry.push_manifest(fallback_tag(image), manifest.content, media.OCI_MANIFEST)
    with pytest.raises(ProtocolError, match="not an index"):
        await discover(place.registry, image)
    attached = await fetch_attached(place.registry, image)
    assert attached.artifacts == ()
    assert "not an index" in attached.skipped[0]


async def test_an_entry_listed_twice_is_fetched_once() -> None:
    place, twin = _place()
    image = await push_image(place)
    entry = await _store(place, b"bundle")
    await _list(place, image, entry, replace(entry, artifact_type=media.BUNDLE))
    twin.asked.clear()
    assert _contents(await fetch_attached(place.registry, image)) == [b"bundle"]
    assert sum(method == "blob" for method, _ in twin.asked) == 1


async def test_entries_of_other_digest_algorithms_are_passed_over() -> None:
    place, _ = _place()
    image = await push_image(place)
    entry = await _store(place, b"bundle")
    index = json.loads(documents.index([entry]))
    index["manifests"].insert(0, {**index["manifests"][0], "digest": "sha512:" + "ab" * 64})
    content = json.dumps(index).encode()
    await place.registry.push_manifest(fallback_tag(image), content, media.OCI_INDEX)
    assert (await place.registry.manifest(fallback_tag(image))).dropped == 1
    assert _contents(await fetch_attached(place.registry, image)) == [b"bundle"]


@pytest.mark.parametrize(
    ("platform", "annotations"),
    [
        ("unknown/unknown", {}),
        ("linux/amd64", {media.BUILDKIT_REFERENCE: "attestation-manifest"}),
        (None, {media.BUILDKIT_REFERENCE: "attestation-manifest"}),
    ],
)
async def test_buildkit_s_attestations_are_no_platforms(
    platform: str | None, annotations: dict[str, str]
) -> None:
    right = Descriptor(media.OCI_MANIFEST, Digest.of(b"right"), 1, platform="linux/amd64")
    other = Descriptor(
        media.OCI_MANIFEST, Digest.of(b"other"), 1, platform=platform, annotations=annotations
    )
    index = documents.parse_manifest(documents.index([right, other]), media.OCI_INDEX)
    assert platforms(index) == (right.digest,)


async def test_too_many_referrers_bundles_come_first_and_the_rest_is_told() -> None:
    place, twin = _place()
    image = await push_image(place)
    entries = [await _store(place, b"sbom%d" % n, "application/spdx+json") for n in range(6)]
    entries.append(replace(await _store(place, b"bundle"), artifact_type=media.BUNDLE))
    await _list(place, image, *entries)
    twin.asked.clear()
    attached = await fetch_attached(place.registry, image, Limits(referrers=4))
    assert _contents(attached) == [b"bundle"]
    assert attached.skipped == ("3 of 7 referrers: at most 4 are read",)
    assert attached.unread == attached.skipped
    assert sum(method == "manifest" for method, _ in twin.asked) == 4 + 4  # image and three tags


async def test_too_many_signatures_are_told() -> None:
    place, _ = _place()
    image = await push_image(place)
    await _legacy(place, image, ".sig", media.SIMPLE_SIGNING, [b"%d" % n for n in range(5)])
    attached = await fetch_attached(place.registry, image, Limits(referrers=3))
    assert _contents(attached) == [b"0", b"1", b"2"]
    assert attached.skipped == ("2 of 5 layers of .sig: at most 3 are read",)
    assert attached.unread == attached.skipped


async def _legacy(
    place: Place, image: ImageReference, suffix: str, layer_type: str, contents: list[bytes]
) -> None:
    layers = [
        Descriptor(layer_type, await place.registry.push_blob(image, content), len(content))
        for content in contents
    ]
    manifest = documents.image_manifest(config=EMPTY, layers=layers)
    await place.registry.push_manifest(fallback_tag(image, suffix), manifest, media.OCI_MANIFEST)


@pytest.mark.parametrize(("suffix", "right"), SUFFIX_TYPES)
@pytest.mark.parametrize("layer_type", [media.SIMPLE_SIGNING, media.DSSE_ENVELOPE, "text/plain"])
async def test_each_legacy_tag_holds_its_own_kind(suffix: str, right: str, layer_type: str) -> None:
    place, _ = _place()
    image = await push_image(place)
    await _legacy(place, image, suffix, layer_type, [b"x"])
    attached = await fetch_attached(place.registry, image)
    assert _contents(attached) == ([b"x"] if layer_type == right else [])


async def test_the_order_is_bundles_signatures_attestations() -> None:
    place, _ = _place(referrers=True)
    image = await push_image(place)
    await _legacy(place, image, ".att", media.DSSE_ENVELOPE, [b"att"])
    await _legacy(place, image, ".sig", media.SIMPLE_SIGNING, [b"sig"])
    await place.registry.attach(image, b"bundle", SLSA)
    assert _contents(await fetch_attached(place.registry, image)) == [b"bundle", b"sig", b"att"]


async def test_all_blobs_together_are_bounded() -> None:
    place, _ = _place(referrers=True)
    image = await push_image(place)
    await _legacy(place, image, ".sig", media.SIMPLE_SIGNING, [b"%d" % n * 40 for n in range(4)])
    attached = await fetch_attached(place.registry, image, Limits(artifacts=100))
    assert len(attached.artifacts) == 2
    assert len(attached.skipped) == 2
    assert "at most 20 are read" in attached.skipped[0]
    assert attached.unread == attached.skipped


async def test_the_default_limits() -> None:
    limits = Limits()
    assert (limits.manifest, limits.blob, limits.referrers, limits.entries) == (
        4 * MIB,
        8 * MIB,
        256,
        256,
    )


async def test_a_corrupt_blob_is_told() -> None:
    place, twin = _place(referrers=True)
    image = await push_image(place)
    await place.registry.attach(image, b"bundle", SLSA)
    twin.corrupt(image, Digest.of(b"bundle"), b"bumble")
    attached = await fetch_attached(place.registry, image)
    assert attached.artifacts == ()
    assert str(Digest.of(b"bundle")) in attached.skipped[0]
    assert attached.unread == attached.skipped


async def test_a_flood_of_junk_hides_nothing() -> None:
    """64 junk bundles were once enough to leave a failed test result unread."""
    place, _ = _place(referrers=True)
    image = await push_image(place)
    for n in range(100):
        await place.registry.attach(image, b"junk%d" % n, SLSA)
    await place.registry.attach(image, b"failed", SLSA)
    attached = await fetch_attached(place.registry, image)
    assert b"failed" in _contents(attached)
    assert (len(attached.artifacts), attached.unread) == (101, ())


async def test_more_than_can_be_listed_is_told_as_unread() -> None:
    place, _ = _place()
    image = await push_image(place)
    entries = [await _store(place, b"%d" % n) for n in range(5)]
    await _list(place, image, *entries)
    attached = await fetch_attached(place.registry, image, Limits(referrers=2))
    assert len(attached.artifacts) == 2
    assert attached.unread == ("3 of 5 referrers: at most 2 are read",)


async def test_one_bundle_in_many_manifests_is_read_once() -> None:
    place, twin = _place(referrers=True)
    image = await push_image(place)
    for kind in (None, "a", "b", "c"):
        await _store(place, b"bundle", subject=image, artifact_type=kind)
    attached = await fetch_attached(place.registry, image)
    assert _contents(attached) == [b"bundle"]
    assert sum(method == "blob" for method, _ in twin.asked) == 1


async def test_a_copy_with_a_wrong_size_does_not_hide_the_bundle() -> None:
    place, _ = _place(referrers=True)
    image = await push_image(place)
    blob = await place.registry.push_blob(image, b"bundle")
    subject = (await place.registry.manifest(image)).descriptor
    for size in (3, 6):
        content = documents.image_manifest(
            config=EMPTY, layers=[Descriptor(media.BUNDLE, blob, size)], subject=subject
        )
        target = place.image(digest=Digest.of(content))
        await place.registry.push_manifest(target, content, media.OCI_MANIFEST)
    attached = await fetch_attached(place.registry, image)
    assert _contents(attached) == [b"bundle"]
    assert len(attached.unread) == 1


async def test_a_registry_that_is_down_is_no_absence() -> None:
    place, twin = _place(referrers=True)
    image = await push_image(place)
    twin.down.add(place.host)
    with pytest.raises(UnavailableError):
        await fetch_attached(place.registry, image)


class _Failing(MemoryRegistry):
    """Fails for one method and, of manifests, for what the reference contains."""

    method: str = ""
    part: str = ""
    error: OciError = UnavailableError("x")
    cancelled: int = 0

    async def manifest(self, image: ImageReference) -> Manifest:
        if self.method == "manifest" and self.part in str(image):
            raise self.error
        return await super().manifest(image)

    async def blob(self, image: ImageReference, digest: Digest, limit: int) -> bytes:
        if self.method == "blob":
            raise self.error
        return await super().blob(image, digest, limit)

    async def referrers(self, image: ImageReference) -> tuple[Descriptor, ...]:
        if self.method == "referrers":
            raise self.error
        if self.method:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return await super().referrers(image)


async def _failing() -> tuple[_Failing, ImageReference]:
    twin = _Failing(referrers_api=True)
    place = Place(twin, "registry.example", "acme/web", referrers=True)
    image = await push_image(place)
    await twin.attach(image, b"bundle", SLSA)
    await _legacy(place, image, ".sig", media.SIMPLE_SIGNING, [b"sig"])
    return twin, image


@pytest.mark.parametrize("error", [UnavailableError("away"), UnauthorizedError("who are you")])
@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("manifest", "acme/web@"),
        ("manifest", ".sig"),
        ("manifest", ".att"),
        ("blob", ""),
        ("referrers", ""),
    ],
)
async def test_one_place_out_of_reach_fails_the_whole_search(
    method: str, part: str, error: OciError
) -> None:
    """Otherwise evidence that wasn't read would look like evidence that isn't there."""
    twin, image = await _failing()
    twin.method, twin.part, twin.error = method, part, error
    with pytest.raises(type(error), match=str(error)):
        await fetch_attached(twin, image)


@pytest.mark.parametrize("error", [ProtocolError("odd"), TooLargeError("much")])
async def test_one_place_in_disorder_is_told(error: OciError) -> None:
    twin, image = await _failing()
    for method, part, left in (
        ("manifest", ".sig", [b"bundle"]),
        ("referrers", "", [b"sig"]),
    ):
        twin.method, twin.part, twin.error = method, part, error
        attached = await fetch_attached(twin, image)
        assert _contents(attached) == left
        assert str(error) in attached.skipped[0]


async def test_the_first_error_stops_the_rest() -> None:
    twin, image = await _failing()
    twin.method, twin.part, twin.error = "manifest", ".sig", UnavailableError("away")
    with pytest.raises(UnavailableError):
        await fetch_attached(twin, image)
    assert twin.cancelled == 1


async def test_an_unforeseen_error_is_not_hidden() -> None:
    twin, image = await _failing()
    twin.method, twin.error = "referrers", ZeroDivisionError()  # type: ignore[assignment]
    with pytest.raises(ExceptionGroup) as caught:
        await fetch_attached(twin, image)
    assert caught.group_contains(ZeroDivisionError)
