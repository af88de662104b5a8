"""The ledger in memory: the SQLite store's twin, for tests and dry runs."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future

from trailgate.ledger.batch import Batch, require_named
from trailgate.ledger.errors import (
    EntryMisplacedError,
    EntryNotFoundError,
    LedgerCorruptError,
    LedgerUnavailableError,
)
from trailgate.ledger.known import check_known
from trailgate.ledger.store import NOTHING, Entry
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.merkle import Frontier
from trailgate.tlog.note import SigningKey


class MemoryStore:
    """A ``LedgerStore`` that forgets everything when it goes."""

    def __init__(self, key: SigningKey, *, known: str | None = None) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._frontier = Frontier()
        self._records: list[bytes] = []
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._keys: dict[str, int] = {}
        self._shared: dict[str, bytes] = {}
        self._alone: dict[tuple[int, str], bytes] = {}
        self._positions: dict[str, bytes] = {}
        self._checkpoint = Checkpoint(key.name, 0, self._frontier.root()).sign(key)
        self._open = True
        if known is not None:
            check_known(self, known, key.verifier)

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint."""
        with self._lock:
            return self._checkpoint

    def records(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the records of a range (``EntryNotFoundError``)."""
        size = len(self._records)
        end = size if stop is None else stop
        if not 0 <= start <= end <= size:
            raise EntryNotFoundError(f"got entries {start} to {end}, the ledger has {size}")
        return iter(self._records[start:end])

    def node(self, level: int, position: int) -> bytes:
        """Return one tree node's hash (``EntryNotFoundError``)."""
        try:
            return self._nodes[level, position]
        except KeyError as error:
            raise EntryNotFoundError(f"the tree has no node {level}/{position}") from error

    def disclosures(self, prefix: str = "") -> Mapping[str, bytes]:
        """Return the shared rows whose keys begin with ``prefix``."""
        with self._lock:
            rows = self._shared.items()
            return {key: row for key, row in rows if key.startswith(prefix)}

    def disclosure(self, key: str) -> bytes | None:
        """Return one shared row."""
        return self._shared.get(key)

    def disclosures_of(self, index: int) -> Mapping[str, bytes]:
        """Return the rows of one entry alone."""
        with self._lock:
            return {key: row for (owner, key), row in self._alone.items() if owner == index}

    def positions(self) -> Mapping[str, bytes]:
        """Return the recorder's own small values."""
        with self._lock:
            return dict(self._positions)

    def submit(
        self,
        entries: Sequence[Entry],
        *,
        positions: Mapping[str, bytes] = NOTHING,
        forget: Collection[str] = (),
    ) -> Future[tuple[int, ...]]:
        """Append at once; the future is done when this returns."""
        future: Future[tuple[int, ...]] = Future()
        with self._lock:
            if not self._open:
                future.set_exception(LedgerUnavailableError("the ledger is closed"))
                return future
            batch = Batch(self._frontier, self._lookup)
            try:
                indices = batch.add(entries, positions, forget)
            except (EntryMisplacedError, LedgerCorruptError) as error:
                future.set_exception(error)
                return future
            self._commit(batch)
        future.set_result(indices)
        return future

    def append(
        self,
        entries: Sequence[Entry],
        *,
        positions: Mapping[str, bytes] = NOTHING,
        forget: Collection[str] = (),
    ) -> tuple[int, ...]:
        """Append and return the indices."""
        return self.submit(entries, positions=positions, forget=forget).result()

    def find(self, key: str) -> int | None:
        """Return the index of the entry that a dedupe key names (``LedgerCorruptError``)."""
        with self._lock:
            return self._lookup(key)

    def close(self) -> None:
        """Refuse appends from now on."""
        with self._lock:
            self._open = False

    def _lookup(self, key: str) -> int | None:
        index = self._keys.get(key)
        if index is None:
            return None
        record = self._records[index] if index < len(self._records) else None
        return require_named(key, index, record, self._frontier, self.node)

    def _commit(self, batch: Batch) -> None:
        self._checkpoint = batch.checkpoint(self._key) or self._checkpoint
        self._frontier = batch.frontier
        self._records.extend(record for _, record in batch.entries)
        self._nodes.update({(node.level, node.position): node.hash for node in batch.nodes})
        self._keys.update(batch.keys)
        self._shared = {**batch.shared, **self._shared}
        self._alone.update(batch.alone)
        for key in batch.forgotten:
            self._shared.pop(key, None)
            self._alone = {place: row for place, row in self._alone.items() if place[1] != key}
        self._positions.update(batch.positions)
