"""DSSE envelopes: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md.

Exactly one signature: a statement has one signer, and the Sigstore bundle asks for
the same. ``keyid`` is a hint that nothing vouches for; cosign leaves it empty.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from trailgate.evidence.errors import malformed
from trailgate.evidence.keys import PrivateKey
from trailgate.evidence.wire import decode, unbase64

#: The layer media type of cosign's legacy attestations.
MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
#: What every statement that we use is.
PAYLOAD_TYPE = "application/vnd.in-toto+json"


class _Signature(msgspec.Struct):
    sig: str
    keyid: str | None = None


class EnvelopeJson(msgspec.Struct, rename="camel"):
    """The envelope as it is written; other fields are ignored."""

    payload: str
    payload_type: str
    signatures: list[_Signature]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type, and one signature over both."""

    payload_type: str
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    keyid: str | None = None

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Encode type and payload unambiguously: DSSE's pre-authentication encoding."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse(data: bytes) -> Envelope:
    """Read an envelope; raises ``RefusedError`` (``Malformed``)."""
    return from_json(decode(data, EnvelopeJson, "a DSSE envelope"))


def from_json(envelope: EnvelopeJson) -> Envelope:
    """Decode the parts of an envelope; raises ``RefusedError`` (``Malformed``)."""
    if len(envelope.signatures) != 1:
        raise malformed(f"got {len(envelope.signatures)} signatures, expected exactly one")
    signature = envelope.signatures[0]
    return Envelope(
        payload_type=envelope.payload_type,
        payload=unbase64(envelope.payload, "the payload"),
        signature=unbase64(signature.sig, "the signature"),
        keyid=signature.keyid or None,
    )


def sign(payload: bytes, key: PrivateKey) -> Envelope:
    """Sign an in-toto statement."""
    return Envelope(PAYLOAD_TYPE, payload, key.sign(pae(PAYLOAD_TYPE, payload)))


def to_json(envelope: Envelope) -> dict[str, Any]:
    """Write the JSON form; without a ``keyid``, as cosign does."""
    return {
        "payload": base64.b64encode(envelope.payload).decode("ascii"),
        "payloadType": envelope.payload_type,
        "signatures": [{"sig": base64.b64encode(envelope.signature).decode("ascii")}],
    }


def write(envelope: Envelope) -> bytes:
    """Write the envelope as cosign's ``.att`` layers hold it: JSON, ASCII."""
    return json.dumps(to_json(envelope), separators=(",", ":")).encode("ascii")
