"""What runs, compared with what was admitted. Pure.

A node names what runs by ``imageID``: ``REPOSITORY@DIGEST`` with the digest of an index or
of a platform's manifest, or a bare digest of an image's configuration, which no
admission knows. What can't be compared is unverifiable, and no discrepancy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trailgate.ledger.record import Match, RunningImage
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference
from trailgate_operator.observer_seen import ImageUse


@dataclass(frozen=True, slots=True)
class AdmittedImage:
    """One image as an admission resolved it."""

    reference: str
    digest: Digest | None
    platforms: frozenset[Digest]
    names: frozenset[str]
    """Of the containers that use it."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What the pods of one admitted state run."""

    images: tuple[RunningImage, ...]
    strange: tuple[Digest, ...]
    """What runs that the admission doesn't cover."""


def compare(admitted: Sequence[AdmittedImage], pods: Iterable[Sequence[ImageUse]]) -> Compared:
    """Compare the containers of all pods with the images of their admission.

    Containers that the admission doesn't have (a mutating webhook's sidecar) were verified
    when the pod was made, and are not its business; but a pod that lacks one of those
    that it has is another pod, and everything in it counts.
    """
    known = {digest for one in admitted for digest in (one.digest, *one.platforms)}
    wanted = {name for one in admitted for name in one.names}
    found: dict[str, tuple[set[Digest], list[Match]]] = {
        one.reference: (set(), []) for one in admitted
    }
    strange: set[Digest] = set()
    for uses in pods:
        other = not wanted <= {use.name for use in uses}
        for use in uses:
            image = next((one for one in admitted if use.name in one.names), None)
            if image is None:
                digest = _digest(use)
                if other and digest is not None and digest not in known:
                    strange.add(digest)
                continue
            digest, match = _match(image, use)
            digests, matches = found[image.reference]
            matches.append(match or Match.UNVERIFIABLE)
            if digest is not None:
                digests.add(digest)
                if match is None and digest not in known:
                    strange.add(digest)
    images = tuple(
        RunningImage(reference, tuple(sorted(digests, key=str)), _worst(matches))
        for reference, (digests, matches) in found.items()
    )
    return Compared(images, tuple(sorted(strange, key=str)))


def _digest(use: ImageUse) -> Digest | None:
    try:
        return Digest.parse(use.running.rpartition("://")[2].rpartition("@")[2])
    except MalformedError:
        return None


def _match(image: AdmittedImage, use: ImageUse) -> tuple[Digest | None, Match | None]:
    """Return what runs, and how it compares; no match: it isn't what was admitted."""
    repository, at, _ = use.running.rpartition("://")[2].rpartition("@")
    digest = _digest(use)
    if digest is None:
        return None, Match.UNVERIFIABLE
    if image.digest is not None and digest == image.digest:
        return digest, Match.PINNED
    if digest in image.platforms:
        return digest, Match.PLATFORM
    same = use.image == image.reference
    if not at or image.digest is None or (same and repository != _repository(image.reference)):
        # A configuration's digest, a tag, or another repository's name for the same content.
        return digest, Match.UNVERIFIABLE if same or not at else None
    return digest, None


def _repository(reference: str) -> str:
    try:
        parsed = ImageReference.parse(reference)
    except MalformedError:
        return ""
    return f"{parsed.registry}/{parsed.repository}"


def _worst(matches: Sequence[Match]) -> Match:
    order = (Match.UNVERIFIABLE, Match.PLATFORM, Match.PINNED)
    return next((match for match in order if match in matches), Match.UNVERIFIABLE)
