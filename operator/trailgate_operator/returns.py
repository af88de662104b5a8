"""Which images each object ran before: how a record says that a change goes back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from trailgate.ledger.record import End, Kind, NotPersisted, image_set

_MARK = b'"kind":"admitted"'
_LEAVING = (
    (b'"kind":"persisted"', b'"operation":"DELETE"'),
    (b'"kind":"ended"', b'"cause":"deleted"'),
    (b'"kind":"not-persisted"', b'"cause":"'),
)


class ImageHistory:
    """The image sets of each object's admissions, by object uid, newest last.

    Of the objects that are there, as far as the observer has told: a uid never comes again.
    """

    def __init__(self, before: ImageHistory | None = None) -> None:
        self._before = before
        self._sets: dict[str, dict[str, int]] = {}

    @classmethod
    def read(cls, records: Iterable[bytes]) -> ImageHistory:
        """Build it from the ledger's records, in order from index 0."""
        history = cls()
        for index, record in enumerate(records):
            if _MARK in record:  # the others aren't parsed
                history.admitted(index, orjson.loads(record))
            else:
                history.forget(record)
        return history

    def ahead(self) -> ImageHistory:
        """Give a view to note in what is not durable yet: ``keep`` it, or drop it."""
        return ImageHistory(self)

    def keep(self) -> None:
        """Put what was noted ahead into the history that it was ahead of."""
        if self._before is not None:
            self._before.adopt(self._sets)
            self._sets = {}

    def adopt(self, sets: Mapping[str, dict[str, int]]) -> None:
        """Take over what a view ahead noted."""
        self._sets.update(sets)

    def admitted(self, index: int, record: Mapping[str, Any]) -> None:
        """Note an admitted entry (or its claim); other kinds are ignored."""
        uid, images = _identify(record)
        if uid is None or images is None:
            return
        sets = dict(self.of(uid))
        sets.pop(images, None)  # the newest index, and the newest place in the order
        sets[images] = index
        self._sets[uid] = sets

    def forget(self, content: bytes) -> None:
        """Let go of an object where a record says that it is gone, or was never there."""
        if not any(kind in content and mark in content for kind, mark in _LEAVING):
            return
        record = orjson.loads(content)
        told = record.get("object")
        uid = str(told.get("uid")) if isinstance(told, dict) else ""
        if uid in self._sets and _is_gone(record, self._sets[uid].values()):
            del self._sets[uid]

    def returns_to(self, claim: Mapping[str, Any]) -> int | None:
        """Give the entry whose images an admitted claim goes back to.

        None where its images are new, or just the ones that run already.
        """
        uid, images = _identify(claim)
        sets = self.of(uid or "")
        if images is None or images not in sets or next(reversed(sets)) == images:
            return None
        return sets[images]

    def of(self, uid: str) -> dict[str, int]:
        """Give an object's image sets and the newest index of each, newest last."""
        if uid in self._sets or self._before is None:
            return self._sets.get(uid, {})
        return self._before.of(uid)


def _identify(record: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Of an admitted record: its object's uid, and which images it has.

    A claim may still have any form here; one that isn't a record's is ``commit``'s to refuse.
    """
    if record.get("kind") != Kind.ADMITTED:
        return None, None
    try:
        uid, images = record["object"]["uid"], image_set(record)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None, None
    return (uid, images) if isinstance(uid, str) else (None, None)


def _is_gone(record: Mapping[str, Any], indices: Collection[int]) -> bool:
    match record.get("kind"):
        case Kind.PERSISTED:
            return bool(record.get("operation") == "DELETE")
        case Kind.ENDED:
            return bool(record.get("cause") == End.DELETED)
        case Kind.NOT_PERSISTED:
            # Of an object that nothing else was admitted of: these images never ran.
            known = record.get("cause") != NotPersisted.UNDETERMINED
            return known and list(indices) == [record.get("claim")]
    return False
