"""What one commit adds to a ledger: worked out in memory, stored by the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from trailgate.ledger.errors import EntryMisplacedError, LedgerCorruptError
from trailgate.ledger.store import Entry
from trailgate.ledger.taken import fits
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.errors import TlogError
from trailgate.tlog.merkle import (
    Frontier,
    Node,
    NodeReader,
    inclusion_proof,
    leaf_hash,
    verify_inclusion,
)
from trailgate.tlog.note import SigningKey


class Batch:
    """Entries of one or more calls on their way into one commit.

    The store's own frontier stays as it is until the commit has succeeded; then
    ``frontier`` replaces it. ``lookup`` gives the index of a key that is there already,
    once ``require_named`` has borne it out.
    """

    def __init__(self, frontier: Frontier, lookup: Callable[[str], int | None]) -> None:
        self.frontier = frontier.copy()
        self.entries: list[tuple[int, bytes]] = []
        self.keys: dict[str, int] = {}
        self.nodes: list[Node] = []
        self.shared: dict[str, bytes] = {}
        self.alone: dict[tuple[int, str], bytes] = {}
        self.forgotten: set[str] = set()
        self.positions: dict[str, bytes] = {}
        self._lookup = lookup

    def add(
        self, entries: Sequence[Entry], positions: Mapping[str, bytes], forget: Collection[str]
    ) -> tuple[int, ...]:
        """Place one call's entries; return their indices.

        After an ``EntryMisplacedError`` the whole batch must be thrown away.
        """
        self.positions.update(positions)
        indices = tuple(self._place(entry) for entry in entries)
        for entry, index in zip(entries, indices, strict=True):
            if entry.index not in (None, index):
                raise EntryMisplacedError(
                    f"the entry {entry.key} would be number {index} and counts on being "
                    f"number {entry.index}; nothing was stored"
                )
        for key in forget:
            for place in [place for place in self.alone if place[1] == key]:
                del self.alone[place]
            self.shared.pop(key, None)
            self.forgotten.add(key)
        return indices

    def checkpoint(self, key: SigningKey) -> str | None:
        """Sign the tree as it will be; None where nothing is new."""
        if not self.entries:
            return None
        return Checkpoint(key.name, self.frontier.size, self.frontier.root()).sign(key)

    def _place(self, entry: Entry) -> int:
        index = self.keys.get(entry.key)
        if index is None:
            index = self._lookup(entry.key)
        if index is not None:
            return index
        index = self.frontier.size
        self.nodes += self.frontier.append(leaf_hash(entry.record))
        self.entries.append((index, entry.record))
        self.keys[entry.key] = index
        for key, row in entry.shared():
            self.shared.setdefault(key, row)
        self.alone.update({(index, key): row for key, row in entry.alone()})
        return index


def require_named(
    key: str, index: int, record: bytes | None, tree: Frontier, read: NodeReader
) -> int:
    """Bear a dedupe key out: the entry is in the signed tree, and is what the key names.

    Else whoever can write the key's row could have a change that was never recorded
    taken for one that was. Returns ``index``; raises ``LedgerCorruptError``.
    """
    try:
        if record is None:
            raise LedgerCorruptError(
                f"the dedupe key {key} names entry {index}, which is not there"
            )
        proof = inclusion_proof(index, tree.size, read)
        verify_inclusion(index, tree.size, leaf_hash(record), proof, tree.root())
    except TlogError as error:
        raise LedgerCorruptError(
            f"the dedupe key {key} names entry {index}, which is not in the tree: {error}"
        ) from error
    if not fits(key, record):
        raise LedgerCorruptError(
            f"the dedupe key {key} names entry {index}, which is another one: nothing was "
            "stored; run: trailgate ledger verify, and where the entries hold: "
            "trailgate ledger repair"
        )
    return index
