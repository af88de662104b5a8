"""A denial that says where a tag has gone, when that explains the missing signature."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from trailgate.assess.lookup import Known, Lookup
from trailgate.model.decision import Decision, Finding
from trailgate.model.digest import Digest
from trailgate.model.evidence import UnresolvedTag
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason
from trailgate.policy.compiled import DeployPolicy

#: Seconds; a courtesy must not cost the answer.
_PATIENCE = 1.0


async def with_moved_tags(
    decision: Decision, lookup: Lookup, covering: Sequence[DeployPolicy], deadline: float
) -> Decision:
    """Fill ``moved_to`` in findings about ``name:tag@digest`` whose tag names another digest.

    ``deadline``: of the event loop's clock; what is not known by then is left out.
    """
    asked: dict[str, Known] = {}
    for finding in decision.findings:
        if finding.reason is Reason.SIGNATURE_MISSING and finding.image is not None:
            known = lookup.known(covering, finding.image)
            if known is not None and known.keys and known.image.tag and known.image.digest:
                asked[finding.image] = Known(replace(known.image, digest=None), known.keys)
    if not asked:
        return decision
    patience = asyncio.get_running_loop().time() + _PATIENCE
    found = await lookup.fetch(asked, min(deadline, patience))
    moved: dict[str, Digest] = {}
    for text, answer in found.items():
        now = answer.current if isinstance(answer, UnresolvedTag) else None
        image = ImageReference.parse(text)
        if now is not None and now != image.digest:
            moved[text] = now
    return _filled(decision, moved) if moved else decision


def _filled(decision: Decision, moved: dict[str, Digest]) -> Decision:
    def fill(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        return tuple(
            replace(finding, moved_to=moved[finding.image])
            if finding.reason is Reason.SIGNATURE_MISSING and finding.image in moved
            else finding
            for finding in findings
        )

    images = tuple(replace(image, findings=fill(image.findings)) for image in decision.images)
    return replace(decision, findings=fill(decision.findings), images=images)
