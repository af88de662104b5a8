"""Where verified facts about images come from, as the assessor sees it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from trailgate.assess.pull import NO_SECRETS, PullSecrets
from trailgate.model.evidence import Gathered, PublicKey
from trailgate.model.image import ImageReference


class EvidenceSource(Protocol):
    """Finds and verifies what is attached to an image."""

    async def gather(
        self,
        image: ImageReference,
        keys: tuple[PublicKey, ...],
        secrets: PullSecrets = NO_SECRETS,
    ) -> Gathered:
        """Return what is known of an image under these keys.

        ``secrets``: what the request's Pod names to pull with; used where it is allowed.
        ``Unavailable`` where it could not be fetched, ``UnresolvedTag`` for a reference
        without a digest. Raises nothing that was foreseen; waiting may be cancelled.
        """


@runtime_checkable
class WarmSource(Protocol):
    """A source that also says what it already knows."""

    def peek(
        self,
        image: ImageReference,
        keys: tuple[PublicKey, ...],
        secrets: PullSecrets = NO_SECRETS,
        *,
        running: bool = False,
    ) -> Gathered | None:
        """Return what ``gather`` would without any waiting, or None.

        ``running``: verified facts of any age will do, because the image is one of a
        running release, and a registry that is away must not stop its pods.
        """

    async def recall(
        self,
        image: ImageReference,
        keys: tuple[PublicKey, ...],
        secrets: PullSecrets = NO_SECRETS,
    ) -> Gathered | None:
        """Return what content that was fetched at any time proves, asking nobody, or None."""
