"""What a ledger store does: append durably, and give back what a proof or a query needs.

Records are opaque bytes here; their shape is the record's business. Indices count
from 0 without gaps. The tree over the records is RFC 6962's, and every append ends
in a checkpoint that the log's key has signed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Protocol

from trailgate.ledger.errors import EntryRefusedError

#: A record is shorter than this: tlog-tiles gives an entry's length 16 bits.
MAX_RECORD_BYTES: Final = 65_536
MAX_KEY_LENGTH: Final = 512

# Canonical JSON that begins so carries its own salt: a text that is nobody's in
# particular (trailgate.ledger.people). No other entry can have the same commitment, so
# it is kept by entry: a tree of millions of random keys would slow every append.
_ALONE: Final = b'{"field":'

#: No positions: the default, shared because it is empty.
NOTHING: Final[Mapping[str, bytes]] = {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One record to append."""

    record: bytes
    """Canonical JSON, 1 to 65,535 bytes: what the leaf hashes."""
    key: str
    """Names this entry for ever: a second append under the same key stores nothing and
    returns the first one's index, whatever its bytes. That entry must be in the tree, and
    one that the key may name (``trailgate.ledger.taken.fits``)."""
    disclosures: Mapping[str, bytes] = field(default_factory=dict)
    """Rows that open the record's commitments, kept beside the log and erasable
    (``trailgate.ledger.people``). A row that is there already stays as it is."""
    index: int | None = None
    """The index that a record of this call counts on, because it, or one after it, names
    it. Where the entry would get, or has, another one the whole call stores nothing."""

    def __post_init__(self) -> None:
        """Refuse what no ledger takes (``EntryRefusedError``)."""
        if not 0 < len(self.record) < MAX_RECORD_BYTES:
            raise EntryRefusedError(
                f"got a record of {len(self.record)} bytes, expected 1 to {MAX_RECORD_BYTES - 1}"
            )
        if not 0 < len(self.key) <= MAX_KEY_LENGTH:
            raise EntryRefusedError(
                f"got a dedupe key of {len(self.key)} characters, expected 1 to {MAX_KEY_LENGTH}"
            )

    def shared(self) -> Iterator[tuple[str, bytes]]:
        """Yield the rows that other entries may rest on too: persons and what is theirs."""
        return ((key, row) for key, row in self.disclosures.items() if not row.startswith(_ALONE))

    def alone(self) -> Iterator[tuple[str, bytes]]:
        """Yield the rows of this entry alone: texts under a salt of their own."""
        return ((key, row) for key, row in self.disclosures.items() if row.startswith(_ALONE))


class LedgerReader(Protocol):
    """A ledger, read-only. Everything raises ``LedgerError`` where it can't be read."""

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint, a signed note."""
        ...

    def records(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the records ``start`` to ``stop`` (exclusive; None is the end), in order.

        ``EntryNotFoundError`` where the range isn't all there.
        """
        ...

    def node(self, level: int, position: int) -> bytes:
        """Return the hash of one stored tree node (``trailgate.tlog.merkle``)."""
        ...

    def disclosures(self, prefix: str = "") -> Mapping[str, bytes]:
        """Return the shared disclosure rows whose keys begin with ``prefix``, by key."""
        ...

    def disclosure(self, key: str) -> bytes | None:
        """Return one shared disclosure row; None where it isn't, or was erased."""
        ...

    def disclosures_of(self, index: int) -> Mapping[str, bytes]:
        """Return the disclosure rows of one entry alone, by key."""
        ...


class LedgerStore(LedgerReader, Protocol):
    """The ledger's one writer."""

    def submit(
        self,
        entries: Sequence[Entry],
        *,
        positions: Mapping[str, bytes] = NOTHING,
        forget: Collection[str] = (),
    ) -> Future[tuple[int, ...]]:
        """Append entries and set positions in one transaction.

        The future gives one index per entry, in order, once they are durable:
        new ones, or the old ones of keys that are already there. It raises
        ``LedgerUnavailableError`` (nothing stored, retry), ``LedgerCorruptError``,
        ``LedgerRolledBackError`` or ``EntryMisplacedError``. ``forget`` are keys of
        disclosure rows to delete: the ``erasure`` entries that say so belong into the same call.
        """
        ...

    def append(
        self,
        entries: Sequence[Entry],
        *,
        positions: Mapping[str, bytes] = NOTHING,
        forget: Collection[str] = (),
    ) -> tuple[int, ...]:
        """Do ``submit`` and wait for it."""
        ...

    def find(self, key: str) -> int | None:
        """Return the index of the entry that a dedupe key names; None where there is none.

        ``LedgerCorruptError`` where the entry does not bear it out.
        """
        ...

    def positions(self) -> Mapping[str, bytes]:
        """Return the recorder's own small values, as the last appends set them."""
        ...

    def close(self) -> None:
        """Finish what was submitted, and let the next writer in."""
        ...
