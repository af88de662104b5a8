"""in-toto statements: which image, and what kind of thing is said about it.

Form: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md, and v0.1,
which cosign still writes in places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from trailgate.evidence.errors import RefusedError, malformed
from trailgate.evidence.wire import convert, decode_signed
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason

V1 = "https://in-toto.io/Statement/v1"
V01 = "https://in-toto.io/Statement/v0.1"
_MAX_SUBJECTS = 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Subject(msgspec.Struct):
    """One thing that a statement is about."""

    digest: dict[str, str]
    name: str | None = None
    annotations: dict[str, Any] | None = None


class _Head(msgspec.Struct):
    type: str = msgspec.field(name="_type")
    predicate_type: str = msgspec.field(name="predicateType")


class _Statement(msgspec.Struct):
    subject: list[Subject]
    predicate: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement about the image that was asked for; its predicate is not yet read."""

    predicate_type: str
    predicate: Mapping[str, Any]
    subject: Subject
    """The one that names the image."""
    commits: frozenset[str]
    """``gitCommit`` digests that stand beside it."""


def claimed_type(payload: bytes) -> str | None:
    """Read what an unverified payload says that it is; None where it cannot be read."""
    try:
        claimed = msgspec.json.decode(payload, type=_Head).predicate_type[:200]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return claimed if claimed.isprintable() else None


def read(payload: bytes, image: Digest) -> Statement:
    """Read a statement whose signature verified.

    The image must be a subject by SHA-256, spelled in lower case; a subject with
    another spelling makes the whole statement ``Malformed``. Raises
    ``RefusedError``: ``Malformed``, ``PredicateMismatch`` (another ``_type``),
    ``EvidenceMismatch`` (another image).
    """
    what = "a statement"
    value = decode_signed(payload, what)
    head = convert(value, _Head, what)
    if head.type not in (V1, V01):
        raise RefusedError(
            Reason.PREDICATE_MISMATCH,
            f"got a statement of _type {head.type[:100]!r}, expected {V1}",
            predicate_type=head.predicate_type[:200],
        )
    body = convert(value, _Statement, what)
    subject = _about(body.subject, image)
    commits = (item.digest.get("gitCommit") for item in body.subject)
    return Statement(
        head.predicate_type,
        body.predicate or {},
        subject,
        frozenset(commit for commit in commits if commit is not None),
    )


def write(
    image: ImageReference,
    predicate_type: str,
    predicate: Mapping[str, Any],
    *,
    named: bool = True,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Write a v1 statement about an image: JSON, UTF-8.

    ``MalformedError`` where the image is not named by digest.
    """
    if image.digest is None:
        raise MalformedError(f"got {image}, expected an image by digest")
    subject: dict[str, Any] = {"name": image.name} if named else {}
    subject["digest"] = {"sha256": image.digest.hex}
    if annotations:
        subject["annotations"] = dict(annotations)
    value = {
        "_type": V1,
        "subject": [subject],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _about(subjects: list[Subject], image: Digest) -> Subject:
    if not 0 < len(subjects) <= _MAX_SUBJECTS:
        raise malformed(f"got {len(subjects)} subjects, expected 1 to {_MAX_SUBJECTS}")
    matching: list[Subject] = []
    for subject in subjects:
        text = subject.digest.get("sha256")
        if text is not None and not _SHA256.fullmatch(text):
            raise malformed(
                f"got subject digest {text[:80]!r}, expected 64 lower-case hexadecimal digits"
            )
        if text == image.hex:
            matching.append(subject)
    if not matching:
        named = next((s.digest["sha256"] for s in subjects if "sha256" in s.digest), "no SHA-256")
        raise RefusedError(
            Reason.EVIDENCE_MISMATCH, f"got a statement about {named}, expected about {image}"
        )
    return matching[0]
