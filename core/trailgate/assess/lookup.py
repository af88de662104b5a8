"""From image strings to verified facts, for one request: what is warm at once, the rest at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trailgate.assess.evidence_source import EvidenceSource, WarmSource
from trailgate.assess.pull import NO_SECRETS, PullSecrets
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import Evidence, Gathered, PublicKey, Unavailable, UnresolvedTag
from trailgate.model.image import ImageReference
from trailgate.policy.compiled import DeployPolicy
from trailgate.policy.material import keys_for

MAX_IMAGES = 32
_MAX_KNOWN = 8192
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True)
class Known:
    """What an image string means under some policies."""

    image: ImageReference
    keys: tuple[PublicKey, ...]


class Lookup:
    """Gathers the facts that a decision needs, under a deadline."""

    def __init__(self, evidence: EvidenceSource) -> None:
        self._evidence = evidence
        self._warm = evidence if isinstance(evidence, WarmSource) else None
        self._known: dict[tuple[tuple[int, ...], str], tuple[object, Known | None]] = {}

    async def gather(
        self,
        covering: Sequence[DeployPolicy],
        texts: Iterable[str],
        *,
        deadline: float,
        inherited: frozenset[str] = frozenset(),
        secrets: PullSecrets = NO_SECRETS,
    ) -> dict[str, Gathered]:
        """Return the facts by image string; one that cannot be parsed is left out.

        ``inherited``: those of a running release, for which old facts will do.
        ``secrets``: what the Pod names to pull its images with.
        ``deadline``: of the event loop's clock. An image that is not done by then is
        ``Unavailable``; the fetch itself goes on where the source says so.
        Raises ``MalformedError`` for more than 32 different images.
        """
        gathered: dict[str, Gathered] = {}
        cold: dict[str, Known] = {}
        for text in distinct(texts):
            known = self.known(covering, text)
            if known is None:
                continue
            found = self._at_once(known, secrets, running=text in inherited)
            if found is None:
                cold[text] = known
            else:
                gathered[text] = found
        if cold:
            gathered.update(await self.fetch(cold, deadline, secrets))
        if self._warm is not None:
            for text in inherited & cold.keys():
                found, known = gathered[text], cold[text]
                if isinstance(found, Unavailable):
                    old = await self._warm.recall(known.image, known.keys, secrets)
                    gathered[text] = old or found
        return gathered

    def known(self, covering: Sequence[DeployPolicy], text: str) -> Known | None:
        """Read an image string and find the keys that these policies have for it."""
        key = (tuple(map(id, covering)), text)
        remembered = self._known.get(key)
        if remembered is not None:
            return remembered[1]
        try:
            image = ImageReference.parse(text)
        except MalformedError:
            known = None
        else:
            known = Known(image, tuple(keys_for(covering, image)))
        if len(text) > _MAX_TEXT:
            return known
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        # The policies are kept beside what they said, so that no id is used again.
        self._known[key] = (tuple(covering), known)
        return known

    def _at_once(self, known: Known, secrets: PullSecrets, *, running: bool) -> Gathered | None:
        if not known.keys:
            return nothing(known.image)  # no key could verify anything: nobody is asked
        if self._warm is None:
            return None
        return self._warm.peek(known.image, known.keys, secrets, running=running)

    async def fetch(
        self, cold: dict[str, Known], deadline: float, secrets: PullSecrets = NO_SECRETS
    ) -> dict[str, Gathered]:
        """Ask the source for all of these at once, and wait no longer than the deadline."""
        tasks = {
            text: asyncio.ensure_future(self._evidence.gather(known.image, known.keys, secrets))
            for text, known in cold.items()
        }
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        try:
            await asyncio.wait(tasks.values(), timeout=left)
            return {
                text: task.result()
                if task.done()
                else Unavailable(cold[text].image, "no answer in time; the fetch goes on")
                for text, task in tasks.items()
            }
        finally:
            for task in tasks.values():
                if not task.cancel() and not task.cancelled():
                    task.exception()  # seen: the first one has been raised


def distinct(texts: Iterable[str]) -> tuple[str, ...]:
    """Name each image once; raises ``MalformedError`` for more than 32 of them."""
    found = tuple(dict.fromkeys(texts))
    if len(found) > MAX_IMAGES:
        raise MalformedError(f"got {len(found)} different images, expected at most {MAX_IMAGES}")
    return found


def nothing(image: ImageReference) -> Gathered:
    """Say of an image that nothing is known, without asking."""
    if image.digest is None:
        return UnresolvedTag(image)
    return Evidence(image.with_digest(image.digest), ())
