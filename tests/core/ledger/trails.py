"""Ledgers with real records in them, for the tests of whoever reads ledgers."""

from dataclasses import replace
from datetime import timedelta

from tests.core.ledger import example_records as examples
from trailgate.ledger import record as rec
from trailgate.ledger import sqlite
from trailgate.ledger.chain import Last
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.store import Entry
from trailgate.model.digest import Digest

HOUR = timedelta(hours=1)


def claims():
    """Six events, an hour apart, as the gate and the recorder claim them."""
    admissions = [
        examples.audit_mode(),
        examples.release(),
        examples.release(),
        examples.configuration_only(),
        examples.two_repositories(),
    ]
    made = [
        rec.admitted(replace(one, decided_at=examples.NOW + number * HOUR), examples.CONTEXT)
        for number, one in enumerate(admissions)
    ]
    made.append(rec.refused(examples.refused_group(), examples.CONTEXT))
    return made


def entries(vault, some=None, start=0):
    made = []
    for number, claim in enumerate(claims() if some is None else some, start):
        record, rows = rec.commit(
            claim,
            vault,
            recorded_at=examples.NOW,
            position=rec.Position("boot-1", number, 0),
        )
        made.append(Entry(rec.encode(record), f"claim/boot-1/{number}/0", rows))
    return made


def position(number):
    """What the recorder keeps after this batch."""
    return {"spool/boot-1": Last(number, Digest.of(b"a batch")).to_bytes()}


def write(path, key, vault=None, some=None):
    """Make a ledger of these claims."""
    sqlite.create(path, key)
    with SqliteStore(path, key) as store:
        for number, entry in enumerate(entries(vault or rec.Vault(), some)):
            store.append([entry], positions=position(number))
    return path
