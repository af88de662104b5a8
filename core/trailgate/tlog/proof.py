"""Receipts: one entry's place in a log, verifiable offline, https://c2sp.org/tlog-proof.

Stored with the extension ``.tlog-proof``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from trailgate.tlog import note
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.checkpoint import verify as verify_checkpoint
from trailgate.tlog.encoding import decimal, decode, encode
from trailgate.tlog.errors import NoteError
from trailgate.tlog.merkle import HASH_SIZE, leaf_hash, verify_inclusion

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_EXTRA: Final = "extra "
_INDEX: Final = "index "
_MAX_HASHES: Final = 63


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof that a log has an entry: index, Merkle path, signed checkpoint."""

    index: int
    hashes: tuple[bytes, ...]
    """From the leaf's sibling up to the root's child, 32 bytes each."""
    checkpoint: str
    """The signed note, verbatim."""
    extra: bytes | None = None
    """Opaque and not authenticated."""

    @classmethod
    def parse(cls, content: str | bytes) -> Self:
        """Read a ``.tlog-proof`` (``NoteError``); proves nothing until ``verify``."""
        text = _decode(content)
        head, blank, signed = text.partition("\n\n")
        lines = head.split("\n")
        if not blank or lines.pop(0) != _HEADER:
            raise NoteError(f"got no receipt, expected {_HEADER!r}, a proof and a checkpoint")
        extra = None
        if lines and lines[0].startswith(_EXTRA):
            extra = decode(lines.pop(0).removeprefix(_EXTRA), "extra data")
        if not lines or not lines[0].startswith(_INDEX):
            raise NoteError("got a receipt without an index line, expected 'index <decimal>'")
        index = decimal(lines.pop(0).removeprefix(_INDEX), "index")
        if len(lines) > _MAX_HASHES:
            raise NoteError(f"got {len(lines)} hashes in a receipt, expected at most {_MAX_HASHES}")
        return cls(index, tuple(_hash(line) for line in lines), signed, extra)

    def encode(self) -> str:
        """Return the receipt's text."""
        lines = [_HEADER]
        if self.extra is not None:
            lines.append(_EXTRA + encode(self.extra))
        lines.append(f"{_INDEX}{self.index}")
        lines.extend(encode(value) for value in self.hashes)
        return "\n".join(lines) + "\n\n" + self.checkpoint

    def verify(self, record: bytes, vkeys: Iterable[str | note.VerifierKey]) -> Checkpoint:
        """Check that the log of ``vkeys`` has ``record`` at ``index``; return its checkpoint.

        ``SignatureError``: the checkpoint is not the log's. ``ProofError``: the entry is
        not in that tree. ``NoteError``: malformed.
        """
        head = verify_checkpoint(self.checkpoint, vkeys)
        verify_inclusion(self.index, head.size, leaf_hash(record), self.hashes, head.root)
        return head


def _decode(content: str | bytes) -> str:
    size = len(content)
    if size > note.MAX_NOTE_BYTES:
        raise NoteError(f"got a receipt of {size} bytes, expected at most {note.MAX_NOTE_BYTES}")
    if isinstance(content, str):
        return content
    try:
        return content.decode()
    except UnicodeError as error:
        raise NoteError("got a receipt that is not UTF-8") from error


def _hash(line: str) -> bytes:
    value = decode(line, "proof hash")
    if len(value) != HASH_SIZE:
        raise NoteError(f"got a proof hash of {len(value)} bytes, expected {HASH_SIZE}")
    return value
