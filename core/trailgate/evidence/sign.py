"""Signing what is said about an image, in the form in which it will be stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trailgate.evidence import bundle, dsse, simplesigning, statement
from trailgate.evidence.keys import PrivateKey
from trailgate.model.digest import Digest
from trailgate.model.evidence import EvidenceFormat
from trailgate.model.image import ImageReference

#: What ``cosign sign`` since version 3 writes as the signature itself.
SIGN_TYPE = "https://sigstore.dev/cosign/sign/v1"


@dataclass(frozen=True, slots=True)
class Signed:
    """One artifact, ready to be stored beside the image."""

    format: EvidenceFormat
    media_type: str
    """Of the layer."""
    content: bytes = field(repr=False)
    predicate_type: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the layer, where the format keeps something there."""

    @property
    def digest(self) -> Digest:
        """Of ``content``: the name under which the trail knows this evidence."""
        return Digest.of(self.content)


def signature(
    image: ImageReference,
    key: PrivateKey,
    stored: EvidenceFormat,
    annotations: Mapping[str, str] | None = None,
) -> Signed:
    """Sign an image named by digest, as ``cosign sign --key`` does."""
    if stored is EvidenceFormat.BUNDLE:
        payload = statement.write(image, SIGN_TYPE, {}, named=False, annotations=annotations)
        return _bundle(payload, SIGN_TYPE, key)
    payload = simplesigning.write(image, annotations or {})
    return Signed(
        EvidenceFormat.LEGACY,
        simplesigning.MEDIA_TYPE,
        payload,
        simplesigning.TYPE,
        simplesigning.sign(payload, key),
    )


def attestation(
    image: ImageReference,
    predicate_type: str,
    predicate: Mapping[str, Any],
    key: PrivateKey,
    stored: EvidenceFormat,
) -> Signed:
    """Sign a statement about an image named by digest, as ``cosign attest --key`` does."""
    payload = statement.write(image, predicate_type, predicate)
    if stored is EvidenceFormat.BUNDLE:
        return _bundle(payload, predicate_type, key)
    return Signed(
        EvidenceFormat.LEGACY,
        dsse.MEDIA_TYPE,
        dsse.write(dsse.sign(payload, key)),
        predicate_type,
        {simplesigning.SIGNATURE_ANNOTATION: "", "predicateType": predicate_type},
    )


def _bundle(payload: bytes, predicate_type: str, key: PrivateKey) -> Signed:
    content = bundle.write(dsse.sign(payload, key), key.public.fingerprint)
    return Signed(EvidenceFormat.BUNDLE, bundle.MEDIA_TYPE, content, predicate_type)
