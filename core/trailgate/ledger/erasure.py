"""Forgetting a person: what is erased beside the log, and said so in it, in one transaction."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from trailgate import __version__
from trailgate.ledger.claim import Cluster, Context, Gate
from trailgate.ledger.errors import LedgerCorruptError, LedgerError
from trailgate.ledger.events import erasures
from trailgate.ledger.form import SCHEMA, encode
from trailgate.ledger.known import size_of
from trailgate.ledger.people import Vault, erase
from trailgate.ledger.people_rows import check_rows
from trailgate.ledger.record import commit
from trailgate.ledger.store import Entry, LedgerReader, LedgerStore
from trailgate.model.canonical import fingerprint

_COMPONENT = "cli"
_SUBJECTS = "subject:"


@dataclass(frozen=True, slots=True)
class Erasure:
    """What forgetting one person takes."""

    person: str
    rows: frozenset[str]
    """Keys of the rows to delete; empty where nobody here has that id."""
    commitments: tuple[str, ...]
    """What opens to nothing afterwards: ids, logins, names, and texts of that person."""


def plan(ledger: LedgerReader, person: str) -> Erasure:
    """Find all that opens to a person, by the exact id: ``github:1001``.

    Raises ``LedgerError``; ``LedgerCorruptError``, which names the row, where one is not
    what it was recorded as. Such a row may be this person's: what was taken for an erasure
    would leave it behind, or say of a person who is here that nobody is.
    """
    rows = ledger.disclosures()
    subjects = {key: content for key, content in rows.items() if key.startswith(_SUBJECTS)}
    wrong = next(check_rows(subjects, rows.items()), None)
    if wrong is not None:
        raise LedgerCorruptError(
            f"{wrong}: somebody changed what stands beside the records, so who is to be erased "
            "can't be told; nothing was erased. trailgate ledger verify lists all such rows: put "
            "them back from a copy of the ledger first"
        )
    keys, commitments = erase(rows, person)
    return Erasure(person, keys, commitments)


def carry_out(
    store: LedgerStore, erasure: Erasure, at: datetime, *, reason: str | None = None
) -> tuple[int, ...]:
    """Delete the rows and append the entries that say so; returns the entries' indices.

    A vault that is in use beside this store keeps the person until ``Vault.forget``.
    Raises ``LedgerError``: then nothing was deleted.
    """
    context = _context(store)
    entries = []
    for number, claim in enumerate(erasures(context, at, erasure.commitments, reason=reason)):
        record, rows = commit(claim, Vault(), recorded_at=at, position=None)
        key = f"erasure/{at.isoformat()}/{os.getpid()}/{number}"
        entries.append(Entry(encode(record), key, rows))
    return store.append(entries, forget=erasure.rows)


def _context(ledger: LedgerReader) -> Context:
    """Name the cluster as the newest record does: whoever erases may be far from it."""
    for index in reversed(range(size_of(ledger))):
        (content,) = ledger.records(index, index + 1)
        record = _record(content)
        if record is not None:
            cluster = Cluster(record["cluster"]["uid"], record["cluster"]["name"])
            gate = Gate(__version__, fingerprint({"command": "ledger erase"}), None, _COMPONENT)
            return Context(cluster, gate, record["environment"])
    raise LedgerError("the ledger has no record that names its cluster")


def _record(content: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    known = isinstance(record, dict) and record.get("schema") == SCHEMA
    return record if known else None
