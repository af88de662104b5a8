"""Receipts of single entries: https://c2sp.org/tlog-proof, made from a ledger."""

from __future__ import annotations

from trailgate.ledger.errors import EntryNotFoundError
from trailgate.ledger.store import LedgerReader
from trailgate.tlog import checkpoint
from trailgate.tlog.merkle import inclusion_proof
from trailgate.tlog.proof import Receipt


def receipt(ledger: LedgerReader, index: int) -> Receipt:
    """Prove that the ledger's newest checkpoint covers an entry.

    ``EntryNotFoundError`` where it doesn't. The receipt is as good as the ledger:
    ``Receipt.verify`` checks it with the log's key, offline.
    """
    signed = ledger.checkpoint()
    size = checkpoint.read(signed).size
    if not 0 <= index < size:
        raise EntryNotFoundError(f"the ledger has no entry {index}; it has {size}")
    return Receipt(index, tuple(inclusion_proof(index, size, ledger.node)), signed)
