"""Opens a ledger's commitments, entry by entry, holding no more than the people in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from trailgate.ledger.people import Revealed, commitments, reveal
from trailgate.ledger.store import LedgerReader

_SUBJECTS = "subject:"


class Disclosures:
    """What the commitments of a ledger's records open to, by record."""

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger
        self._subjects: Mapping[str, bytes] | None = None
        self._opened: dict[str, Revealed] = {}

    def of(
        self, index: int, record: Mapping[str, Any], alone: Mapping[str, bytes] | None = None
    ) -> dict[str, Revealed]:
        """Open what can be opened of one record: commitment → what it opens to.

        ``alone`` are the entry's own rows, where the caller has read them already.
        """
        found = reveal(self._ledger.disclosures_of(index) if alone is None else alone)
        for _field, committed in commitments(record).values():
            if committed not in found:
                opened = self.open(committed)
                if opened is not None:
                    found[committed] = opened
        return found

    def open(self, committed: str) -> Revealed | None:
        """Open one commitment that entries share; None where nothing is disclosed."""
        opened = self._opened.get(committed)
        if opened is not None:
            return opened
        row = self._ledger.disclosure(committed)
        if row is None:
            return None
        if self._subjects is None:
            self._subjects = dict(self._ledger.disclosures(_SUBJECTS))
        opened = reveal({**self._of_subject(row), committed: row}).get(committed)
        if opened is not None:
            self._opened[committed] = opened
        return opened

    def _of_subject(self, row: bytes) -> Mapping[str, bytes]:
        """Give the row of the person whom a row names, if it is there."""
        assert self._subjects is not None
        try:
            key = f"{_SUBJECTS}{orjson.loads(row)['subject']}"
        except (ValueError, KeyError, TypeError):
            return {}
        return {key: self._subjects[key]} if key in self._subjects else {}
