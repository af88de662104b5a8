"""Holds the query index beside a ledger against the entries: derived again, row by row.

The index only finds entries, so a wrong one shows nothing that isn't so; but a list made
through it can lack what is there. Rows are compared as sums of keyed hashes, one a table:
whatever the order, and in no more memory than the people take.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from trailgate.ledger.connection import converted
from trailgate.ledger.errors import LedgerCorruptError, LedgerError
from trailgate.ledger.index import expected_schema, index_path, index_schema, logins, row_set
from trailgate.ledger.sql import statements
from trailgate.ledger.sqlite_reader import SqliteReader

_SQL: Final = statements("index_statements.sql")
_TABLES: Final = ("event", "workload", "role", "image", "revision")
_HASH: Final = 32


class IndexState(StrEnum):
    """What can be said of an index."""

    NONE = "none"
    """There is none; it is made when it is used."""
    UNUSED = "unused"
    """What is there is not this ledger's index: it is made anew when it is used."""
    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNDETERMINED = "undetermined"
    """It can't be read just now, or the entries that it is about are not all there."""


@dataclass(frozen=True, slots=True)
class IndexVerdict:
    """How an index compares with the entries."""

    state: IndexState
    size: int = 0
    """Entries that are indexed; the next use adds the others."""
    problems: tuple[str, ...] = ()


class _Sum:
    """A sum over rows that says whether two sets of them are the same."""

    def __init__(self, key: bytes) -> None:
        self._key, self.rows, self._total = key, 0, 0

    def add(self, row: Sequence[Any]) -> None:
        text = repr(tuple(row)).encode("utf-8", "surrogatepass")
        self._total += int.from_bytes(
            hashlib.blake2b(text, digest_size=_HASH, key=self._key).digest()
        )
        self.rows += 1

    @property
    def total(self) -> int:
        return self._total % (1 << 8 * _HASH)


class IndexCheck:
    """Feed it every record in order, then ask.

    The index is read at once, when this is made: make it before the ledger's snapshot, so
    that whoever lists meanwhile can't have indexed more than the snapshot has.
    """

    def __init__(self, ledger: SqliteReader) -> None:
        self._ledger = ledger
        key = secrets.token_bytes(_HASH)
        self._there = {table: _Sum(key) for table in _TABLES}
        self._due = {table: _Sum(key) for table in _TABLES}
        self._people: dict[str, str | None] = {}
        self._listed: dict[str, str | None] = {}
        self._problems: list[str] = []
        self._size = self._seen = 0
        path = index_path(ledger.path)
        self._state = IndexState.AGREES if path.exists() else IndexState.NONE
        if self._state is IndexState.AGREES:
            self._open(f"file:{quote(str(path.absolute()))}?mode=ro")

    def check(self, start: int, records: Iterable[bytes]) -> None:
        """Derive the rows of the next records, ``start`` being the first one's index."""
        for index, record in enumerate(records, start):
            self._seen = index + 1
            if self._state is not IndexState.AGREES or index >= self._size:
                continue
            rows = row_set(record)
            self._due["event"].add((index, *rows.event))
            for table, found in (("workload", rows.workloads), ("role", rows.roles)):
                for pair in found:
                    self._due[table].add((*pair, index))
            for table, values in (("image", rows.images), ("revision", rows.revisions)):
                for value in values:
                    self._due[table].add((value, index))
            logins(rows.people, self._people)

    def verdict(self) -> IndexVerdict:
        """Say how it compares."""
        if self._state is not IndexState.AGREES:
            return IndexVerdict(self._state, self._size, tuple(self._problems))
        if self._seen < self._size:
            return IndexVerdict(IndexState.UNDETERMINED, self._size)
        for table, due in self._due.items():
            there = self._there[table]
            if there.rows != due.rows:
                self._problems.append(f"{table}: {there.rows} rows, expected {due.rows}")
            elif there.total != due.total:
                self._problems.append(f"{table}: other rows than the entries give")
        if self._listed != self._people:
            self._problems.append("person: other rows than the entries give")
        state = IndexState.DISAGREES if self._problems else IndexState.AGREES
        return IndexVerdict(state, self._size, tuple(self._problems))

    def _open(self, uri: str) -> None:
        try:
            with (
                converted(index_path(self._ledger.path)),
                closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection,
            ):
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("BEGIN")
                self._size = self._read_progress(connection)
                if self._state is IndexState.AGREES:
                    self._read(connection)
        except LedgerCorruptError as error:
            self._state = IndexState.DISAGREES
            self._problems.append(f"it is damaged: {error}")
        except LedgerError as error:
            self._state = IndexState.UNDETERMINED
            self._problems.append(str(error))

    def _read_progress(self, connection: sqlite3.Connection) -> int:
        """Give the number of indexed entries, where ``Index`` would go on from it."""
        row = None
        if index_schema(connection) == expected_schema():
            row = connection.execute(_SQL["read_progress"]).fetchone()
        if row is not None:
            origin, size, leaf = row
            theirs = origin == self._ledger.log().origin and 0 < size <= self._ledger.count()
            if theirs and self._ledger.node(0, size - 1) == leaf:
                return int(size)
        self._state = IndexState.UNUSED
        return 0

    def _read(self, connection: sqlite3.Connection) -> None:
        for table, found in self._there.items():
            for row in connection.execute(_SQL[f"every_{table}"]):
                found.add(row)
        self._listed = dict(connection.execute(_SQL["read_people"]))
        (wrong,) = connection.execute(_SQL["count_wrong_changes"]).fetchone()
        if wrong:
            self._problems.append(f"change: {wrong} rows are not what the events come to")
        (answer,) = connection.execute(_SQL["integrity_check"]).fetchone()
        if answer != "ok":
            self._problems.append(f"its structure is damaged: {answer}")
