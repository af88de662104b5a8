"""Manifests and indexes: bytes to values and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.oci import media
from trailgate.oci.documents import image_manifest, index, parse_manifest
from trailgate.oci.registry import Descriptor, Manifest

TEXT = st.text(max_size=20)
DIGESTS = st.binary(max_size=4).map(Digest.of)
DESCRIPTORS = st.builds(
    Descriptor,
    media_type=TEXT,
    digest=DIGESTS,
    size=st.integers(0, 2**53),
    artifact_type=st.none() | st.text(min_size=1, max_size=20),
    annotations=st.dictionaries(TEXT, TEXT, max_size=3),
    platform=st.sampled_from([None, "linux/amd64", "linux/arm64/v8"]),
)
EMPTY = Descriptor(media.OCI_EMPTY, Digest.of(b"{}"), 2)


@given(DESCRIPTORS, st.lists(DESCRIPTORS, max_size=3), st.none() | DESCRIPTORS)
def test_an_image_manifest_reads_back(
    config: Descriptor, layers: list[Descriptor], subject: Descriptor | None
) -> None:
    content = image_manifest(
        config=config, layers=layers, subject=subject, artifact_type="t", annotations={"a": "b"}
    )
    assert parse_manifest(content, media.OCI_MANIFEST) == Manifest(
        digest=Digest.of(content),
        media_type=media.OCI_MANIFEST,
        content=content,
        artifact_type="t",
        config=config,
        layers=tuple(layers),
        subject=subject.digest if subject else None,
        annotations={"a": "b"},
    )


@given(st.lists(DESCRIPTORS, max_size=4))
def test_an_index_reads_back(manifests: list[Descriptor]) -> None:
    content = index(manifests)
    found = parse_manifest(content, media.OCI_INDEX)
    assert found.is_index
    assert found.manifests == tuple(manifests)
    assert found.dropped == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)


@given(
    st.binary(max_size=100)
    | st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "layers", "manifests", "config", "subject"]),
        JSON | st.just(2),
    ).map(lambda value: json.dumps(value).encode()),
    st.none() | TEXT,
)
def test_any_bytes_are_a_manifest_or_malformed(content: bytes, content_type: str | None) -> None:
    try:
        found = parse_manifest(content, content_type)
    except MalformedError:
        return
    assert found.digest == Digest.of(content)
    assert not (found.layers and found.manifests)


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        (media.OCI_MANIFEST, media.OCI_MANIFEST, media.OCI_MANIFEST),
        (media.OCI_MANIFEST, f"{media.OCI_MANIFEST}; charset=utf-8", media.OCI_MANIFEST),
        (media.OCI_MANIFEST, "Application/JSON", media.OCI_MANIFEST),
        (media.DOCKER_MANIFEST, None, media.DOCKER_MANIFEST),
        (None, media.DOCKER_MANIFEST, media.DOCKER_MANIFEST),
        (None, media.OCI_MANIFEST, media.OCI_MANIFEST),
        (None, "application/json", media.OCI_MANIFEST),
        (None, None, media.OCI_MANIFEST),
    ],
)
def test_the_media_type_of_an_image(body: str | None, header: str | None, expected: str) -> None:
    document = json.loads(image_manifest(config=EMPTY, layers=[]))
    del document["mediaType"]
    if body:
        document["mediaType"] = body
    assert parse_manifest(json.dumps(document).encode(), header).media_type == expected


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        (media.OCI_INDEX, media.OCI_INDEX, media.OCI_INDEX),
        (media.DOCKER_LIST, "application/json", media.DOCKER_LIST),
        (None, media.DOCKER_LIST, media.DOCKER_LIST),
        (None, None, media.OCI_INDEX),
    ],
)
def test_the_media_type_of_an_index(body: str | None, header: str | None, expected: str) -> None:
    document = json.loads(index([EMPTY]))
    del document["mediaType"]
    if body:
        document["mediaType"] = body
    found = parse_manifest(json.dumps(document).encode(), header)
    assert found.media_type == expected
    assert found.is_index


@pytest.mark.parametrize(
    "header", ["text/html", "text/plain", media.OCI_INDEX, "application/jsonp"]
)
def test_another_content_type_is_refused(header: str) -> None:
    with pytest.raises(MalformedError):
        parse_manifest(image_manifest(config=EMPTY, layers=[]), header)


@pytest.mark.parametrize(
    "digest", ["sha256:ABC", "sha256:" + "AB" * 32, "sha512:" + "ab" * 64, "ab" * 32, "", "md5:x"]
)
def test_a_digest_has_one_spelling(digest: str) -> None:
    bad = {"mediaType": "x", "digest": digest, "size": 1}
    for part in ({"config": bad}, {"layers": [bad]}, {"subject": bad}):
        with pytest.raises(MalformedError) as caught:
            parse_manifest(json.dumps({"schemaVersion": 2, **part}).encode(), media.OCI_MANIFEST)
        assert "ABC" not in str(caught.value)
    listed = json.dumps({"schemaVersion": 2, "manifests": [bad]}).encode()
    assert parse_manifest(listed, media.OCI_INDEX).dropped == 1
