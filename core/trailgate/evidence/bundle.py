"""Sigstore bundles v0.3 that name a public key by a hint.

Form: https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto
in its JSON mapping. The hint that cosign writes is the base64 of SHA-256 over the
key's DER SubjectPublicKeyInfo: our fingerprint in another spelling. It is a claim,
used to explain a refusal and never to choose what is trusted.

Bundles that carry a certificate (keyless) are recognised and refused for now.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from trailgate.evidence import dsse
from trailgate.evidence.errors import RefusedError, malformed
from trailgate.evidence.wire import decode
from trailgate.model.reason import Reason

#: Artifact type of the referrer and media type of its one layer.
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MEDIA_TYPES = (MEDIA_TYPE, "application/vnd.dev.sigstore.bundle+json;version=0.3")
_FINGERPRINT_BYTES = 32
_HEX_HINT = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class _PublicKey(msgspec.Struct):
    hint: str | None = None


class _Material(msgspec.Struct, rename="camel"):
    public_key: _PublicKey | None = None
    certificate: dict[str, Any] | None = None
    x509_certificate_chain: dict[str, Any] | None = msgspec.field(
        default=None, name="x509CertificateChain"
    )


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: dsse.EnvelopeJson | None = None
    message_signature: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A key-pair bundle around one DSSE envelope."""

    envelope: dsse.Envelope
    hint: str | None
    """The claimed key's fingerprint, ``sha256:<hex>``, where the hint is of that form."""


def parse(data: bytes) -> Bundle:
    """Read a bundle.

    Raises ``RefusedError``: ``Malformed``; ``SignerMismatch`` where it is keyless;
    ``PredicateMismatch`` where it signs a bare message, which does not say what for.
    """
    raw = decode(data, _Bundle, "a bundle")
    if raw.media_type not in _MEDIA_TYPES:
        raise malformed(f"got media type {raw.media_type[:100]!r}, expected {MEDIA_TYPE}")
    material = raw.verification_material
    if material.certificate is not None or material.x509_certificate_chain is not None:
        raise RefusedError(
            Reason.SIGNER_MISMATCH,
            "got a keyless bundle (it carries a certificate), expected a key pair's: "
            "keyless signatures are not read yet",
        )
    if material.public_key is None:
        raise malformed("got a bundle without a public key's hint")
    hint = fingerprint_of_hint(material.public_key.hint)
    if (raw.dsse_envelope is None) == (raw.message_signature is None):
        raise malformed("expected exactly one of dsseEnvelope and messageSignature")
    if raw.dsse_envelope is None:
        raise RefusedError(
            Reason.PREDICATE_MISMATCH,
            "got a signature over a bare message, expected a statement: "
            "a signature counts only for what it says",
            signer_hint=hint,
        )
    return Bundle(dsse.from_json(raw.dsse_envelope), hint)


def write(envelope: dsse.Envelope, fingerprint: str) -> bytes:
    """Write a bundle as cosign 3 does: JSON, UTF-8."""
    digest = bytes.fromhex(fingerprint.removeprefix("sha256:"))
    value: dict[str, Any] = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": base64.b64encode(digest).decode("ascii")},
            # Empty means absent, but there are readers that miss the field.
            "tlogEntries": [],
        },
        "dsseEnvelope": dsse.to_json(envelope),
    }
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def fingerprint_of_hint(hint: str | None) -> str | None:
    """Read a key hint (base64 as cosign writes it, or hex) as ``sha256:<hex>``, else None."""
    if not hint:
        return None
    if match := _HEX_HINT.fullmatch(hint):
        return f"sha256:{match[1]}"
    try:
        raw = binascii.a2b_base64(hint, strict_mode=True)
    except ValueError:
        return None
    return f"sha256:{raw.hex()}" if len(raw) == _FINGERPRINT_BYTES else None
