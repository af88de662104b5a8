"""What the registry tests share: places, small images, clients."""

from __future__ import annotations

import os
from dataclasses import dataclass

from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci import documents, media
from trailgate.oci.client import RegistryClient
from trailgate.oci.credentials import CredentialSource
from trailgate.oci.guard import Guard
from trailgate.oci.limits import Limits
from trailgate.oci.registry import Descriptor, RegistryWriter

SLSA = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True)
class Place:
    """One repository in one registry."""

    registry: RegistryWriter
    host: str
    repository: str
    referrers: bool

    def image(self, tag: str | None = None, digest: Digest | None = None) -> ImageReference:
        return ImageReference(self.host, self.repository, tag, digest)


def guard_for(host: str, **more: object) -> Guard:
    return Guard(named=lambda: {host}, insecure=frozenset({host}), **more)  # type: ignore[arg-type]


def client_for(
    host: str,
    credentials: CredentialSource | None = None,
    limits: Limits | None = None,
) -> RegistryClient:
    return RegistryClient(guard_for(host), credentials, limits)


async def push_image(place: Place, tag: str | None = None) -> ImageReference:
    """Push an image of one random layer; returns it by digest."""
    content = await image_manifest(place.registry, place.image())
    target = place.image(tag) if tag else place.image(digest=Digest.of(content))
    pushed = await place.registry.push_manifest(target, content, media.OCI_MANIFEST)
    return place.image(digest=pushed.digest)


async def image_manifest(registry: RegistryWriter, image: ImageReference) -> bytes:
    config, layer = b'{"architecture":"amd64","os":"linux"}', os.urandom(64)
    return documents.image_manifest(
        config=Descriptor(media.OCI_CONFIG, await registry.push_blob(image, config), len(config)),
        layers=[
            Descriptor(
                "application/vnd.oci.image.layer.v1.tar",
                await registry.push_blob(image, layer),
                len(layer),
            )
        ],
    )
