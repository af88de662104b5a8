"""cosign's legacy ``.sig`` format: a simple-signing payload, its signature beside it.

Form: https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md. The
signature is over the payload's bytes as stored and lives in the layer's annotation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from trailgate.evidence.errors import RefusedError, malformed
from trailgate.evidence.keys import PrivateKey
from trailgate.evidence.wire import Text, convert, decode_signed, unbase64
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import SimpleSignature
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason

MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
CERTIFICATE_ANNOTATION = "dev.sigstore.cosign/certificate"
#: What the payload calls itself; it takes the place of a predicate type.
TYPE = "cosign container image signature"
_SHOWN_ANNOTATIONS = 64
_Reference = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._:/@\[\]-]{0,300}\Z")]


class _Identity(msgspec.Struct):
    docker_reference: _Reference | None = msgspec.field(default=None, name="docker-reference")


class _Image(msgspec.Struct):
    digest: str = msgspec.field(name="docker-manifest-digest")


class _Critical(msgspec.Struct):
    identity: _Identity
    image: _Image
    type: str


class _Payload(msgspec.Struct):
    critical: _Critical
    optional: dict[Text, Any] | None = None


def signature_of(annotations: Mapping[str, str]) -> bytes:
    """Read the signature from a layer's annotations; raises ``RefusedError``."""
    if CERTIFICATE_ANNOTATION in annotations:
        raise RefusedError(
            Reason.SIGNER_MISMATCH,
            "got a keyless signature (it carries a certificate), expected a key pair's: "
            "keyless signatures are not read yet",
        )
    text = annotations.get(SIGNATURE_ANNOTATION)
    if not text:
        raise malformed(f"got a simple signature without the annotation {SIGNATURE_ANNOTATION}")
    return unbase64(text, "the signature")


def read(payload: bytes, image: Digest) -> SimpleSignature:
    """Read a payload whose signature verified.

    Raises ``RefusedError``: ``Malformed``, ``PredicateMismatch`` (another type),
    ``EvidenceMismatch`` (another image).
    """
    what = "a simple-signing payload"
    value = convert(decode_signed(payload, what), _Payload, what)
    if value.critical.type != TYPE:
        raise RefusedError(
            Reason.PREDICATE_MISMATCH,
            f"got a payload of type {value.critical.type[:100]!r}, expected {TYPE!r}",
            predicate_type=value.critical.type[:200],
        )
    try:
        signed = Digest.parse(value.critical.image.digest)
    except MalformedError as error:
        raise malformed(str(error)) from error
    if signed != image:
        raise RefusedError(
            Reason.EVIDENCE_MISMATCH, f"got a signature of {signed}, expected of {image}"
        )
    optional = value.optional or {}
    shown = {key: text for key, text in optional.items() if isinstance(text, str)}
    return SimpleSignature(
        docker_reference=value.critical.identity.docker_reference or None,
        annotations=tuple(sorted(shown.items())[:_SHOWN_ANNOTATIONS]),
    )


def write(image: ImageReference, annotations: Mapping[str, str]) -> bytes:
    """Write the payload for an image named by digest."""
    if image.digest is None:
        raise MalformedError(f"got {image}, expected an image by digest")
    value = {
        "critical": {
            "identity": {"docker-reference": image.name},
            "image": {"docker-manifest-digest": str(image.digest)},
            "type": TYPE,
        },
        "optional": dict(annotations) or None,
    }
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def sign(payload: bytes, key: PrivateKey) -> dict[str, str]:
    """Sign a payload; returns the layer's annotations."""
    return {SIGNATURE_ANNOTATION: base64.b64encode(key.sign(payload)).decode("ascii")}
