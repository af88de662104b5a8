"""Reads a ledger's SQLite file: for the auditor's commands, and for the writer itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from trailgate.ledger.connection import converted, open_reader, require_ledger
from trailgate.ledger.errors import EntryNotFoundError, LedgerCorruptError, LedgerError
from trailgate.ledger.sql import statements

_SQL = statements("statements.sql")
_CHUNK: Final = 1024
_LAST_CHARACTER: Final = chr(0x10FFFF)


@dataclass(frozen=True, slots=True)
class LogName:
    """What the file says of itself: proves nothing."""

    origin: str
    vkey: str


class SqliteReader:
    """A ``LedgerReader`` over a file; safe to share between threads.

    Sees what other processes have committed. Everything raises ``LedgerCorruptError``
    where the file is damaged and ``LedgerUnavailableError`` where it can't be read now.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise LedgerError(f"there is no ledger {path}")
        self._lock = threading.RLock()
        with converted(path):
            self._connection = open_reader(path)
            try:
                require_ledger(path, self._connection)
            except BaseException:
                self._connection.close()
                raise

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
        with self._lock:
            self._connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[Self]:
        """See one state of the ledger throughout, whatever is appended meanwhile."""
        with self._lock, converted(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self
            finally:
                self._connection.execute("ROLLBACK")

    def log(self) -> LogName:
        """Return the log's own name and vkey."""
        row = self._one("read_log")
        if row is None:
            raise LedgerCorruptError(f"{self.path} does not say which log it is")
        return LogName(_text(row[0]), _text(row[1]))

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint."""
        row = self._one("read_newest_checkpoint")
        if row is None:
            raise LedgerCorruptError(f"{self.path} has no checkpoint")
        return _text(row[1])

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return all stored checkpoints with the size they are filed under, oldest first."""
        return [(_number(size), _text(note)) for size, note in self._all("read_checkpoints")]

    def count(self) -> int:
        """Return one more than the largest index."""
        (last,) = self._one("last_entry") or (None,)
        return 0 if last is None else _number(last) + 1

    def records(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the records of a range (``EntryNotFoundError``)."""
        end = self.count() if stop is None else stop
        if not 0 <= start <= end:
            raise EntryNotFoundError(f"got entries {start} to {end}, expected a range")
        expected = start
        for index, record in self.entries(start, end):
            if index != expected:
                break
            expected += 1
            yield record
        if expected < end:
            raise EntryNotFoundError(f"{self.path} has no entry {expected}")

    def entries(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield (index, record) of what is there of a range, in order."""
        while start < stop:
            rows = self._all("read_entries", start, min(_CHUNK, stop - start))
            for index, record in rows:
                if _number(index) < start:
                    raise _disordered("entry", index)
                if index >= stop:
                    return
                yield index, _blob(record)
                start = index + 1
            if not rows:
                return

    def node(self, level: int, position: int) -> bytes:
        """Return one tree node's hash (``EntryNotFoundError``)."""
        row = self._one("read_node", level, position)
        if row is None:
            raise EntryNotFoundError(f"the tree of {self.path} has no node {level}/{position}")
        return _blob(row[0])

    def nodes(self, level: int, start: int, stop: int) -> dict[int, bytes]:
        """Return the hashes of a range of one level, by position."""
        rows = self._all("read_nodes", level, start, stop)
        return {_number(position): _blob(value) for position, value in rows}

    def count_nodes(self) -> int:
        """Return how many nodes are stored."""
        (count,) = self._one("count_nodes") or (0,)
        return _number(count)

    def dedupe(self) -> Iterator[tuple[str, int, bytes | None]]:
        """Yield each dedupe key, the index it names, and that entry's record, if it is there."""
        for key, index, record in self._by_key("read_dedupe_after"):
            yield key, _number(index), None if record is None else _blob(record)

    def positions(self) -> dict[str, bytes]:
        """Return the recorder's own small values."""
        return {_text(name): _blob(value) for name, value in self._all("read_positions")}

    def disclosures(self, prefix: str = "") -> dict[str, bytes]:
        """Return the shared disclosure rows whose keys begin with ``prefix``."""
        end = f"{prefix}{_LAST_CHARACTER}"
        rows = self._all("read_disclosures", prefix, end)
        return {_text(key): _blob(content) for key, content in rows}

    def every_disclosure(self) -> Iterator[tuple[str, bytes]]:
        """Yield all shared disclosure rows in the order of their keys, few at a time."""
        for key, content in self._by_key("read_disclosures_after"):
            yield key, _blob(content)

    def disclosures_outside(self, stop: int) -> list[tuple[int, str]]:
        """Return (index, key) of rows that stand beside no entry from 0 to ``stop``."""
        rows = self._all("read_strays", stop)
        return [(_number(index), _text(key)) for index, key in rows]

    def disclosure(self, key: str) -> bytes | None:
        """Return one shared disclosure row; None where there is none."""
        row = self._one("read_disclosure", key)
        return None if row is None else _blob(row[0])

    def disclosures_of(self, index: int) -> dict[str, bytes]:
        """Return the disclosure rows of one entry alone."""
        return self.disclosures_between(index, index + 1).get(index, {})

    def disclosures_between(self, start: int, stop: int) -> dict[int, dict[str, bytes]]:
        """Return what ``disclosures_of`` gives for a range of entries, by index."""
        found: dict[int, dict[str, bytes]] = {}
        for index, key, content in self._all("read_entry_disclosures", start, stop):
            found.setdefault(_number(index), {})[_text(key)] = _blob(content)
        return found

    def is_disclosed(self, key: str) -> bool:
        """Whether a row of this key is there, shared or of any one entry."""
        return self._one("find_disclosure", key, key) is not None

    def integrity_check(self) -> str:
        """Ask SQLite whether the file's own structure is sound: ``ok``, or what is not."""
        (answer,) = self._one("integrity_check") or ("no answer",)
        return _text(answer)

    def _by_key(self, statement: str) -> Iterator[Any]:
        """Yield all rows of a table in the order of their keys, a few read at a time.

        A damaged index gives rows out of order, and asking for those after the last one
        would then begin again and never end.
        """
        after = ""
        while rows := self._all(statement, after, _CHUNK):
            for row in rows:
                if _text(row[0]) <= after:
                    raise _disordered("key", row[0])
                after = row[0]
                yield row

    def _one(self, statement: str, *values: Any) -> Any:
        with self._lock, converted(self.path):
            return self._connection.execute(_SQL[statement], values).fetchone()

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self._lock, converted(self.path):
            return self._connection.execute(_SQL[statement], values).fetchall()


def _disordered(what: str, value: object) -> LedgerCorruptError:
    return LedgerCorruptError(f"got the {what} {value!s:.80} out of order in the ledger's file")


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise LedgerCorruptError(f"got a {type(value).__name__} for a number in the ledger's file")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise LedgerCorruptError(f"got a {type(value).__name__} for a text in the ledger's file")
    return value


def _blob(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise LedgerCorruptError(f"got a {type(value).__name__} for bytes in the ledger's file")
    return value
