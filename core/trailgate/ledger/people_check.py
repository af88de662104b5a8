"""Checks a ledger's commitments against what is disclosed beside it, over all entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from trailgate.ledger.disclosures import Disclosures
from trailgate.ledger.form import SCHEMA
from trailgate.ledger.people import Revealed, check_commitments
from trailgate.ledger.people_rows import check_rows
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.model.errors import TrailgateError

_ERASURE: Final = "erasure"
_SUBJECTS: Final = "subject:"
_FIELDS: Final = frozenset({"id", "login", "name"})
_NOBODY: Final = dict.fromkeys(_FIELDS)
#: Suspects are kept until an erasure entry may have explained them; more are counted.
_MAX_SUSPECTS: Final = 1_000_000


class PeopleCheck:
    """Feed it every record in order, then ask.

    Erasure entries come after what they erase, so a commitment that nothing opens is
    only a suspect until the end.
    """

    def __init__(self, ledger: SqliteReader) -> None:
        self._ledger = ledger
        self._disclosures = Disclosures(ledger)
        self._good: set[tuple[str, str | None]] = set()
        self._suspects: dict[str, tuple[int, str]] = {}
        self._erased: dict[str, int] = {}
        self._bad: list[tuple[int, str]] = []
        self._other = 0
        self._size = 0

    def check(self, start: int, records: Sequence[bytes]) -> None:
        """Check the commitments of the next records, ``start`` being the first one's index."""
        self._size = start + len(records)
        alone = self._ledger.disclosures_between(start, self._size)
        for index, content in enumerate(records, start):
            self._check(index, content, alone.get(index, {}))

    def problems(self) -> Iterator[tuple[int | None, str]]:
        """Yield (index, text) of what no erasure explains."""
        yield from self._bad
        for index, key in self._ledger.disclosures_outside(self._size):
            yield index, f"a disclosure stands beside no entry: {key}"
        subjects = self._ledger.disclosures(_SUBJECTS)
        for text in check_rows(subjects, self._ledger.every_disclosure()):
            yield None, text
        for committed, (index, text) in self._suspects.items():
            if committed not in self._erased:
                yield index, text
        for committed, index in self._erased.items():
            if self._ledger.is_disclosed(committed):
                yield index, f"{committed} is recorded as erased, and still disclosed"

    def notes(self) -> list[str]:
        """Say what was not checked."""
        if not self._other:
            return []
        return [f"{self._other} entries are of another schema: their people were not checked"]

    def _check(self, index: int, content: bytes, alone: Mapping[str, bytes]) -> None:
        try:
            record = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            self._bad.append((index, f"the entry is not JSON: {error}"))
            return
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            self._other += 1
            return
        try:
            self._check_record(index, record, alone)
        except TrailgateError as error:
            self._bad.append((index, f"a disclosure can't be read: {error}"))
        except (KeyError, TypeError, AttributeError) as error:
            # Signed or not, it isn't what its schema says.
            self._bad.append((index, f"the entry does not have the form of its schema: {error!r}"))

    def _check_record(self, index: int, record: dict[str, Any], alone: Mapping[str, bytes]) -> None:
        if record.get("kind") == _ERASURE:
            for erased in record["erased"]:
                self._erased.setdefault(erased["commitment"], index)
        # The same few people, over and over: each of their commitments is opened once.
        names = [[(n, v) for n, v in person.items() if n in _FIELDS] for person in record["people"]]
        strangers = [
            _NOBODY if self._good.issuperset(pairs) else person
            for person, pairs in zip(record["people"], names, strict=True)
        ]
        rest = {"people": strangers, "texts": record["texts"]}
        opened = self._disclosures.of(index, rest, alone)
        self._bad += ((index, text) for text in _strangers(record, alone, opened))
        problems = check_commitments(rest, opened, ())
        for problem in problems:
            text = f"{problem.pointer}: {problem.detail} ({problem.commitment})"
            if problem.commitment in opened:
                self._bad.append((index, text))
            elif len(self._suspects) < _MAX_SUSPECTS:
                self._suspects.setdefault(problem.commitment, (index, text))
        failed = {problem.commitment for problem in problems}
        for pairs in names:
            self._good.update(pair for pair in pairs if pair[1] not in failed)


def _strangers(
    record: Mapping[str, Any], alone: Mapping[str, bytes], opened: Mapping[str, Revealed]
) -> Iterator[str]:
    """Tell of rows beside an entry that are not its own texts, or do not open to them."""
    own = set(record["texts"])
    for key in alone:
        if key not in own:
            yield f"a disclosure beside the entry is of none of its own texts: {key}"
        elif key not in opened:
            yield f"/texts: does not open to what is disclosed ({key})"
