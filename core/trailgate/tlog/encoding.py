"""The two encodings that all C2SP formats share: canonical base64 and plain decimals."""

from __future__ import annotations

import base64
import binascii
import re

from trailgate.tlog.errors import NoteError

#: A tree has at most this many leaves: a signed 64-bit number, as Go's sumdb has it.
MAX_SIZE = 2**63 - 1

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_SHOWN = 80


def encode(content: bytes) -> str:
    """Encode as standard base64 (RFC 4648 §4), padded."""
    return base64.b64encode(content).decode("ascii")


def decode(text: str, what: str) -> bytes:
    """Decode canonical base64; any other spelling of the same bytes raises ``NoteError``."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"got {what} {text[:_SHOWN]!r}, expected standard base64") from error
    if encode(content) != text:
        raise NoteError(f"got {what} {text[:_SHOWN]!r}, expected canonical base64")
    return content


def decimal(text: str, what: str) -> int:
    """Read an ASCII decimal without sign and leading zeros, below 2**63 (``NoteError``)."""
    value = int(text) if _DECIMAL.fullmatch(text) else -1
    if not 0 <= value <= MAX_SIZE:
        raise NoteError(
            f"got {what} {text[:_SHOWN]!r}, expected a decimal without leading zeros below 2**63"
        )
    return value
