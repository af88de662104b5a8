"""What a registry keeps beside an image, fetched and hashed but not yet verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trailgate.model.digest import Digest
from trailgate.model.evidence import EvidenceFormat
from trailgate.model.image import ImageReference


@dataclass(frozen=True, slots=True)
class Artifact:
    """One candidate for evidence: a bundle, a simple signature, or a DSSE envelope.

    ``content`` has been hashed to ``digest``; nothing else is known to be true.
    """

    format: EvidenceFormat
    media_type: str
    content: bytes = field(repr=False)
    digest: Digest
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the layer, as the registry gave them (legacy signatures live here)."""


@dataclass(frozen=True, slots=True)
class Attached:
    """Everything found beside one image digest."""

    image: ImageReference
    """By digest, without a tag."""
    artifacts: tuple[Artifact, ...]
    platforms: tuple[Digest, ...] = ()
    """Platform manifests, where the digest names an index."""
    skipped: tuple[str, ...] = ()
    """For a person: what was there and was not taken (too large, too many, not hashing)."""
    unread: tuple[str, ...] = ()
    """Those of ``skipped`` that may hold something about this image: nobody knows what."""
