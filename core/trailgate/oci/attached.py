"""Finding everything that is stored beside an image: bundles and legacy signatures.

Places: the referrers API, the fallback tag ``sha256-<hex>``
(https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#unavailable-referrers-api),
and cosign's tags ``sha256-<hex>.sig`` and ``.att``. What is found is hashed, not verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from trailgate.model.artifact import Artifact, Attached
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import EvidenceFormat
from trailgate.model.image import ImageReference
from trailgate.oci import media
from trailgate.oci.errors import (
    DigestMismatchError,
    NotFoundError,
    OciError,
    ProtocolError,
    TooLargeError,
)
from trailgate.oci.limits import Limits
from trailgate.oci.registry import Descriptor, Manifest, Registry

_T = TypeVar("_T")
_UNUSABLE: Final = (NotFoundError, TooLargeError, DigestMismatchError, ProtocolError)
"""One broken attachment doesn't hide the others; an unreachable registry does."""
_DEFAULT: Final = Limits()


def fallback_tag(image: ImageReference, suffix: str = "") -> ImageReference:
    """Name the tag ``sha256-<hex><suffix>`` of an image's digest; suffix ``.sig`` or ``.att``."""
    return replace(image, tag=f"sha256-{_digest(image).hex}{suffix}", digest=None)


async def fetch_attached(
    registry: Registry, image: ImageReference, limits: Limits = _DEFAULT
) -> Attached:
    """Fetch the image's manifest and all that is attached to its digest.

    Raises ``NotFoundError`` where the image itself isn't there, and any other
    ``OciError`` where it can't be known what is. An attachment that is there but
    too large, not hashing, not readable or one too many is told in ``skipped``, and in
    ``unread`` too: it may be the one that speaks against the image.
    """
    bare = image.with_digest(_digest(image))
    search = _Search(registry, bare, limits)
    with _plainly():
        async with asyncio.TaskGroup() as group:
            manifest = group.create_task(registry.manifest(bare))
            bundles = group.create_task(search.bundles())
            signatures = group.create_task(search.legacy(".sig", media.SIMPLE_SIGNING))
            attestations = group.create_task(search.legacy(".att", media.DSSE_ENVELOPE))
    return Attached(
        image=bare,
        artifacts=(*bundles.result(), *signatures.result(), *attestations.result()),
        platforms=platforms(manifest.result()),
        skipped=tuple(search.skipped),
        unread=tuple(search.unread),
    )


async def discover(registry: Registry, image: ImageReference) -> tuple[Descriptor, ...]:
    """List what is attached: by the API, or by the fallback tag where the API has nothing."""
    listed = await registry.referrers(image)
    if listed:
        return listed
    try:
        index = await registry.manifest(fallback_tag(image))
    except NotFoundError:
        return ()
    if not index.is_index:
        raise ProtocolError(f"{image.registry}: {fallback_tag(image).tag} is not an index")
    return index.manifests


def platforms(manifest: Manifest) -> tuple[Digest, ...]:
    """Return the platform manifests of an index, without BuildKit's unsigned attestations."""
    return tuple(
        entry.digest
        for entry in manifest.manifests
        if media.BUILDKIT_REFERENCE not in entry.annotations and entry.platform != "unknown/unknown"
    )


@dataclass(slots=True)
class _Search:
    """One search beside one image; notes what it didn't take."""

    registry: Registry
    image: ImageReference
    limits: Limits
    skipped: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    taken: int = 0
    """Bytes of blobs, as their descriptors announce them."""
    bundled: set[tuple[Digest, int]] = field(default_factory=set)
    """Digest and size of each bundle: one that several manifests carry is read once."""

    async def bundles(self) -> tuple[Artifact, ...]:
        """Fetch all Sigstore bundles."""
        try:
            listed = await discover(self.registry, self.image)
        except _UNUSABLE as error:
            self._miss(f"list of referrers: {error}")
            return ()
        likely = sorted(
            {entry.digest: entry for entry in listed}.values(),
            key=lambda entry: not (entry.artifact_type or "").startswith(media.BUNDLE_PREFIX),
        )
        chosen = self._at_most(likely, "referrers")
        return _present(await _together(*(self._bundle(entry) for entry in chosen)))

    async def legacy(self, suffix: str, media_type: str) -> tuple[Artifact, ...]:
        """Fetch the layers of one of cosign's tags."""
        tag = fallback_tag(self.image, suffix)
        try:
            manifest = await self.registry.manifest(tag)
        except NotFoundError:
            return ()
        except _UNUSABLE as error:
            self._miss(f"{tag.tag}: {error}")
            return ()
        layers = [layer for layer in manifest.layers if layer.media_type == media_type]
        chosen = self._at_most(layers, f"layers of {suffix}")
        return _present(
            await _together(*(self._artifact(EvidenceFormat.LEGACY, layer) for layer in chosen))
        )

    async def _bundle(self, entry: Descriptor) -> Artifact | None:
        """Look at the manifest itself: the list's artifact type is wrong too often."""
        try:
            manifest = await self.registry.manifest(self.image.with_digest(entry.digest))
        except _UNUSABLE as error:
            self._miss(f"referrer {entry.digest}: {error}")
            return None
        if len(manifest.layers) != 1 or not manifest.layers[0].media_type.startswith(
            media.BUNDLE_PREFIX
        ):
            return None
        if manifest.subject not in (None, self.image.digest):
            self.skipped.append(f"referrer {entry.digest}: its subject is another image")
            return None
        layer = manifest.layers[0]
        if (layer.digest, layer.size) in self.bundled:
            return None
        self.bundled.add((layer.digest, layer.size))
        return await self._artifact(EvidenceFormat.BUNDLE, layer)

    async def _artifact(self, form: EvidenceFormat, layer: Descriptor) -> Artifact | None:
        bound = min(self.limits.blob, self.limits.artifacts - self.taken)
        if layer.size > bound:
            self._miss(f"{layer.digest}: {layer.size} bytes, at most {bound} are read")
            return None
        self.taken += layer.size
        try:
            content = await self.registry.blob(self.image, layer.digest, layer.size)
        except _UNUSABLE as error:
            self._miss(f"{layer.digest}: {error}")
            return None
        return Artifact(form, layer.media_type, content, layer.digest, layer.annotations)

    def _at_most(self, entries: Sequence[Descriptor], what: str) -> Sequence[Descriptor]:
        bound = self.limits.referrers
        if len(entries) > bound:
            self._miss(f"{len(entries) - bound} of {len(entries)} {what}: at most {bound} are read")
        return entries[:bound]

    def _miss(self, what: str) -> None:
        self.skipped.append(what)
        self.unread.append(what)


async def _together(*waiting: Coroutine[None, None, _T]) -> tuple[_T, ...]:
    """Run all at once; the first error cancels the rest."""
    with _plainly():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in waiting]
    return tuple(task.result() for task in tasks)


@contextmanager
def _plainly() -> Iterator[None]:
    """Raise the first foreseen error of a group by itself."""
    try:
        yield
    except BaseExceptionGroup as errors:
        foreseen = errors.subgroup(OciError)
        if foreseen is None:
            raise
        raise _first(foreseen) from None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _present(found: tuple[Artifact | None, ...]) -> tuple[Artifact, ...]:
    return tuple(artifact for artifact in found if artifact is not None)


def _digest(image: ImageReference) -> Digest:
    if image.digest is None:
        raise MalformedError(f"got {image}, expected an image by digest")
    return image.digest
