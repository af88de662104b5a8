"""The spool's batches: claims on their way from the gate to the recorder.

One batch is one Admission object. It says in clear what is not personal, holds its
claims sealed to the recorder, follows the batch before it, and is signed by the gate
process that wrote it. ADR 0001 says why.

- Seal: HPKE (RFC 9180), DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, single
  shot; ``info`` is the purpose and the clear header, so a seal fits no other header.
  The plaintext is the zlib-compressed RFC 8785 array of the claims.
- Signature: Ed25519 over the purpose, a line feed and the RFC 8785 form of the
  specification without ``signature``.
- Chain: ``prev`` is the SHA-256 of the RFC 8785 form of the previous batch's whole
  specification; of batch 0, of the boot id.

A specification has no nulls: the API server would drop them.
"""

from __future__ import annotations

import base64
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import orjson
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from trailgate.ledger.spoolkeys import key_id
from trailgate.model.canonical import canonical, fingerprint
from trailgate.model.digest import Digest
from trailgate.model.errors import TrailgateError

FORMAT = "trailgate.dev/spool/v1"
MAX_CLAIMS = 64
"""Claims in one batch, at most."""
MAX_PLAIN = 1024 * 1024
"""Bytes of all claims of a batch before compression: sealed and in base64 they stay
below etcd's limit of 1.5 MiB even where nothing compresses."""

_SEAL = b"trailgate.dev/spool/v1 seal\n"
_SIGN = b"trailgate.dev/spool/v1 sign\n"
_OBJECTS = 8
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class SpoolError(TrailgateError):
    """A batch can't be made or taken; the subclass says why, the text says which batch."""


class BatchTooLargeError(SpoolError):
    """More claims than one batch holds: make two."""


class BatchMalformedError(SpoolError):
    """The specification, or what was sealed in it, doesn't have a batch's form."""


class WrongNameError(SpoolError):
    """The object's name isn't the batch's own: a copy, or somebody else's batch."""


class UnknownSignerError(SpoolError):
    """The batch names a signing key that no gate of ours has."""


class BadSignatureError(SpoolError):
    """The signature isn't one of this batch by the key that it names."""


class UnknownRecorderKeyError(SpoolError):
    """The batch is sealed to a key that this recorder doesn't have."""


class UnreadableSealError(SpoolError):
    """What is sealed can't be opened: other bytes, or another header, than were sealed."""


class BatchKind(StrEnum):
    """What a batch holds."""

    STARTED = "started"
    """Number 0: a process announces itself."""
    ADMITTED = "admitted"
    REFUSED = "refused"
    """Refusals, counted; and gaps."""
    ENDED = "ended"
    """The last number: nothing follows."""


@dataclass(frozen=True, slots=True)
class Link:
    """A batch's place in its process's chain."""

    boot: str
    seq: int
    prev: Digest

    @classmethod
    def first(cls, boot: str) -> Link:
        """Give the place of batch 0."""
        return cls(boot, 0, Digest.of(boot.encode()))

    @property
    def name(self) -> str:
        """The name of the object: ``<boot>-<seq>``, ten digits, so that names sort."""
        return f"{self.boot}-{self.seq:010d}"


@dataclass(frozen=True, slots=True)
class ObjectName:
    """What an admitted claim is about, in clear."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, as it is stored."""

    link: Link
    kind: BatchKind
    claims: int
    """How many are sealed in it."""
    decided_from: str
    """The earliest and latest ``decidedAt`` of its claims, RFC 3339."""
    decided_to: str
    objects: tuple[ObjectName, ...]
    """Some of what its claims are about, for people looking at the spool: at most eight."""
    recorder: Digest
    """Key id that it is sealed to."""
    signer: Digest
    """Key id of the process's signing key."""
    sealed: bytes = field(repr=False, default=b"")
    signature: bytes = field(repr=False, default=b"")

    @property
    def name(self) -> str:
        """The name of the Admission object."""
        return self.link.name

    @property
    def digest(self) -> Digest:
        """What the next batch's ``prev`` has to be."""
        return fingerprint(self.to_spec())

    def following(self) -> Link:
        """Give the place of the next batch."""
        return Link(self.link.boot, self.link.seq + 1, self.digest)

    def header(self) -> dict[str, Any]:
        """Give everything that stands in clear, but for the signature."""
        return {
            "format": FORMAT,
            "boot": self.link.boot,
            "seq": self.link.seq,
            "prev": str(self.link.prev),
            "kind": self.kind.value,
            "claims": self.claims,
            "decidedFrom": self.decided_from,
            "decidedTo": self.decided_to,
            "objects": [
                {"kind": one.kind, "namespace": one.namespace, "name": one.name}
                for one in self.objects
            ],
            "recorderKey": str(self.recorder),
            "signerKey": str(self.signer),
        }

    def unsigned(self) -> dict[str, Any]:
        """Give the specification without its signature: what is signed."""
        return self.header() | {"sealed": base64.b64encode(self.sealed).decode()}

    def to_spec(self) -> dict[str, Any]:
        """Give the Admission's specification: plain JSON without nulls."""
        return self.unsigned() | {"signature": base64.b64encode(self.signature).decode()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Batch:
        """Read a specification; raises ``BatchMalformedError`` for any other form."""
        try:
            wire = msgspec.convert(dict(spec), _Wire)
            return wire.batch(cls)
        except ValueError as error:  # also msgspec.ValidationError and MalformedError
            raise BatchMalformedError(f"got no batch of {FORMAT}: {error}") from error


_Boot = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]{8,40}\Z")]
_Time = Annotated[str, msgspec.Meta(pattern=r"\A[0-9T:.-]{26}Z\Z")]
_Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_CLAIMS)]
_Short = Annotated[str, msgspec.Meta(max_length=253)]
_Seq = Annotated[int, msgspec.Meta(ge=0, le=9_999_999_999)]


class _ObjectWire(msgspec.Struct, forbid_unknown_fields=True):
    kind: _Short
    namespace: _Short
    name: _Short


class _Wire(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    format: Annotated[str, msgspec.Meta(pattern=rf"\A{FORMAT}\Z")]
    boot: _Boot
    seq: _Seq
    prev: str
    kind: BatchKind
    claims: _Count
    decided_from: _Time
    decided_to: _Time
    objects: Annotated[list[_ObjectWire], msgspec.Meta(max_length=_OBJECTS)]
    recorder_key: str
    signer_key: str
    sealed: str
    signature: str

    def batch(self, kind: type[Batch]) -> Batch:
        return kind(
            link=Link(self.boot, self.seq, Digest.parse(self.prev)),
            kind=self.kind,
            claims=self.claims,
            decided_from=self.decided_from,
            decided_to=self.decided_to,
            objects=tuple(ObjectName(one.kind, one.namespace, one.name) for one in self.objects),
            recorder=Digest.parse(self.recorder_key),
            signer=Digest.parse(self.signer_key),
            sealed=_decoded(self.sealed),
            signature=_decoded(self.signature),
        )


def _decoded(text: str) -> bytes:
    content = base64.b64decode(text, validate=True)
    if base64.b64encode(content).decode() != text:  # one batch has one spelling
        raise ValueError("got base64 in an unusual spelling")
    return content


def new_boot(at: datetime) -> str:
    """Make up a boot id: the start's second and 10 random bytes, in hex, so that ids sort."""
    return f"{int(at.timestamp()):08x}{secrets.token_hex(10)}"


def seal(
    claims: Sequence[Mapping[str, Any]],
    *,
    link: Link,
    kind: BatchKind,
    recorder_key: X25519PublicKey,
    signer: Ed25519PrivateKey,
) -> Batch:
    """Seal claims into the batch of this place, and sign it.

    Sealing is randomised: a write that is retried must send the same batch again, not
    one that is sealed anew. Raises ``BatchTooLargeError``.
    """
    plain = canonical([dict(claim) for claim in claims])
    if not 1 <= len(claims) <= MAX_CLAIMS or len(plain) > MAX_PLAIN:
        raise BatchTooLargeError(
            f"got {len(claims)} claims of {len(plain)} bytes for {link.name}, "
            f"expected 1 to {MAX_CLAIMS} of at most {MAX_PLAIN}"
        )
    times = sorted(claim["decidedAt"] for claim in claims)
    batch = Batch(
        link=link,
        kind=kind,
        claims=len(claims),
        decided_from=times[0],
        decided_to=times[-1],
        objects=_objects(claims),
        recorder=key_id(recorder_key),
        signer=key_id(signer.public_key()),
    )
    info = _SEAL + canonical(batch.header())
    batch = replace(batch, sealed=_SUITE.encrypt(zlib.compress(plain), recorder_key, info))
    return replace(batch, signature=signer.sign(_SIGN + canonical(batch.unsigned())))


def _objects(claims: Sequence[Mapping[str, Any]]) -> tuple[ObjectName, ...]:
    named = (claim["object"] for claim in claims if "object" in claim)
    found = dict.fromkeys(
        ObjectName(one["kind"], one["namespace"], one["name"][:253]) for one in named
    )
    return tuple(found)[:_OBJECTS]


def open_batch(
    batch: Batch,
    *,
    name: str,
    recorder_keys: Sequence[X25519PrivateKey],
    signer_keys: Mapping[Digest, Ed25519PublicKey],
) -> tuple[dict[str, Any], ...]:
    """Check a batch that stands under ``name``, and open it: the claims, in order.

    ``signer_keys`` are the gates' public keys by ``key_id``. Raises ``WrongNameError``,
    ``UnknownSignerError``, ``BadSignatureError``, ``UnknownRecorderKeyError``,
    ``UnreadableSealError`` or ``BatchMalformedError``. Whether it follows from the batch
    before it is ``chain.follow``'s business.
    """
    if name != batch.name:
        raise WrongNameError(f"got batch {batch.name} under the name {name}")
    key = signer_keys.get(batch.signer)
    if key is None or key_id(key) != batch.signer:
        raise UnknownSignerError(f"batch {name} names signer {batch.signer}, which is unknown")
    try:
        key.verify(batch.signature, _SIGN + canonical(batch.unsigned()))
    except InvalidSignature as error:
        raise BadSignatureError(f"batch {name} is not signed by {batch.signer}") from error
    private = next((k for k in recorder_keys if key_id(k.public_key()) == batch.recorder), None)
    if private is None:
        raise UnknownRecorderKeyError(f"batch {name} is sealed to {batch.recorder}, not to us")
    try:
        packed = _SUITE.decrypt(batch.sealed, private, _SEAL + canonical(batch.header()))
    except (InvalidTag, ValueError) as error:
        raise UnreadableSealError(f"batch {name} can't be unsealed") from error
    return _claims(packed, batch)


def _claims(packed: bytes, batch: Batch) -> tuple[dict[str, Any], ...]:
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, MAX_PLAIN + 1)
        claims = orjson.loads(plain)
    except (zlib.error, ValueError) as error:
        raise BatchMalformedError(f"what batch {batch.name} seals is not JSON") from error
    if (
        not unpacker.eof
        or not isinstance(claims, list)
        or len(claims) != batch.claims
        or not all(isinstance(claim, dict) for claim in claims)
    ):
        raise BatchMalformedError(f"batch {batch.name} does not seal {batch.claims} claims")
    return tuple(claims)
