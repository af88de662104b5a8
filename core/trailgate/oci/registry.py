"""What the rest of Trailgate asks of a registry, and the values it gets back.

OCI distribution specification 1.1:
https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci import media


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: https://github.com/opencontainers/image-spec/blob/main/descriptor.md."""

    media_type: str
    digest: Digest
    size: int
    """Bytes."""
    artifact_type: str | None = None
    """As claimed by whoever wrote the list; registries and old clients get it wrong."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
    """``os/architecture[/variant]``, where an index says so."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest or an index, read from bytes that hash to ``digest``."""

    digest: Digest
    media_type: str
    content: bytes = field(repr=False)
    artifact_type: str | None = None
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    """Of an image manifest."""
    manifests: tuple[Descriptor, ...] = ()
    """Of an index."""
    subject: Digest | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    dropped: int = 0
    """Entries of an index that were left out because their digest isn't SHA-256."""
    etag: str | None = field(default=None, compare=False)
    """The registry's entity tag, for a conditional write; never trusted otherwise."""

    @property
    def is_index(self) -> bool:
        """Whether this lists manifests rather than layers."""
        return self.media_type in media.INDEXES

    @property
    def descriptor(self) -> Descriptor:
        """Point to this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.content), self.artifact_type)


@dataclass(frozen=True, slots=True)
class Precondition:
    """What a tag must still be when it is written; registries may ignore it."""

    etag: str | None
    """The entity tag that was read; None where the tag didn't exist."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """A manifest that the registry took."""

    digest: Digest
    subject_listed: bool
    """It answered ``OCI-Subject``: its referrers API will list this manifest."""


class Registry(Protocol):
    """Reading. Every method may raise any ``trailgate.oci.errors.OciError``."""

    async def resolve(self, image: ImageReference) -> Digest:
        """Return the digest that a tag names now, or the image's own digest.

        The registry's word: only ``manifest`` by that digest proves the content.
        """

    async def manifest(self, image: ImageReference) -> Manifest:
        """Fetch by digest, else by tag, else by ``latest``; what comes is hashed."""

    async def blob(self, image: ImageReference, digest: Digest, limit: int) -> bytes:
        """Fetch a blob of at most ``limit`` bytes from the image's repository and hash it."""

    async def referrers(self, image: ImageReference) -> tuple[Descriptor, ...]:
        """List what the referrers API knows of; empty also where there is no such API."""


class RegistryWriter(Registry, Protocol):
    """Reading and writing."""

    async def push_blob(self, image: ImageReference, content: bytes) -> Digest:
        """Store a blob in the image's repository, unless it is there."""

    async def push_manifest(
        self,
        image: ImageReference,
        content: bytes,
        media_type: str,
        precondition: Precondition | None = None,
    ) -> Pushed:
        """Store a manifest by the image's digest, else by its tag; ``ConflictError``."""

    async def attach(self, image: ImageReference, bundle: bytes, predicate_type: str) -> Digest:
        """Store a Sigstore bundle beside the image digest; returns its manifest's digest."""
