"""Reading and writing manifests and indexes: bytes to values and back, without I/O.

Image specification: https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.oci import media
from trailgate.oci.registry import Descriptor, Manifest


class _Platform(msgspec.Struct):
    os: str = "unknown"
    architecture: str = "unknown"
    variant: str | None = None


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None
    platform: _Platform | None = None


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int
    media_type: str | None = None
    artifact_type: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    annotations: dict[str, str] | None = None


_DECODER = msgspec.json.Decoder(_Document)


def parse_manifest(content: bytes, content_type: str | None, etag: str | None = None) -> Manifest:
    """Read a manifest or index; raises ``MalformedError`` without quoting the input.

    ``content_type`` is the HTTP header, None where there was none. One document
    must not be two things to two readers (CVE-2021-41190): header and body must
    name the same media type, and the body must have the fields of that type only.
    """
    document = _decode(content)
    media_type = _media_type(document, content_type)
    if document.schema_version != 2:  # noqa: PLR2004 (the only one there is)
        raise MalformedError("got another schemaVersion, expected 2")
    is_index = media_type in media.INDEXES
    if is_index and (document.layers is not None or document.config is not None):
        raise MalformedError("got an index with layers or config, expected manifests only")
    if not is_index and document.manifests is not None:
        raise MalformedError("got an image manifest with manifests, expected layers only")
    entries = [_lenient(entry) for entry in document.manifests or ()]
    manifests = tuple(entry for entry in entries if entry is not None)
    return Manifest(
        digest=Digest.of(content),
        media_type=media_type,
        content=content,
        artifact_type=document.artifact_type,
        config=_strict(document.config) if document.config else None,
        layers=tuple(_strict(layer) for layer in document.layers or ()),
        manifests=manifests,
        subject=_strict(document.subject).digest if document.subject else None,
        annotations=document.annotations or {},
        dropped=len(entries) - len(manifests),
        etag=etag,
    )


def image_manifest(
    *,
    config: Descriptor,
    layers: Iterable[Descriptor],
    artifact_type: str | None = None,
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Write an OCI image manifest."""
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media.OCI_MANIFEST}
    if artifact_type:
        document["artifactType"] = artifact_type
    document["config"] = _plain(config)
    document["layers"] = [_plain(layer) for layer in layers]
    if subject:
        document["subject"] = _plain(subject)
    if annotations:
        document["annotations"] = dict(annotations)
    return msgspec.json.encode(document)


def index(manifests: Iterable[Descriptor], annotations: Mapping[str, str] | None = None) -> bytes:
    """Write an OCI image index."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media.OCI_INDEX,
        "manifests": [_plain(manifest) for manifest in manifests],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return msgspec.json.encode(document)


def _decode(content: bytes) -> _Document:
    try:
        return _DECODER.decode(content)
    except RecursionError:
        raise MalformedError("got JSON nested too deeply, expected a manifest") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedError("got no JSON of that form, expected a manifest") from None


def _media_type(document: _Document, content_type: str | None) -> str:
    header = (content_type or "").partition(";")[0].strip().lower()
    known = header if header in media.MANIFESTS else None
    if not known and header not in ("", "application/json", "application/octet-stream"):
        raise MalformedError("got another content type, expected that of a manifest or index")
    claimed = document.media_type or known
    if claimed is None and document.manifests is not None:
        claimed = media.OCI_INDEX
    if claimed is None:
        claimed = media.OCI_MANIFEST
    if claimed not in media.MANIFESTS:
        raise MalformedError("got another mediaType, expected that of a manifest or index")
    if known and known != claimed:
        raise MalformedError("got a mediaType that differs from the content type, expected one")
    return claimed


def _strict(found: _Descriptor) -> Descriptor:
    value = _lenient(found)
    if value is None:
        raise MalformedError("got a digest that isn't sha256:<64 hex>, expected one")
    return value


def _lenient(found: _Descriptor) -> Descriptor | None:
    try:
        digest = Digest.parse(found.digest)
    except MalformedError:
        return None
    if found.size < 0:
        raise MalformedError("got a negative size, expected bytes")
    where = found.platform
    platform = (
        "/".join(filter(None, (where.os, where.architecture, where.variant))) if where else None
    )
    return Descriptor(
        found.media_type,
        digest,
        found.size,
        found.artifact_type,
        found.annotations or {},
        platform,
    )


def _plain(descriptor: Descriptor) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.artifact_type:
        plain["artifactType"] = descriptor.artifact_type
    if descriptor.platform:
        names = ("os", "architecture", "variant")
        plain["platform"] = dict(zip(names, descriptor.platform.split("/"), strict=False))
    if descriptor.annotations:
        plain["annotations"] = dict(descriptor.annotations)
    return plain
