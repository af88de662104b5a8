"""Whether a child's owner exists, and whether the child is what the owner says.

What was found is remembered per owner uid as a set of templates that this owner has
had. A uid is never used twice and the set only says "this was admitted", so what is
remembered cannot become wrong, and the warm path asks nobody.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from trailgate.assess import templates
from trailgate.assess.classify import OwnerClaim
from trailgate.assess.templates import Child, Template
from trailgate.model.admission import Kind
from trailgate.model.errors import TrailgateError

_MAX_TEMPLATES = 16
_READ_SECONDS = 10


class OwnerUnavailableError(TrailgateError):
    """An owner could not be read. Never the same as an owner that is not there."""


class OwnerUnverifiedError(TrailgateError):
    """The owner is not there, is another object, or never had this template."""

    def __init__(self, got: str, expected: str) -> None:
        super().__init__(f"got {got}, expected {expected}")
        self.got = got
        self.expected = expected


class OwnerReader(Protocol):
    """Reads workloads from the cluster."""

    async def owner(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return the object as the API server has it now; None where it is not there.

        Raises ``OwnerUnavailableError``. Never mutate what it returns.
        """


class Owners:
    """Templates by owner uid, and the reading of those that are not known."""

    def __init__(self, reader: OwnerReader, limit: int = 8192) -> None:
        self._reader = reader
        self._limit = limit
        self._templates: OrderedDict[str, OrderedDict[Template, None]] = OrderedDict()
        self._reading: dict[OwnerClaim, asyncio.Task[Template | None]] = {}

    def remember(self, uid: str, template: Template) -> None:
        """Take note of an admitted template of the object with this uid."""
        known = self._templates.setdefault(uid, OrderedDict())
        self._templates.move_to_end(uid)
        known[template] = None
        known.move_to_end(template)
        if len(known) > _MAX_TEMPLATES:
            known.popitem(last=False)
        if len(self._templates) > self._limit:
            self._templates.popitem(last=False)

    def known(self, claim: OwnerClaim, child: Child) -> frozenset[str] | None:
        """Return the inherited images by what is remembered alone, or None."""
        known = self._templates.get(claim.uid)
        if known is None:
            return None
        self._templates.move_to_end(claim.uid)
        for template in reversed(known):
            if _has_all(child, template):
                return _shared(child, template)
        return None

    async def inherited(self, claim: OwnerClaim, child: Child) -> frozenset[str]:
        """Return the child's image strings that its owner's template has in the same place.

        Raises ``OwnerUnverifiedError`` and ``OwnerUnavailableError``. For a ReplicaSet and
        a Job the whole template must be equal; a Pod may have more than its owner says
        (injected containers), and that is then not inherited.
        """
        inherited = self.known(claim, child)
        if inherited is not None:
            return inherited
        joined = claim in self._reading
        template = await self._read(claim)
        if joined and (template is None or not _has_all(child, template)):
            # What we joined may have been asked before the owner changed.
            template = await self._read(claim)
        if template is None:
            raise OwnerUnverifiedError(
                f"ownerReference to {claim}", "an owner that exists with this uid"
            )
        if isinstance(template, bytes) and not _has_all(child, template):
            raise OwnerUnverifiedError(
                f"a template that {claim.kind.kind} {claim.name} does not have",
                "the template of the owner, unchanged",
            )
        return _shared(child, template)

    async def _read(self, claim: OwnerClaim) -> Template | None:
        task = self._reading.get(claim)
        if task is None:
            task = asyncio.create_task(self._fetch(claim))
            self._reading[claim] = task
            task.add_done_callback(lambda done: self._finished(claim, done))
        return await asyncio.shield(task)

    async def _fetch(self, claim: OwnerClaim) -> Template | None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                owner = await self._reader.owner(claim.kind, claim.namespace, claim.name)
        except TimeoutError as error:
            raise OwnerUnavailableError(
                f"got no answer about {claim} in {_READ_SECONDS} s, expected the object"
            ) from error
        if owner is None or owner.get("metadata", {}).get("uid") != claim.uid:
            return None
        template = templates.of_owner(claim.kind, owner)
        self.remember(claim.uid, template)
        return template

    def _finished(self, claim: OwnerClaim, task: asyncio.Task[Template | None]) -> None:
        self._reading.pop(claim, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; an abandoned one is no news


def _has_all(child: Child, owner: Template) -> bool:
    """Whether nothing that the owner's template says is missing or different."""
    if isinstance(owner, bytes) or isinstance(child.template, bytes):
        return child.template == owner
    return owner <= child.template


def _shared(child: Child, owner: Template) -> frozenset[str]:
    if isinstance(owner, bytes):
        return frozenset(use.image for use in child.images)
    return frozenset(use.image for use in owner.intersection(child.images))
