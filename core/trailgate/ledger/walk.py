"""Recomputes a ledger's tree from its records, and compares every node that is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from trailgate.tlog.merkle import EMPTY_ROOT, Frontier, tree_root

# Leaves are hashed in aligned chunks of 2**10: within one, level by level in lists.
_LEVEL: Final = 10
CHUNK: Final = 1 << _LEVEL


class Difference(NamedTuple):
    """A stored node that isn't what the records hash to; None is a missing one."""

    level: int
    position: int
    stored: bytes | None
    computed: bytes


class NodeStore(Protocol):
    """The part of a ledger that holds the stored tree."""

    def nodes(self, level: int, start: int, stop: int) -> dict[int, bytes]:
        """Return the hashes of a range of one level, by position."""
        ...


@dataclass(slots=True)
class Walk:
    """One pass over all records, in order: feed ``add`` with chunks, then ask."""

    stored: NodeStore
    wanted: Collection[int] = ()
    """Sizes whose roots are asked for."""
    size: int = 0
    roots: dict[int, bytes] = field(default_factory=lambda: {0: EMPTY_ROOT})
    """The computed roots of the wanted sizes, as far as the records go."""
    differences: list[Difference] = field(default_factory=list)
    count: int = 0
    """How many nodes the tree has."""
    _upper: Frontier = field(default_factory=Frontier)
    _nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _levels: list[list[bytes]] = field(default_factory=list)

    def add(self, records: list[bytes]) -> None:
        """Add the next chunk: ``CHUNK`` records, fewer only at the very end."""
        sha256 = hashlib.sha256
        start, levels = self.size, [[sha256(b"\x00" + record).digest() for record in records]]
        while len(levels[-1]) > 1:
            last = levels[-1]
            pairs = zip(last[::2], last[1::2], strict=False)
            levels.append([sha256(b"\x01" + left + right).digest() for left, right in pairs])
        self.size += len(records)
        self._levels = levels
        for level, hashes in enumerate(levels):
            self._compare(level, start >> level, hashes)
        if len(records) == CHUNK:
            # The chunk's root is a leaf of the tree above; it has been compared already.
            for node in self._upper.append(levels[_LEVEL][0]):
                level = node.level + _LEVEL
                self._nodes[level, node.position] = node.hash
                if node.level:
                    self._compare(level, node.position, [node.hash])
        self.roots.update(self._roots(start))

    def root(self) -> bytes:
        """Return the root over all records."""
        return tree_root(self.size, self._read)

    def _roots(self, start: int) -> Iterator[tuple[int, bytes]]:
        for size in self.wanted:
            if start < size <= self.size:
                yield size, tree_root(size, self._read)

    def _compare(self, level: int, position: int, computed: list[bytes]) -> None:
        self.count += len(computed)
        stored = self.stored.nodes(level, position, position + len(computed))
        if list(stored.values()) == computed:
            return
        for offset, value in enumerate(computed):
            found = stored.get(position + offset)
            if found != value:
                self.differences.append(Difference(level, position + offset, found, value))

    def _read(self, level: int, position: int) -> bytes:
        if level >= _LEVEL:
            return self._nodes[level, position]
        return self._levels[level][position & (CHUNK - 1 >> level)]


def chunks(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Cut a stream of records, from the first one, into what ``Walk.add`` takes."""
    chunk: list[bytes] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
