"""Attaching evidence to an image, so that nothing of what others attached is lost.

Bundles become OCI 1.1 referrers. A registry that doesn't list referrers itself
has one tag per image that every writer reads, changes and writes back; so have
cosign's ``.sig`` and ``.att``. That is a race: we make the write conditional,
and for registries that ignore conditions look again whether our entry stayed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal
from weakref import WeakValueDictionary

import msgspec

from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci import documents, media
from trailgate.oci.attached import fallback_tag
from trailgate.oci.errors import (
    ConflictError,
    NotFoundError,
    ProtocolError,
    TooLargeError,
    UnavailableError,
)
from trailgate.oci.limits import Limits
from trailgate.oci.registry import Descriptor, Manifest, Precondition, Pushed, RegistryWriter

_EMPTY: Final = b"{}"
_ROUNDS: Final = 24
_TRIES: Final = 2
_LOOKS: Final = 3
_SHORTEST: Final = 0.15
_LONGEST: Final = 2.0
_MOST: Final = Limits()

_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class LegacyLayer:
    """One signature or attestation in cosign's legacy format."""

    media_type: str
    content: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)


async def attach(
    writer: RegistryWriter, image: ImageReference, bundle: bytes, predicate_type: str
) -> Digest:
    """Store a Sigstore bundle as a referrer of the image digest; returns its manifest's digest.

    Raises ``NotFoundError`` where the image isn't there, ``ConflictError`` where
    others kept overwriting, and any other ``OciError``.
    """
    subject = await writer.manifest(image)
    annotations = {
        media.BUNDLE_CONTENT: "dsse-envelope",
        media.BUNDLE_PREDICATE_TYPE: predicate_type,
        media.CREATED: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    content = documents.image_manifest(
        config=Descriptor(media.OCI_EMPTY, await writer.push_blob(image, _EMPTY), len(_EMPTY)),
        layers=[Descriptor(media.BUNDLE, await writer.push_blob(image, bundle), len(bundle))],
        artifact_type=media.BUNDLE,
        subject=Descriptor(subject.media_type, subject.digest, len(subject.content)),
        annotations=annotations,
    )
    entry = Descriptor(
        media.OCI_MANIFEST, Digest.of(content), len(content), media.BUNDLE, annotations
    )
    pushed = await _store(writer, image.with_digest(entry.digest), content)
    target = image.with_digest(subject.digest)
    if not pushed.subject_listed and not _lists(await writer.referrers(target), entry.digest):
        await _list_in_tag(writer, target, entry)
    return entry.digest


async def _store(writer: RegistryWriter, image: ImageReference, content: bytes) -> Pushed:
    """Push a manifest by digest, again if need be: the same bytes twice do no harm.

    Distribution 2 on a file system refuses a manifest (400) at the moment in which
    somebody else uploads a blob that both need, such as the empty config.
    """
    for _ in range(_TRIES):
        try:
            return await writer.push_manifest(image, content, media.OCI_MANIFEST)
        except (ProtocolError, UnavailableError):
            await _pause(_SHORTEST)
    return await writer.push_manifest(image, content, media.OCI_MANIFEST)


async def append_legacy(
    writer: RegistryWriter,
    image: ImageReference,
    suffix: Literal[".sig", ".att"],
    layer: LegacyLayer,
) -> Digest:
    """Add a layer to cosign's ``sha256-<hex>.sig`` or ``.att``; returns the manifest's digest."""
    await writer.manifest(image)  # nothing is attached to an image that isn't there
    digest = await writer.push_blob(image, layer.content)
    entry = Descriptor(
        layer.media_type, digest, len(layer.content), annotations=dict(layer.annotations)
    )

    def holds(manifest: Manifest) -> bool:
        return any(
            (found.digest, dict(found.annotations)) == (digest, entry.annotations)
            for found in manifest.layers
        )

    async def edit(manifest: Manifest | None) -> tuple[bytes, str]:
        if manifest is not None and manifest.is_index:
            raise ProtocolError(f"{image.registry}: the tag {suffix} of {image} is an index")
        layers = [*(manifest.layers if manifest else ()), entry]
        if len(layers) > _MOST.referrers:
            raise TooLargeError(f"{image}: {suffix} has {len(layers) - 1} layers, no more fit")
        config = _legacy_config(layers)
        pointer = Descriptor(media.OCI_CONFIG, await writer.push_blob(image, config), len(config))
        annotations = manifest.annotations if manifest else {}
        content = documents.image_manifest(config=pointer, layers=layers, annotations=annotations)
        return content, media.OCI_MANIFEST

    return await _rewrite(writer, fallback_tag(image, suffix), holds, edit)


async def _list_in_tag(writer: RegistryWriter, image: ImageReference, entry: Descriptor) -> None:
    tag = fallback_tag(image)

    def holds(manifest: Manifest) -> bool:
        return _lists(manifest.manifests, entry.digest)

    async def edit(manifest: Manifest | None) -> tuple[bytes, str]:
        if manifest is not None and (not manifest.is_index or manifest.dropped):
            raise ProtocolError(f"{image.registry}: {tag.tag} is no index that we can add to")
        listed = [*(manifest.manifests if manifest else ()), entry]
        if len(listed) > _MOST.entries:
            raise TooLargeError(f"{image}: {len(listed) - 1} referrers, no more fit")
        annotations = manifest.annotations if manifest else {}
        return documents.index(listed, annotations), media.OCI_INDEX

    await _rewrite(writer, tag, holds, edit)


async def _rewrite(
    writer: RegistryWriter,
    tag: ImageReference,
    holds: Callable[[Manifest], bool],
    edit: Callable[[Manifest | None], Awaitable[tuple[bytes, str]]],
) -> Digest:
    """Read, change, write, and look again until our change has stayed; ``ConflictError``."""
    clock = asyncio.get_running_loop().time
    async with _lock(tag):  # within one process there is no race at all
        looks, took = _LOOKS - 1, 0.0
        for _ in range(_ROUNDS):
            began = clock()
            current = await _current(writer, tag)
            if current is not None and holds(current):
                looks += 1
                if looks >= _LOOKS:
                    return current.digest
                await _pause(took)
                continue
            content, media_type = await edit(current)
            try:
                await writer.push_manifest(tag, content, media_type, _unchanged(current))
                looks, took = 0, clock() - began
            except ConflictError:
                await _pause(took)
    raise ConflictError(f"{tag}: others overwrote it {_ROUNDS} times, nothing was attached")


async def _pause(took: float) -> None:
    """Wait about as long as another writer may take who read before we wrote."""
    longest = min(max(3 * took, _SHORTEST), _LONGEST)
    await asyncio.sleep(random.uniform(longest / 3, longest))  # noqa: S311 (no secret)


def _lock(tag: ImageReference) -> asyncio.Lock:
    return _locks.setdefault(str(tag), asyncio.Lock())


async def _current(writer: RegistryWriter, tag: ImageReference) -> Manifest | None:
    try:
        return await writer.manifest(tag)
    except NotFoundError:
        return None


def _unchanged(current: Manifest | None) -> Precondition | None:
    if current is None:
        return Precondition(None)
    return Precondition(current.etag) if current.etag else None


def _lists(entries: tuple[Descriptor, ...], digest: Digest) -> bool:
    return any(entry.digest == digest for entry in entries)


def _legacy_config(layers: list[Descriptor]) -> bytes:
    """Write an image config that names the layers, as cosign does; registries check it."""
    born = "0001-01-01T00:00:00Z"
    return msgspec.json.encode(
        {
            "architecture": "",
            "created": born,
            "history": [{"created": born} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers]},
            "config": {},
        }
    )
