"""One byte form for one JSON value: RFC 8785 (JCS), so that hashes can be compared.

https://www.rfc-editor.org/rfc/rfc8785. Floats are refused rather than formatted:
nothing that we hash needs one, and their formatting is where encoders differ.
"""

from __future__ import annotations

from typing import Any

import orjson

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError

_MAX_INTEGER = 2**53 - 1  # the largest that every JSON reader keeps (RFC 7493, 2.2)
_EXACT = (
    orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)


def canonical(value: Any) -> bytes:
    """Encode plain JSON as RFC 8785 does: sorted keys, no space, UTF-8.

    Takes dicts with ``str`` keys, lists, ``str``, ``bool``, ``None`` and integers
    below 2**53, of exactly these types. Raises ``MalformedError`` for anything
    else: floats, tuples, enums, lone surrogates, nesting beyond about 250 levels.
    """
    try:
        encoded: bytes = orjson.dumps(value, option=_EXACT | orjson.OPT_SORT_KEYS)
    except (TypeError, RecursionError) as error:
        raise MalformedError(f"got a value that is not plain JSON: {error}") from error
    if _has_only_ascii_keys(value):
        return encoded
    # The fast encoder sorts keys by code point, RFC 8785 by UTF-16 code unit. They
    # are equal for ASCII; other keys (say, in a CSI volume's attributes) take this way.
    return bytes(orjson.dumps(_sorted_by_utf16(value), option=_EXACT))


def fingerprint(value: Any) -> Digest:
    """SHA-256 of ``canonical(value)``; raises ``MalformedError`` as that does."""
    return Digest.of(canonical(value))


def _has_only_ascii_keys(value: Any) -> bool:
    """Check all types that the encoder is more generous about, and look at the keys.

    Runs after the encoder, which has then bounded the depth and refused cycles.
    """
    ascii_keys = True
    pending = [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is dict:
            for key in item:
                if not key.isascii():
                    ascii_keys = False
            pending.extend(item.values())
        elif kind is list:
            pending.extend(item)
        elif kind is int:
            if not -_MAX_INTEGER <= item <= _MAX_INTEGER:
                raise MalformedError(f"got integer {item}, expected at most 53 bits")
        elif kind is not str and kind is not bool and item is not None:
            raise MalformedError(
                f"got {kind.__name__} in JSON that is hashed, "
                "expected object, array, string, boolean, null or integer"
            )
    return ascii_keys


def _sorted_by_utf16(value: Any) -> Any:
    if type(value) is dict:
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _sorted_by_utf16(value[key]) for key in keys}
    if type(value) is list:
        return [_sorted_by_utf16(item) for item in value]
    return value
