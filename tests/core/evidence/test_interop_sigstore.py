"""What we write, read by the sigstore project's own Python models of a bundle.

Their verifier refuses every bundle that is signed by a bare key, so the signature is
checked here with the primitive itself, over the bytes that their model gives back.
"""

import base64
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sigstore_models.bundle.v1 import Bundle

from trailgate.evidence import keys, sign
from trailgate.model.evidence import EvidenceFormat
from trailgate.model.image import ImageReference

IMAGE = ImageReference.parse("ghcr.io/acme/web@sha256:" + "ab" * 32)
KEY = keys.generate()


def pae(payload_type: str, payload: bytes) -> bytes:
    """https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, written again."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


@pytest.mark.parametrize(
    "signed",
    [
        sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE),
        sign.attestation(IMAGE, "https://example.com/p/v1", {"a": 1}, KEY, EvidenceFormat.BUNDLE),
    ],
    ids=["signature", "attestation"],
)
def test_sigstores_models_read_our_bundles(signed):
    bundle = Bundle.from_json(signed.content)
    assert bundle.media_type == "application/vnd.dev.sigstore.bundle.v0.3+json"
    hint = bundle.verification_material.public_key.hint
    assert "sha256:" + base64.b64decode(hint).hex() == KEY.public.fingerprint
    envelope = bundle.dsse_envelope
    payload = envelope.payload
    (signature,) = envelope.signatures
    public = serialization.load_der_public_key(KEY.public.der)
    message = pae(envelope.payload_type, payload)
    public.verify(signature.sig, message, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(signature.sig, message + b" ", ec.ECDSA(hashes.SHA256()))
    assert json.loads(payload)["subject"][0]["digest"] == {"sha256": "ab" * 32}
