"""Images from outside: let in by digest, on somebody's responsibility, until a date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from trailgate.model.image import ImageReference
from trailgate.policy.compiled import DeployPolicy


@dataclass(frozen=True, slots=True)
class Listing:
    """What a policy's ``thirdParty`` says about one image."""

    admitted: bool = False
    needs_digest: bool = False
    """The repository is listed, and the image is named by tag."""
    why: str = ""
    """Why a listed repository's image is not let in."""


_UNLISTED = Listing()


def find(
    policy: DeployPolicy, image: ImageReference, at: datetime | None, *, ageless: bool
) -> Listing:
    """Look an image up; ``ageless`` is for pods of a release that was admitted in time."""
    entries = policy.third_party.get(image.name) if policy.third_party else None
    if not entries:
        return _UNLISTED
    if image.digest is None:
        return Listing(needs_digest=True)
    naming = [entry for entry in entries if image.digest in entry.digests]
    if not naming:
        return Listing(why=f"third-party image {image.name} by a digest that is not listed")
    if ageless or any(at is not None and at < entry.expiry for entry in naming):
        return Listing(admitted=True)
    last = max(naming, key=lambda entry: entry.expiry)
    when = last.expiry.strftime("%Y-%m-%dT%H:%M:%SZ")
    if at is None:
        return Listing(why=f"a third-party listing until {when}, at an unknown time")
    return Listing(
        why=f"a third-party listing that expired on {when} (owner {last.owner}: {last.reason})"
    )
