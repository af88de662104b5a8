"""From what lies beside an image to what is known about it.

Every artifact ends as a ``Statement`` (its signature verified, its content read, its
subject the image) or as a ``Rejected`` with a reason:

=====================  =========================================================
``Malformed``          not of the form it must have, or contradicting itself
``SignerMismatch``     no trusted key made the signature (or it is keyless)
``SignatureInvalid``   it names a trusted key, which did not sign these bytes
``PredicateMismatch``  signed, but not one of the four statements
``EvidenceMismatch``   signed, but about another image
``Internal``           reading it failed in a way that was not foreseen
=====================  =========================================================

The signature is checked before the content is read: only bytes that a trusted key
has signed are interpreted. Nothing raises, whatever the artifact holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trailgate.evidence import (
    bundle,
    change,
    dsse,
    provenance,
    sign,
    simplesigning,
    statement,
    testresult,
)
from trailgate.evidence.errors import RefusedError, malformed
from trailgate.evidence.keys import is_ed25519, verifies
from trailgate.evidence.wire import MAX_ARTIFACT, Text, convert
from trailgate.model.artifact import Artifact, Attached
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import (
    Evidence,
    EvidenceFormat,
    Predicate,
    PublicKey,
    Rejected,
    Signer,
    SimpleSignature,
    Statement,
    StatementKind,
)
from trailgate.model.reason import Reason

_SHOWN_ANNOTATIONS = 64


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What was signed, before anything is known of the signer."""

    message: bytes
    signature: bytes
    hint: str | None
    claimed: str | None


def verify(attached: Attached, keys: Sequence[PublicKey]) -> Evidence:
    """Verify all artifacts of one image digest against the keys; never raises on content.

    ``MalformedError`` where the image itself is not named by digest.
    """
    if attached.image.digest is None:
        raise MalformedError(f"got {attached.image}, expected an image by digest")
    digest = attached.image.digest
    outcomes = [_outcome(artifact, digest, keys) for artifact in attached.artifacts]
    return Evidence(
        image=attached.image,
        statements=tuple(item for item in outcomes if isinstance(item, Statement)),
        rejected=tuple(item for item in outcomes if isinstance(item, Rejected)),
        platforms=attached.platforms,
        unread=(*attached.unread, *_unforeseen(outcomes)),
    )


def _unforeseen(outcomes: Iterable[Statement | Rejected]) -> Iterator[str]:
    """Name what our own code failed on: what it says is as unknown as if it weren't fetched."""
    for item in outcomes:
        if isinstance(item, Rejected) and item.reason is Reason.INTERNAL:
            yield f"{item.digest}: {item.detail}"


def _outcome(artifact: Artifact, image: Digest, keys: Sequence[PublicKey]) -> Statement | Rejected:
    try:
        return _statement(artifact, image, keys)
    except RefusedError as error:
        return Rejected(
            error.reason,
            error.detail,
            digest=artifact.digest,
            predicate_type=error.predicate_type,
            signer_hint=error.signer_hint,
        )
    except Exception as error:  # noqa: BLE001  one artifact must not take the others' proof away
        return Rejected(
            Reason.INTERNAL, f"reading it failed: {type(error).__name__}", digest=artifact.digest
        )


def _statement(artifact: Artifact, image: Digest, keys: Sequence[PublicKey]) -> Statement:
    if len(artifact.content) > MAX_ARTIFACT:
        raise malformed(f"got {len(artifact.content)} bytes, expected at most {MAX_ARTIFACT}")
    if artifact.media_type == simplesigning.MEDIA_TYPE:
        return _simple(artifact, image, keys)
    envelope, hint = _envelope(artifact)
    claimed = statement.claimed_type(envelope.payload)
    signed = _Envelope(envelope.signed_bytes, envelope.signature, hint, claimed)
    signer = _signer(signed, keys)
    try:
        kind, predicate_type, predicate = _predicate(envelope, image)
    except RefusedError as error:
        error.predicate_type = error.predicate_type or claimed
        error.signer_hint = signer.fingerprint
        raise
    return Statement(kind, predicate_type, predicate, signer, artifact.format, artifact.digest)


def _simple(artifact: Artifact, image: Digest, keys: Sequence[PublicKey]) -> Statement:
    signature = simplesigning.signature_of(artifact.annotations)
    signed = _Envelope(artifact.content, signature, None, simplesigning.TYPE)
    signer = _signer(signed, keys)
    try:
        predicate = simplesigning.read(artifact.content, image)
    except RefusedError as error:
        error.signer_hint = signer.fingerprint
        raise
    kind = StatementKind.SIGNATURE
    return Statement(kind, simplesigning.TYPE, predicate, signer, artifact.format, artifact.digest)


def _envelope(artifact: Artifact) -> tuple[dsse.Envelope, str | None]:
    """Open a bundle or a bare envelope, by how it was stored."""
    if artifact.format is EvidenceFormat.BUNDLE:
        parsed = bundle.parse(artifact.content)
        return parsed.envelope, parsed.hint
    if artifact.media_type != dsse.MEDIA_TYPE:
        raise malformed(f"got a layer of media type {artifact.media_type[:100]!r}")
    if simplesigning.CERTIFICATE_ANNOTATION in artifact.annotations:
        raise RefusedError(
            Reason.SIGNER_MISMATCH,
            "got a keyless attestation (it carries a certificate), expected a key pair's: "
            "keyless signatures are not read yet",
        )
    envelope = dsse.parse(artifact.content)
    return envelope, bundle.fingerprint_of_hint(envelope.keyid)


def _signer(signed: _Envelope, keys: Sequence[PublicKey]) -> Signer:
    """Find the trusted key that made the signature.

    The hint says which to try first and explains a refusal; it decides nothing.
    """
    for key in sorted(keys, key=lambda key: key.fingerprint != signed.hint):
        if verifies(key, signed.signature, signed.message):
            return Signer(key.fingerprint)
    named = next((key for key in keys if key.fingerprint == signed.hint), None)
    reason = Reason.SIGNER_MISMATCH
    if named is not None:
        reason = Reason.SIGNATURE_INVALID
        detail = f"it names key {signed.hint}, which is trusted and did not sign these bytes"
        if is_ed25519(named):
            detail += " (cosign's Ed25519ph is not read: use a P-256 key with cosign)"
    elif signed.hint is not None:
        detail = f"it names key {signed.hint}, which is none of the {len(keys)} trusted here"
    else:
        detail = f"it names no key, and none of the {len(keys)} trusted here made it"
    raise RefusedError(reason, detail, predicate_type=signed.claimed, signer_hint=signed.hint)


def _predicate(envelope: dsse.Envelope, image: Digest) -> tuple[StatementKind, str, Predicate]:
    if envelope.payload_type != dsse.PAYLOAD_TYPE:
        raise RefusedError(
            Reason.PREDICATE_MISMATCH,
            f"got payload type {envelope.payload_type[:100]!r}, expected {dsse.PAYLOAD_TYPE}",
        )
    found = statement.read(envelope.payload, image)
    match found.predicate_type:
        case provenance.TYPE:
            return StatementKind.PROVENANCE, provenance.TYPE, provenance.read(found.predicate)
        case testresult.TYPE:
            tests = testresult.read(found.predicate, found.commits)
            return StatementKind.TESTS, testresult.TYPE, tests
        case change.TYPE:
            return StatementKind.CHANGE, change.TYPE, change.read(found.predicate)
        case sign.SIGN_TYPE:
            return StatementKind.SIGNATURE, sign.SIGN_TYPE, _signature(found.subject)
        case other:
            raise RefusedError(
                Reason.PREDICATE_MISMATCH,
                f"got predicate type {other[:200]!r}, which is none of the four statements",
            )


def _signature(subject: statement.Subject) -> SimpleSignature:
    annotations = convert(subject.annotations or {}, dict[Text, Text], "annotations")
    return SimpleSignature(annotations=tuple(sorted(annotations.items())[:_SHOWN_ANNOTATIONS]))
