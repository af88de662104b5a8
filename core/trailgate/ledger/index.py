"""The query index: derived tables in a file beside the ledger, brought up to date on use."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from trailgate.ledger.connection import converted
from trailgate.ledger.errors import LedgerError, LedgerUnavailableError
from trailgate.ledger.form import SCHEMA
from trailgate.ledger.index_rows import IndexRows, rows_of
from trailgate.ledger.sql import script, statements
from trailgate.ledger.sqlite_reader import SqliteReader

_SQL = statements("index_statements.sql")
_CHUNK: Final = 5_000
_SCHEMA: Final = "SELECT name, sql FROM sqlite_schema ORDER BY name"
_NONE: Final[frozenset[str]] = frozenset()
_OTHER: Final = IndexRows(
    ("other", "", None, None, None, None, 0), frozenset(), frozenset(), (), _NONE, _NONE
)


def index_path(ledger: Path) -> Path:
    """Say where a ledger's index is: beside it."""
    return ledger.with_name(f"{ledger.name}.index")


class Index:
    """The index of one ledger, as complete as the ledger was when it was opened.

    Opening brings it up to date. Where the file can't be written (read-only evidence,
    somebody else's directory) the index is built in memory: slower, and the same.
    """

    def __init__(self, reader: SqliteReader, *, rebuild: bool = False) -> None:
        self._reader = reader
        path = index_path(reader.path)
        if rebuild:
            _remove(path)
        self.in_memory = False
        try:
            self._open(path)
        except LedgerUnavailableError:
            self.in_memory = True
            self._open(None)
        except LedgerError:
            # Derived: what is damaged, or another version's, is made anew.
            _remove(path)
            self._open(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def select(self, values: Mapping[str, Any]) -> list[tuple[int, int, int]]:
        """Return (index, claims, first index) of each change that matches, in order.

        ``values`` are the parameters of ``select_changes``.
        """
        with converted(self._name):
            return self._connection.execute(_SQL["select_changes"], values).fetchall()

    def claims(self, index: int) -> tuple[int, int]:
        """Return (claims, first index) of the change that an entry claims."""
        with converted(self._name):
            row = self._connection.execute(_SQL["read_claims"], (index,)).fetchone()
        return (1, index) if row is None else (int(row[0]), int(row[1]))

    def stages(self, change: str) -> list[int]:
        """Return the indices of the entries that say what became of a change, in order."""
        with converted(self._name):
            return [int(row[0]) for row in self._connection.execute(_SQL["read_stages"], (change,))]

    def people(self) -> Iterator[tuple[str, str | None]]:
        """Yield (commitment of the id, of the login) of everyone in the ledger."""
        with converted(self._name):
            yield from self._connection.execute(_SQL["read_people"]).fetchall()

    def _open(self, path: Path | None) -> None:
        self._name = path or Path(":memory:")
        with converted(self._name):
            self._connection = sqlite3.connect(path or ":memory:", isolation_level=None)
            try:
                self._prepare()
                self._catch_up()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        # Nothing is lost with it, so nothing is waited for.
        execute("PRAGMA synchronous = OFF")
        execute("PRAGMA cache_size = -65536")
        execute("BEGIN IMMEDIATE")
        found = index_schema(self._connection)
        execute("COMMIT")
        if not found:
            self._connection.executescript(script("index.sql"))
        elif found != expected_schema():
            raise LedgerError(f"{self._name} is not an index of this version")
        self._size = self._indexed()

    def _indexed(self) -> int:
        """How many entries are indexed; ``LedgerError`` if they are not this ledger's."""
        row = self._connection.execute(_SQL["read_progress"]).fetchone()
        if row is None:
            return 0
        origin, size, leaf = row
        if origin != self._reader.log().origin or size > self._reader.count():
            raise LedgerError(f"{self._name} is another ledger's index")
        if size and self._reader.node(0, size - 1) != leaf:
            raise LedgerError(f"{self._name} is of a ledger with another history")
        return int(size)

    def _catch_up(self) -> None:
        total = self._reader.count()
        origin = self._reader.log().origin
        for start in range(self._size, total, _CHUNK):
            stop = min(start + _CHUNK, total)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                # Somebody else may have been faster.
                if self._indexed() == start:
                    self._insert(start, stop)
                    progress = (origin, stop, self._reader.node(0, stop - 1))
                    self._connection.execute(_SQL["set_progress"], progress)
            finally:
                self._connection.execute("COMMIT")

    def _insert(self, start: int, stop: int) -> None:
        made = [
            (index, row_set(record))
            for index, record in enumerate(self._reader.records(start, stop), start)
        ]
        many = self._connection.executemany
        many(_SQL["insert_event"], ((index, *rows.event) for index, rows in made))
        many(
            _SQL["insert_workload"],
            ((*place, index) for index, rows in made for place in rows.workloads),
        )
        many(_SQL["insert_change"], ((rows.event[2], i) for i, rows in made if rows.event[2]))
        many(_SQL["insert_role"], ((*role, index) for index, rows in made for role in rows.roles))
        people = (person for _, rows in made for person in rows.people)
        many(_SQL["insert_person"], logins(people, {}).items())
        many(_SQL["insert_image"], ((one, index) for index, rows in made for one in rows.images))
        many(
            _SQL["insert_revision"],
            ((one, index) for index, rows in made for one in rows.revisions),
        )


def row_set(content: bytes) -> IndexRows:
    """Index what can be understood; the rest is an event of kind ``other``, never dropped."""
    try:
        record = orjson.loads(content)
        return rows_of(record) if record["schema"] == SCHEMA else _OTHER
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, AttributeError):
        return _OTHER


def index_schema(connection: sqlite3.Connection) -> list[Any]:
    """Say which tables an index has."""
    return connection.execute(_SCHEMA).fetchall()


def expected_schema() -> list[Any]:
    """Say which tables an index of this version has."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(script("index.sql"))
        return index_schema(fresh)


def logins(
    people: Iterable[tuple[str, str | None]], known: dict[str, str | None]
) -> dict[str, str | None]:
    """Note people in ``known``, commitment of the id → of the login: the last one that is told."""
    for person, login in people:
        known[person] = known.get(person) if login is None else login
    return known


def _remove(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}-journal")):
        try:
            name.unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(f"can't remove the old index {name}: {error}") from error
