"""Reading foreign JSON: bounded, strict about what is used, calm about the rest.

Two depths of trust. An *envelope* comes from whoever may write to the registry, so
it is decoded at once into typed structs, quickly and whatever else it holds. A
*statement* has been signed by a trusted key; it is read once more with a parser
that refuses what two readers could understand differently (a key given twice).
All failures are ``RefusedError`` with the code ``Malformed``.
"""

from __future__ import annotations

import binascii
import json
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, overload

import msgspec

from trailgate.evidence.errors import malformed

#: Largest artifact that is looked into; a bundle holds its payload in base64.
MAX_ARTIFACT = 8 * 1024 * 1024
#: Largest payload that is parsed as a statement.
MAX_PAYLOAD = 4 * 1024 * 1024

#: A value that is shown to people: no control characters, bounded.
Text = Annotated[
    str, msgspec.Meta(min_length=1, max_length=2048, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")
]
#: A Git object name: SHA-1 or SHA-256, lower case.
ObjectName = Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")]
#: How many of something.
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
#: RFC 3339 with an offset.
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_T = TypeVar("_T")


def decode(data: bytes, shape: type[_T], what: str) -> _T:
    """Decode an envelope's JSON into ``shape``, unknown fields ignored."""
    if len(data) > MAX_ARTIFACT:
        raise malformed(f"got {what} of {len(data)} bytes, expected at most {MAX_ARTIFACT}")
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise malformed(f"got {what} that cannot be read: {_said(error)}") from error


def decode_signed(data: bytes, what: str) -> Any:
    """Decode a signed payload to plain JSON values, refusing keys given twice."""
    if len(data) > MAX_PAYLOAD:
        raise malformed(f"got {what} of {len(data)} bytes, expected at most {MAX_PAYLOAD}")
    try:
        msgspec.json.decode(data)  # UTF-8, surrogates, NaN, trailing bytes, depth
        return json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise malformed(f"got {what} that cannot be read: {_said(error)}") from error


def convert(value: Any, shape: type[_T], what: str) -> _T:
    """Check decoded JSON against ``shape``, unknown fields ignored, types exact."""
    try:
        return msgspec.convert(value, type=shape)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise malformed(f"got {what} of another form: {_said(error)}") from error


def unbase64(text: str, what: str) -> bytes:
    """Decode standard base64 with padding; exactly one text per byte string is accepted."""
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise malformed(f"got {what} that is not standard base64") from error
    if binascii.b2a_base64(raw, newline=False).decode("ascii") != text:
        raise malformed(f"got {what} in base64 of another spelling, expected the canonical one")
    return raw


@overload
def utc(moment: datetime) -> datetime: ...
@overload
def utc(moment: None) -> None: ...
@overload
def utc(moment: datetime | None) -> datetime | None: ...
def utc(moment: datetime | None) -> datetime | None:
    """Say the same moment in UTC; ``Malformed`` where the calendar ends."""
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise malformed("got a time outside the calendar") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is given twice in one object")
    return value


def _said(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error)[:200]
