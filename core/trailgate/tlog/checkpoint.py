"""Checkpoints: what a log signs of its tree, https://c2sp.org/tlog-checkpoint.

The text has three lines, ``<origin>``, ``<size>``, ``<base64 root>``, and is carried
in a signed note. The key's name is the origin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from trailgate.tlog import note
from trailgate.tlog.encoding import MAX_SIZE, decimal, decode, encode
from trailgate.tlog.errors import NoteError, SignatureError
from trailgate.tlog.merkle import EMPTY_ROOT, HASH_SIZE

_MANDATORY_LINES = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: which log, how many leaves, which root."""

    origin: str
    size: int
    root: bytes
    """32 bytes."""
    extensions: tuple[str, ...] = ()
    """Opaque lines; we read them and never write them."""

    def __post_init__(self) -> None:
        """Refuse what the spec does not allow (``NoteError``)."""
        if not self.origin or any(character < " " for character in self.origin):
            raise NoteError(f"got origin {self.origin[:120]!r}, expected one non-empty line")
        if not 0 <= self.size <= MAX_SIZE:
            raise NoteError(f"got size {self.size}, expected 0 to 2**63 - 1")
        if len(self.root) != HASH_SIZE:
            raise NoteError(f"got a root of {len(self.root)} bytes, expected {HASH_SIZE}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise NoteError("got another root of size 0, expected that of the empty tree")
        if any(not line or "\n" in line for line in self.extensions):
            raise NoteError("got an empty extension line, expected non-empty ones")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a note's text as a checkpoint (``NoteError``); proves nothing."""
        lines = text.split("\n")
        if len(lines) <= _MANDATORY_LINES or lines.pop() != "" or not all(lines):
            raise NoteError(
                "got no checkpoint, expected the lines origin, size, root and no empty line"
            )
        root = decode(lines[2], "root")
        return cls(lines[0], decimal(lines[1], "tree size"), root, tuple(lines[3:]))

    @property
    def text(self) -> str:
        """The note text: what is signed."""
        lines = (self.origin, str(self.size), encode(self.root), *self.extensions)
        return "\n".join(lines) + "\n"

    def sign(self, key: note.SigningKey) -> str:
        """Return the signed checkpoint; the key's name must be the origin (``NoteError``)."""
        if key.name != self.origin:
            raise NoteError(f"got key {key.name!r} for origin {self.origin!r}, expected the same")
        return note.sign(self.text, [key])


def read(signed: str | bytes) -> Checkpoint:
    """Read a signed checkpoint without checking its signature (``NoteError``)."""
    text, _ = note.split(signed)
    return Checkpoint.parse(text)


def verify(signed: str | bytes, vkeys: Iterable[str | note.VerifierKey]) -> Checkpoint:
    """Read a signed checkpoint that a log key named as its origin vouches for.

    ``SignatureError`` where no such key does, ``NoteError`` where it is malformed.
    """
    opened = note.verify(signed, vkeys)
    found = Checkpoint.parse(opened.text)
    if all(key.name != found.origin for key in opened.verified):
        names = ", ".join(key.name for key in opened.verified)
        raise SignatureError(f"got origin {found.origin!r} signed by {names}, expected its own key")
    return found
