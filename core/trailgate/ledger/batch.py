"""What one commit adds to a ledger: worked out in memory, stored by the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from trailgate.ledger.errors import EntryMisplacedError
from trailgate.ledger.store import Entry
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.merkle import Frontier, Node, leaf_hash
from trailgate.tlog.note import SigningKey


class Batch:
    """Entries of one or more calls on their way into one commit.

    The store's own frontier stays as it is until the commit has succeeded; then
    ``frontier`` replaces it.
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
