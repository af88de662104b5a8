"""The log's key on disk: ``<name>.key`` is the secret, ``<name>.vkey`` is for everyone."""

from __future__ import annotations

import os
from pathlib import Path

from trailgate.ledger.errors import LedgerExistsError, LedgerKeyError
from trailgate.tlog.errors import NoteError
from trailgate.tlog.note import SigningKey, VerifierKey

_PRIVATE = 0o600
_PUBLIC = 0o644
_OTHERS = 0o007


def write_signing_key(path: Path, key: SigningKey) -> None:
    """Make the secret's file, for its owner alone; never overwrites (``LedgerExistsError``)."""
    _create(path, key.encode(), _PRIVATE)


def write_verifier_key(path: Path, key: VerifierKey) -> None:
    """Make the public half's file; never overwrites (``LedgerExistsError``)."""
    _create(path, str(key), _PUBLIC)


def read_signing_key(path: Path) -> SigningKey:
    """Read the secret (``LedgerKeyError``: missing, open to others, or no key)."""
    try:
        mode = path.stat().st_mode
        if mode & _OTHERS:
            raise LedgerKeyError(
                f"{path} is open to everyone (mode {mode & 0o777:o}), expected chmod 600"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise LedgerKeyError(f"can't read the log's key {path}: {error}") from error
    try:
        return SigningKey.parse(text.strip())
    except NoteError as error:
        raise LedgerKeyError(f"{path} is not a log's key: {error}") from error


def read_verifier_key(text: str) -> VerifierKey:
    """Read a vkey, given itself or as the path of a file with it (``LedgerKeyError``)."""
    try:
        return VerifierKey.parse(text)
    except NoteError as error:
        path = Path(text)
        if not path.is_file():
            raise LedgerKeyError(f"got neither a vkey nor a file with one: {error}") from error
    try:
        return VerifierKey.parse(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeError, NoteError) as error:
        raise LedgerKeyError(f"{path} has no vkey: {error}") from error


def _create(path: Path, content: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise LedgerExistsError(f"{path} is already there; nothing was changed") from error
    except OSError as error:
        raise LedgerKeyError(f"can't make {path}: {error}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content + "\n")
        file.flush()
        os.fsync(file.fileno())
