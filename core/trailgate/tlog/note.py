"""Signed notes: a text, and signature lines by named Ed25519 keys.

Spec: https://c2sp.org/signed-note. Keys are written as Go's
``golang.org/x/mod/sumdb/note`` writes them:

- verifier key (vkey): ``<name>+<key ID, 8 hex digits>+<base64(0x01 || public key)>``
- signing key (skey): ``PRIVATE+KEY+<name>+<key ID>+<base64(0x01 || seed)>``
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from trailgate.tlog.encoding import decode, encode
from trailgate.tlog.errors import NoteError, SignatureError

#: Limits of what is read; the spec wants at least 16 signatures accepted.
MAX_NOTE_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100

_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_KEY_ID_BYTES: Final = 4
_SKEY_PREFIX: Final = "PRIVATE+KEY+"
_SIGNATURE_PREFIX: Final = "\u2014 "
_KEY_ID = re.compile(r"[0-9a-f]{8}")
_SHOWN: Final = 120


def key_id(name: str, public: bytes) -> bytes:
    """Return the four bytes that, with its name, identify an Ed25519 key."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a note key."""

    name: str
    public: bytes
    """32 bytes of Ed25519."""

    def __post_init__(self) -> None:
        """Refuse names and keys that no note can carry (``NoteError``)."""
        _check_name(self.name)
        if len(self.public) != _KEY_BYTES:
            raise NoteError(f"got a public key of {len(self.public)} bytes, expected {_KEY_BYTES}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a vkey (``NoteError``); its key ID must be the one computed from the key."""
        if text.startswith(_SKEY_PREFIX):
            raise NoteError("got a private signing key, expected the public verifier key")
        name, identifier, encoded = _split_key(text, "verifier key")
        key = cls(name, _key_bytes(encoded, "verifier key"))
        if key.id.hex() != identifier:
            raise NoteError(f"got key ID {identifier} in verifier key, expected {key.id.hex()}")
        return key

    @property
    def id(self) -> bytes:
        """The four-byte key ID."""
        return key_id(self.name, self.public)

    def holds(self, text: str, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``text``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encode(_ED25519 + self.public)}"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A note key with its private half. Its ``str`` is the public half, on purpose."""

    name: str
    seed: bytes = field(repr=False)
    _private: Ed25519PrivateKey = field(init=False, repr=False, compare=False)
    verifier: VerifierKey = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Derive the public half; ``NoteError`` for a seed or name that is none."""
        if len(self.seed) != _KEY_BYTES:
            raise NoteError(f"got a private key of {len(self.seed)} bytes, expected {_KEY_BYTES}")
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        object.__setattr__(self, "_private", private)
        public = private.public_key().public_bytes_raw()
        object.__setattr__(self, "verifier", VerifierKey(self.name, public))

    @classmethod
    def generate(cls, name: str) -> Self:
        """Make a new random key."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an skey (``NoteError``, which never shows the key)."""
        if not text.startswith(_SKEY_PREFIX):
            raise NoteError(f"got no signing key, expected {_SKEY_PREFIX}<name>+<id>+<key>")
        parts = text.removeprefix(_SKEY_PREFIX).split("+", 2)
        if len(parts) != len(("name", "id", "key")):
            raise NoteError(f"got a broken signing key, expected {_SKEY_PREFIX}<name>+<id>+<key>")
        try:
            content = decode(parts[2], "signing key")
        except NoteError:
            raise NoteError("got a signing key that is not base64") from None
        if content[:1] != _ED25519:
            raise NoteError("got a signing key of another algorithm, expected Ed25519 (0x01)")
        key = cls(parts[0], content[1:])
        if key.verifier.id.hex() != parts[1]:
            raise NoteError(f"got key ID {parts[1][:_SHOWN]!r} in signing key, expected another")
        return key

    def encode(self) -> str:
        """Return the skey: the secret itself."""
        identifier = self.verifier.id.hex()
        return f"{_SKEY_PREFIX}{self.name}+{identifier}+{encode(_ED25519 + self.seed)}"

    def sign(self, text: str) -> Signature:
        """Sign a note's text, which must end in a newline."""
        _check_text(text)
        return Signature(self.name, self.verifier.id, self._private.sign(text.encode()))

    def __str__(self) -> str:
        return str(self.verifier)


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: a claim until the key has been tried."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line as a note carries it, with its newline."""
        return f"{_SIGNATURE_PREFIX}{self.name} {encode(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note that at least one known key vouches for."""

    text: str
    """With its final newline, without the blank line."""
    verified: tuple[VerifierKey, ...]
    """The known keys whose signatures held, in the order of the note."""
    unknown: tuple[Signature, ...] = ()
    """Signatures of keys that were not given: they say nothing."""


def sign(text: str, keys: Sequence[SigningKey]) -> str:
    """Return the note of ``text`` with one signature line per key, in order."""
    if not keys:
        raise NoteError("got no key, expected at least one to sign the note")
    return text + "\n" + "".join(key.sign(text).line for key in keys)


def split(message: str | bytes) -> tuple[str, tuple[Signature, ...]]:
    """Take a note apart into text and signature lines; proves nothing (``NoteError``)."""
    note = _decode(message)
    head, blank, tail = note.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise NoteError("got no signed note, expected text, a blank line and signature lines")
    lines = tail.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"got {len(lines)} signatures, expected at most {MAX_SIGNATURES}")
    return head + "\n", tuple(_parse_line(line) for line in lines)


def verify(text: str | bytes, vkeys: Iterable[str | VerifierKey]) -> Note:
    """Check the signed note ``text`` against known keys.

    Signatures of other keys are ignored. ``SignatureError`` where a known key's
    signature fails or no known key signed; ``NoteError`` where note or key is malformed.
    """
    known = _known(vkeys)
    body, signatures = split(text)
    verified: list[VerifierKey] = []
    unknown: list[Signature] = []
    for signature in signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            unknown.append(signature)
            continue
        if not key.holds(body, signature.signature):
            raise SignatureError(f"the signature of {key.name}+{key.id.hex()} does not verify")
        if key not in verified:
            verified.append(key)
    if not verified:
        signers = ", ".join(f"{s.name}+{s.key_id.hex()}" for s in unknown)[:_SHOWN]
        names = ", ".join(f"{name}+{identifier.hex()}" for name, identifier in known)
        raise SignatureError(f"got signatures of {signers}, expected one of {names or 'no key'}")
    return Note(body, tuple(verified), tuple(unknown))


def _known(vkeys: Iterable[str | VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    if isinstance(vkeys, (str, VerifierKey)):
        vkeys = (vkeys,)
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for item in vkeys:
        key = VerifierKey.parse(item) if isinstance(item, str) else item
        if known.setdefault((key.name, key.id), key) != key:
            raise NoteError(f"got two different keys {key.name}+{key.id.hex()}, expected one")
    return known


def _decode(message: str | bytes) -> str:
    try:
        raw = message if isinstance(message, bytes) else message.encode()
        note = raw.decode()
    except UnicodeError as error:
        raise NoteError("got a note that is not UTF-8") from error
    if len(raw) > MAX_NOTE_BYTES:
        raise NoteError(f"got a note of {len(raw)} bytes, expected at most {MAX_NOTE_BYTES}")
    _check_characters(note)
    return note


def _check_characters(text: str) -> None:
    for character in text:
        if character < " " and character != "\n":
            raise NoteError(f"got control character {character!r} in a note, expected only \\n")


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("got a text without a final newline, expected one")
    try:
        text.encode()
    except UnicodeError as error:
        raise NoteError("got a text that is not UTF-8") from error
    _check_characters(text)


def _check_name(name: str) -> None:
    spaced = any(character.isspace() or character < " " for character in name)
    try:
        name.encode()
    except UnicodeError as error:
        raise NoteError("got a key name that is not UTF-8") from error
    if not name or spaced or "+" in name:
        raise NoteError(f"got key name {name[:_SHOWN]!r}, expected one without spaces and plus")


def _parse_line(line: str) -> Signature:
    rest = line.removeprefix(_SIGNATURE_PREFIX)
    name, space, encoded = rest.partition(" ")
    if rest == line or not space:
        raise NoteError(f"got signature line {line[:_SHOWN]!r}, expected '\u2014 <name> <base64>'")
    _check_name(name)
    content = decode(encoded, "signature")
    if len(content) <= _KEY_ID_BYTES:
        raise NoteError(f"got a signature of {len(content)} bytes, expected key ID and signature")
    return Signature(name, content[:_KEY_ID_BYTES], content[_KEY_ID_BYTES:])


def _split_key(text: str, what: str) -> tuple[str, str, str]:
    parts = text.split("+", 2)
    if len(parts) != len(("name", "id", "key")) or not _KEY_ID.fullmatch(parts[1]):
        raise NoteError(f"got {what} {text[:_SHOWN]!r}, expected <name>+<8 hex digits>+<base64>")
    return parts[0], parts[1], parts[2]


def _key_bytes(encoded: str, what: str) -> bytes:
    content = decode(encoded, what)
    if content[:1] != _ED25519:
        raise NoteError(f"got {what} of type 0x{content[:1].hex()}, expected Ed25519 (0x01)")
    return content[1:]
