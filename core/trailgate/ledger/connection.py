"""Opens a ledger's SQLite file, and turns SQLite's errors into the ledger's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from trailgate.ledger.errors import LedgerCorruptError, LedgerError, LedgerUnavailableError
from trailgate.ledger.sql import script

APPLICATION_ID: Final = 0x5452474C
SCHEMA_VERSION: Final = 1

_BUSY_SECONDS: Final = 5.0
_CACHE_KIB: Final = 32_768
_PRIMARY: Final = 0xFF
# Primary result codes that say nothing about the file's content: a retry may succeed.
_RETRYABLE: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_NOT_OPENED: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_SCHEMA: Final = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
_PROBE: Final = "SELECT count(*) FROM sqlite_schema"


@contextmanager
def converted(path: Path) -> Iterator[None]:
    """Raise ``LedgerUnavailableError`` or ``LedgerCorruptError`` for SQLite's own errors."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # ours, not the file's
    except UnicodeDecodeError as error:
        # Of a text in the file, or of SQLite's own message about one.
        raise LedgerCorruptError(f"{path} can't be read as a ledger: {error}") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if code is not None and code & _PRIMARY in _RETRYABLE:
            raise LedgerUnavailableError(
                f"{path}: {error} ({name}); nothing was stored, try again"
            ) from error
        raise LedgerCorruptError(f"{path} can't be read as a ledger: {error} ({name})") from error


def open_writer(path: Path) -> sqlite3.Connection:
    """Open for writing: WAL, and every commit on the disk before it is acknowledged."""
    connection = _connect(path, "rw")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # What is erased is overwritten, not just unlinked.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open for reading only, also where the directory is read-only (a copy kept as evidence)."""
    connection = _try(path, "ro")
    # A ledger that nobody has open lacks the files that readers and writer agree
    # through; whoever may write there makes them anew.
    connection = connection or _try(path, "rw")
    wal = path.with_name(f"{path.name}-wal")
    if connection is None and not (wal.exists() and wal.stat().st_size > 0):
        # Nobody can write and nothing is left to replay: the file is all there is.
        connection = _try(path, "ro", "&immutable=1")
    if connection is None:
        connection = _connect(path, "ro")
        connection.execute(_PROBE).fetchone()
    connection.execute("PRAGMA query_only = ON")
    return connection


def _try(path: Path, mode: str, extra: str = "") -> sqlite3.Connection | None:
    try:
        connection = _connect(path, mode, extra)
    except sqlite3.OperationalError:
        return None
    try:
        connection.execute(_PROBE).fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & _PRIMARY not in _NOT_OPENED:
            raise
        return None
    return connection


def create(path: Path, schema: str) -> sqlite3.Connection:
    """Make a new ledger file with this schema."""
    connection = _connect(path, "rwc")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(schema)
    return connection


def require_ledger(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse another program's database, a later version's, or other tables (``LedgerError``)."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise LedgerCorruptError(f"{path} is not a ledger (application id {application:#x})")
    if version != SCHEMA_VERSION:
        raise LedgerError(f"{path} has schema version {version}, expected {SCHEMA_VERSION}")
    found, expected = connection.execute(_SCHEMA).fetchall(), _expected()
    if found != expected:
        names = ", ".join(sorted({str(row[1])[:80] for row in {*found} ^ {*expected}}))
        raise LedgerCorruptError(
            f"{path} has not the tables of a ledger, or others beside them: {names}. "
            "A view or trigger can show each reader something else, so nothing is read"
        )


@cache
def _expected() -> list[tuple[Any, ...]]:
    """Say what a new ledger's schema is; every byte of it counts."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(script("schema.sql"))
        return fresh.execute(_SCHEMA).fetchall()


def _connect(path: Path, mode: str, extra: str = "") -> sqlite3.Connection:
    # Shared between threads, each use under the owner's lock.
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={mode}{extra}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    # A schema is data too: let no view or trigger in it do more than return rows.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection
