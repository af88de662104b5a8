"""Copies of the demo's ledger, each tampered with in one way that an insider could."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from trailgate.ledger.keys import read_signing_key
from trailgate.ledger.sqlite import SqliteStore, create
from trailgate.ledger.store import Entry

_QUIET = 30.0


def copy(ledger: Path, target: Path) -> Path:
    """Take a consistent copy, as a backup does, while the recorder goes on."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(target)) as other:
        source.backup(other)
    return target


def snapshot(ledger: Path, checkpoint: Path, directory: Path) -> tuple[Path, Path]:
    """Copy ledger and kept checkpoint of the same size, while entries come in."""
    directory.mkdir()
    kept = directory / "checkpoint"
    deadline = time.monotonic() + _QUIET
    while time.monotonic() < deadline:
        copied = copy(ledger, directory / "ledger.db")
        shutil.copy(checkpoint, kept)
        with closing(sqlite3.connect(copied)) as connection:
            (entries,) = connection.execute("SELECT count(*) FROM entry").fetchone()
        if int(kept.read_text().split("\n")[1]) == entries:
            return copied, kept
    raise TimeoutError(f"the ledger was not at rest within {_QUIET:.0f} s")


@contextmanager
def _changing(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def flip_byte(path: Path, index: int) -> None:
    """Flip one bit of one record, in place."""
    with _changing(path) as connection:
        (record,) = connection.execute(
            "SELECT record FROM entry WHERE idx = ?", (index,)
        ).fetchone()
        changed = bytearray(record)
        changed[len(changed) // 2] ^= 1
        connection.execute("UPDATE entry SET record = ? WHERE idx = ?", (bytes(changed), index))


def drop_last(path: Path) -> int:
    """Delete the newest entry and its leaf; returns its index."""
    with _changing(path) as connection:
        (last,) = connection.execute("SELECT max(idx) FROM entry").fetchone()
        connection.execute("DELETE FROM entry WHERE idx = ?", (last,))
        connection.execute("DELETE FROM node WHERE level = 0 AND position = ?", (last,))
    return int(last)


def sign_again(ledger: Path, target: Path, log_key: Path, index: int) -> None:
    """Write the whole history anew with the log's own stolen key, one record changed."""
    key = read_signing_key(log_key)
    target.unlink(missing_ok=True)
    for left in target.parent.glob(f"{target.name}*"):
        left.unlink()
    with closing(sqlite3.connect(ledger)) as source:
        rows = source.execute("SELECT record FROM entry ORDER BY idx").fetchall()
        shared = dict(source.execute("SELECT key, content FROM disclosure").fetchall())
        alone = source.execute("SELECT idx, key, content FROM entry_disclosure").fetchall()
        keys = dict(source.execute("SELECT idx, key FROM dedupe").fetchall())
        positions = dict(source.execute("SELECT name, value FROM position").fetchall())
    create(target, key)
    with SqliteStore(target, key) as store:
        for at, (record,) in enumerate(rows):
            forged = json.loads(record)
            if at == index:
                forged["decidedAt"] = "2026-01-01T00:00:00.000000Z"
            content = json.dumps(forged, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            own = {key: row for number, key, row in alone if number == at}
            store.append(
                [Entry(content.encode(), keys[at], {**shared, **own})], positions=positions
            )


def put_back(old: Path, target: Path) -> Path:
    """Put an older copy in the ledger's place."""
    shutil.copy(old, target)
    return target
