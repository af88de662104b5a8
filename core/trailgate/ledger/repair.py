"""Makes what the writer goes by anew from the entries: dedupe keys and positions.

Both are derived and nothing signs them, so whoever can write the file can change them;
the recorder then refuses to go on. The entries are the truth, and they are verified
first: nothing is derived from a ledger that doesn't hold.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from trailgate.ledger import connection as files
from trailgate.ledger.errors import LedgerCorruptError
from trailgate.ledger.sql import statements
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.taken import Taken, fits, mended, own_key
from trailgate.ledger.verify import Part, Progress, Verification, verify
from trailgate.tlog.note import SigningKey

_SQL = statements("statements.sql")


@dataclass(frozen=True, slots=True)
class Repair:
    """What was found, and what was changed."""

    before: Verification
    changes: tuple[str, ...]
    """One line each: what it was, what it is now."""


def repair(
    path: Path, key: SigningKey, *, known: str | None = None, progress: Progress | None = None
) -> Repair:
    """Verify the ledger, then make its dedupe keys and positions anew, in one transaction.

    Keys that no record bears out by itself stay where the entry may be theirs: of a batch
    that could not be read, and of what is not of the spool. Raises ``LedgerCorruptError``
    where the entries, their tree or the file do not hold: then nothing was changed. And
    whatever opening a ``SqliteStore`` raises: it is the ledger's one writer meanwhile.
    """
    with SqliteStore(path, key, known=known) as store:
        found = verify(store, [key.verifier], progress=progress)
        wrong = [problem.what for problem in found.problems if problem.part is Part.LOG]
        if Part.LOG in found.parts:
            raise LedgerCorruptError(
                f"{path} does not hold, so nothing can be derived from it, and nothing was "
                f"changed: {'; '.join(wrong[:3]) or 'see trailgate ledger verify'}"
            )
        with files.converted(path), closing(files.open_writer(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            files.require_ledger(path, connection)
            changes = tuple(_mend(store, connection))
            connection.execute("COMMIT")
    return Repair(found, changes)


def _mend(ledger: SqliteReader, connection: sqlite3.Connection) -> Iterator[str]:
    """Change what has to be, in the open transaction; say what."""
    for key, index, record in ledger.dedupe():
        if record is None or not fits(key, record):
            connection.execute(_SQL["forget_dedupe"], (key,))
            yield f"dedupe key {key}: it named entry {index}, which is not its own: removed"
    taken = Taken()
    for index, record in enumerate(taken.noting(ledger.records())):
        own = own_key(record)
        if own is not None and connection.execute(_SQL["mend_dedupe"], (own, index)).rowcount:
            yield f"dedupe key {own}: set to entry {index}, which says that it is its own"
    for name, content, why in mended(ledger.positions(), taken):
        if content is None:
            connection.execute(_SQL["forget_position"], (name,))
        else:
            connection.execute(_SQL["set_position"], (name, content))
        yield f"position {name}: {why}"
