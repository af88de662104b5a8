"""Which images each object ran before: how a record says that a change goes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from trailgate.ledger.record import Kind, image_set

_MARK = b'"kind":"admitted"'


class ImageHistory:
    """The image sets of every object's admissions, by object uid, newest last."""

    def __init__(self) -> None:
        self._sets: dict[str, dict[str, int]] = {}

    @classmethod
    def read(cls, records: Iterable[bytes]) -> ImageHistory:
        """Build it from the ledger's records, in order from index 0."""
        history = cls()
        for index, record in enumerate(records):
            if _MARK in record:  # most records of a busy cluster are; the rest isn't parsed
                history.admitted(index, orjson.loads(record))
        return history

    def admitted(self, index: int, record: Mapping[str, Any]) -> None:
        """Note an admitted entry (or its claim); other kinds are ignored."""
        key = _uid(record)
        images = image_set(record) if key else None
        if key and images:
            sets = self._sets.setdefault(key, {})
            sets.pop(images, None)  # the newest index, and the newest place in the order
            sets[images] = index

    def returns_to(self, claim: Mapping[str, Any]) -> int | None:
        """Give the entry whose images an admitted claim goes back to.

        None where its images are new, or just the ones that run already.
        """
        key = _uid(claim)
        images = image_set(claim) if key else None
        sets = self._sets.get(key or "", {})
        if images is None or images not in sets or next(reversed(sets)) == images:
            return None
        return sets[images]


def _uid(record: Mapping[str, Any]) -> str | None:
    if record.get("kind") != Kind.ADMITTED:
        return None
    uid = record.get("object", {}).get("uid")
    return uid if isinstance(uid, str) else None
