"""What the records themselves say of the spool: which claims were taken, under which key. Pure.

Dedupe keys and positions only serve the writer, and nothing signs them. Where one of
them leads to dropping a batch, a record has to bear it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from trailgate.ledger.chain import Last
from trailgate.ledger.errors import LedgerCorruptError
from trailgate.ledger.form import SCHEMA
from trailgate.model.errors import MalformedError

#: The names of positions: this, and the process whose batches they count.
POSITION: Final = "spool/"
_CLAIM: Final = "claim/"
_MISSING: Final = "missing/"
#: Other keys that records bear out: by the gap's cause.
_TOLD: Final = {"batch-unreadable": "unreadable/", "chain-forked": "forked/"}
_BATCHES_MISSING: Final = "batches-missing"
#: (subject, state) of the record by which a process of the gate says that it ends.
_END: Final = ("gate", "ended")
_RESERVED: Final = (_CLAIM, _MISSING, *_TOLD.values())


class _Spool(msgspec.Struct):
    boot: str
    seq: int
    index: int


class _Record(msgspec.Struct, rename="camel"):
    schema: str
    spool: _Spool | None = None
    cause: str | None = None
    boot: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    subject: Any = None
    state: Any = None


_DECODER: Final = msgspec.json.Decoder(_Record)


def claim_key(boot: str, seq: int, index: int) -> str:
    """Give the dedupe key of a claim: its process, its batch, its place in it."""
    return f"{_CLAIM}{boot}/{seq}/{index}"


def own_key(record: bytes) -> str | None:
    """Give the dedupe key that a record has to stand under; None where it does not tell.

    A claim tells its place in the spool, and a gap the numbers that never came.
    """
    own = _read(record)
    return None if own is None else _own_key(own)


def _own_key(own: _Record) -> str | None:
    if own.spool is not None:
        return claim_key(own.spool.boot, own.spool.seq, own.spool.index)
    if own.cause == _BATCHES_MISSING:
        return f"{_MISSING}{own.boot}/{own.first_seq}-{own.last_seq}"
    return None


def fits(key: str, record: bytes) -> bool:
    """Whether a record may be what a dedupe key names.

    A claim's key is its place in the spool, and a gap's the numbers that it tells of;
    nothing else may stand under such a key. What a key of other making names can't be
    told from the record.
    """
    own = _read(record)
    if own is None:
        return not key.startswith(_RESERVED)
    told = _own_key(own)
    if told is not None:
        return key == told
    if own.cause in _TOLD:
        return key.startswith(_TOLD[own.cause])
    return not key.startswith(_RESERVED)


class Taken:
    """Which batches of each process stand in the ledger: show it all records, in order."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        """Number of the last batch of each process that left an entry."""
        self.ended: set[str] = set()
        """Processes whose last entry says that they end."""
        self._next: dict[str, int] = {}
        self._claims: dict[str, int] = {}

    def noting(self, records: Iterable[bytes]) -> Iterator[bytes]:
        """Pass records through, noting each."""
        for record in records:
            self.note(record)
            yield record

    def note(self, record: bytes) -> str | None:
        """Note the next record; say what of the spool is missing before it, or comes twice."""
        own = _read(record)
        if own is None:
            return None
        if own.spool is not None:
            if (own.subject, own.state) == _END:
                self.ended.add(own.spool.boot)
            else:
                self.ended.discard(own.spool.boot)
            return self._claim(own.spool)
        if own.cause == _BATCHES_MISSING:
            self._gap(own.boot, own.first_seq, own.last_seq)
        return None

    def _gap(self, boot: str | None, first: int | None, last: int | None) -> None:
        if boot is None or first is None or last is None:
            return
        if first <= self._next.get(boot, 0) <= last:
            self._next[boot] = last + 1

    def _claim(self, at: _Spool) -> str | None:
        expected = self._next.get(at.boot, 0)
        if at.index and at.seq == self.last.get(at.boot) and expected == at.seq + 1:
            due, self._claims[at.boot] = self._claims[at.boot], at.index + 1
            return None if at.index == due else self._wrong(at, f"claim {due}")
        self.last[at.boot] = max(at.seq, self.last.get(at.boot, 0))
        self._next[at.boot] = max(expected, at.seq + 1)
        self._claims[at.boot] = at.index + 1
        if at.seq != expected:
            return self._wrong(at, f"batch {expected}")
        return None if at.index == 0 else self._wrong(at, "claim 0")

    @staticmethod
    def _wrong(at: _Spool, expected: str) -> str:
        return (
            f"process {at.boot}: batch {at.seq}, claim {at.index}, expected {expected} "
            "(and no gap tells of it)"
        )


def contradictions(positions: Mapping[str, bytes], last: Mapping[str, int]) -> Iterator[str]:
    """Say which positions are not what the entries say; ``last`` is of a ``Taken``."""
    told: dict[str, int] = {}
    for name, content in positions.items():
        if not name.startswith(POSITION):
            continue
        try:
            told[name.removeprefix(POSITION)] = Last.from_bytes(content).seq
        except MalformedError as error:
            yield f"the position {name} can't be read: {error}"
            told[name.removeprefix(POSITION)] = last.get(name.removeprefix(POSITION), -1)
    for boot in sorted({*told, *last}):
        if told.get(boot) != last.get(boot):
            yield (
                f"process {boot}: the position says batch {told.get(boot, 'none')}, "
                f"the entries end with batch {last.get(boot, 'none')}"
            )


def require_positions(positions: Mapping[str, bytes], last: Mapping[str, int]) -> None:
    """Refuse to go on from positions that the entries do not bear out (``LedgerCorruptError``)."""
    wrong = next(contradictions(positions, last), None)
    if wrong is not None:
        raise LedgerCorruptError(
            f"{wrong}: batches would be dropped or told twice; run: trailgate ledger verify, and "
            "where the entries hold: trailgate ledger repair"
        )


def mended(positions: Mapping[str, bytes], taken: Taken) -> Iterator[tuple[str, bytes | None, str]]:
    """Say what positions have to be: (name, content, why) of those that aren't; None: removed.

    Entries don't tell the digest of a batch. Where the position isn't about the batch that
    they end with its digest is of no use, and not known until the next batch is taken.
    """
    for name in sorted(positions.keys() | {f"{POSITION}{boot}" for boot in taken.last}):
        boot = name.removeprefix(POSITION)
        if not name.startswith(POSITION):
            continue
        if boot not in taken.last:
            yield name, None, "it is of a process that has left no entry: removed"
            continue
        old = _position(positions.get(name))
        digest = old.digest if old is not None and old.seq == taken.last[boot] else None
        new = Last(taken.last[boot], digest, boot in taken.ended)
        if old != new:
            was = "nothing that can be read" if old is None else _told(old)
            yield name, new.to_bytes(), f"it said {was}, the entries say {_told(new)}: set to that"


def _position(content: bytes | None) -> Last | None:
    try:
        return None if content is None else Last.from_bytes(content)
    except MalformedError:
        return None


def _told(last: Last) -> str:
    return f"batch {last.seq}{', the last one' * last.ended}"


def _read(record: bytes) -> _Record | None:
    """Read what is looked at here; None for an entry of another schema or form."""
    try:
        own = _DECODER.decode(record)
    except ValueError:  # also msgspec.DecodeError
        return None
    return own if own.schema == SCHEMA else None
