import base64
import json

import pytest

from tests.core.evidence.samples import (
    IMAGE,
    KEY,
    OTHER_KEY,
    PREDICATES,
    PROVENANCE,
    artifact,
    check,
    judge,
    only,
    signed_bytes,
    statement_json,
)
from trailgate.evidence import bundle, dsse, keys, provenance, sign, simplesigning, statement
from trailgate.evidence import verify as module
from trailgate.model.artifact import Artifact, Attached
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import EvidenceFormat, Rejected, Statement, StatementKind
from trailgate.model.image import ImageReference
from trailgate.model.reason import Reason

KINDS = {
    "https://slsa.dev/provenance/v1": StatementKind.PROVENANCE,
    "https://in-toto.io/attestation/test-result/v0.1": StatementKind.TESTS,
    "https://slsa.dev/verification_summary/v1": StatementKind.CHANGE,
}


def edited(good: Artifact, edit) -> Artifact:
    value = json.loads(good.content)
    edit(value)
    content = json.dumps(value).encode()
    return Artifact(good.format, good.media_type, content, Digest.of(content), good.annotations)


def reason(found) -> Reason:
    assert isinstance(found, Rejected), found
    return found.reason


# What holds.


def test_a_signature_is_a_fact_with_its_signer(stored):
    signed = sign.signature(IMAGE, KEY, stored, {"stage": "release"})
    found = only(check(artifact(signed)))
    assert isinstance(found, Statement)
    assert found.kind is StatementKind.SIGNATURE
    assert found.signer.fingerprint == KEY.public.fingerprint
    assert found.format is stored
    assert found.digest == Digest.of(signed.content)
    assert found.predicate.annotations == (("stage", "release"),)
    legacy = stored is EvidenceFormat.LEGACY
    assert found.predicate.docker_reference == (IMAGE.name if legacy else None)


@pytest.mark.parametrize("predicate_type", PREDICATES)
def test_every_attestation_is_read_in_both_formats(predicate_type, stored):
    signed = sign.attestation(IMAGE, predicate_type, PREDICATES[predicate_type], KEY, stored)
    found = only(check(artifact(signed)))
    assert isinstance(found, Statement), found
    assert (found.kind, found.predicate_type) == (KINDS[predicate_type], predicate_type)
    assert found.format is stored


def test_an_attestation_is_not_a_signature():
    signed = sign.attestation(IMAGE, provenance.TYPE, PROVENANCE, KEY, EvidenceFormat.BUNDLE)
    evidence = check(artifact(signed))
    assert evidence.of_kind(StatementKind.PROVENANCE)
    assert not evidence.of_kind(StatementKind.SIGNATURE)


def test_statement_v0_1_is_read():
    value = statement_json(provenance.TYPE, PROVENANCE, _type="https://in-toto.io/Statement/v0.1")
    assert isinstance(judge(value), Statement)


def test_the_key_is_found_among_several_and_named(stored):
    signed = sign.signature(IMAGE, KEY, stored)
    trusted = (OTHER_KEY.public, keys.generate().public, KEY.public)
    found = only(check(artifact(signed), trusted=trusted))
    assert found.signer.fingerprint == KEY.public.fingerprint


def test_a_hint_is_not_what_is_trusted():
    """A bundle with a foreign hint still verifies: the key decides, not the claim."""
    good = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE))
    for hint in ("", "my key", OTHER_KEY.public.fingerprint):
        changed = edited(
            good, lambda v, hint=hint: v["verificationMaterial"]["publicKey"].update(hint=hint)
        )
        assert only(check(changed)).signer.fingerprint == KEY.public.fingerprint


def test_unknown_fields_of_a_bundle_are_tolerated():
    good = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE))
    changed = edited(
        good,
        lambda v: (
            v.update(future={"a": 1}),
            v["verificationMaterial"].update(tlogEntries=[], timestampVerificationData={}),
        ),
    )
    assert isinstance(only(check(changed)), Statement)


def test_order_is_kept_and_one_bad_artifact_takes_no_other_away():
    good = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE))
    bad = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE), content=b"{")
    evidence = check(bad, good, bad)
    assert len(evidence.statements) == 1
    assert [item.reason for item in evidence.rejected] == [Reason.MALFORMED] * 2


def test_platforms_are_handed_on():
    platforms = (Digest("12" * 32),)
    assert module.verify(Attached(IMAGE, (), platforms), ()).platforms == platforms


# Signers.


def test_another_key_is_a_signer_mismatch_and_the_hint_says_whose(stored):
    signed = sign.signature(IMAGE, OTHER_KEY, stored)
    found = only(check(artifact(signed)))
    assert reason(found) is Reason.SIGNER_MISMATCH
    bundled = stored is EvidenceFormat.BUNDLE
    assert found.signer_hint == (OTHER_KEY.public.fingerprint if bundled else None)
    assert found.digest == signed.digest
    assert found.predicate_type == (sign.SIGN_TYPE if bundled else simplesigning.TYPE)


def test_without_keys_nothing_holds(stored):
    found = only(check(artifact(sign.signature(IMAGE, KEY, stored)), trusted=()))
    assert reason(found) is Reason.SIGNER_MISMATCH


def test_a_known_key_that_did_not_sign_these_bytes_is_signature_invalid():
    signed = sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE)
    payload = statement.write(IMAGE.with_digest(Digest("cd" * 32)), sign.SIGN_TYPE, {}, named=False)
    changed = edited(
        artifact(signed),
        lambda v: v["dsseEnvelope"].update(payload=base64.b64encode(payload).decode()),
    )
    found = only(check(changed))
    assert reason(found) is Reason.SIGNATURE_INVALID
    assert found.signer_hint == KEY.public.fingerprint


def test_a_changed_payload_type_breaks_the_signature():
    good = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE))
    changed = edited(good, lambda v: v["dsseEnvelope"].update(payloadType="text/plain"))
    assert reason(only(check(changed))) is Reason.SIGNATURE_INVALID


def test_a_tampered_simple_signature_matches_no_key():
    signed = sign.signature(IMAGE, KEY, EvidenceFormat.LEGACY)
    changed = artifact(signed, content=signed.content.replace(b'"optional"', b'"0ptional"'))
    assert reason(only(check(changed))) is Reason.SIGNER_MISMATCH


def test_a_simple_signature_cannot_be_carried_to_another_payload():
    one = sign.signature(IMAGE, KEY, EvidenceFormat.LEGACY)
    two = sign.signature(IMAGE, KEY, EvidenceFormat.LEGACY, {"a": "b"})
    changed = artifact(two, annotations=dict(one.annotations))
    assert reason(only(check(changed))) is Reason.SIGNER_MISMATCH


@pytest.mark.parametrize("material", ["certificate", "x509CertificateChain"])
def test_keyless_bundles_are_recognised(material):
    good = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE))
    changed = edited(good, lambda v: v["verificationMaterial"].update({material: {"rawBytes": ""}}))
    found = only(check(changed))
    assert reason(found) is Reason.SIGNER_MISMATCH
    assert "keyless" in found.detail


def test_keyless_legacy_is_recognised():
    simple = sign.signature(IMAGE, KEY, EvidenceFormat.LEGACY)
    attested = sign.attestation(IMAGE, provenance.TYPE, PROVENANCE, KEY, EvidenceFormat.LEGACY)
    for signed in (simple, attested):
        certified = {**signed.annotations, simplesigning.CERTIFICATE_ANNOTATION: "PEM"}
        found = only(check(artifact(signed, annotations=certified)))
        assert reason(found) is Reason.SIGNER_MISMATCH
        assert "keyless" in found.detail


# What was signed.


def test_another_payload_type_is_a_predicate_mismatch():
    payload = json.dumps(statement_json(provenance.TYPE, PROVENANCE)).encode()
    found = only(check(signed_bytes(payload, payload_type="application/json")))
    assert reason(found) is Reason.PREDICATE_MISMATCH


@pytest.mark.parametrize(
    "kind", ["https://in-toto.io/Statement/v2", "https://in-toto.io/Link/v1", ""]
)
def test_another_statement_type_is_a_predicate_mismatch(kind):
    value = statement_json(provenance.TYPE, PROVENANCE, _type=kind)
    assert reason(judge(value)) is Reason.PREDICATE_MISMATCH


@pytest.mark.parametrize(
    "predicate_type",
    [
        "https://slsa.dev/provenance/v0.2",
        "https://slsa.dev/provenance/v1 ",
        "https://spdx.dev/Document",
        "cosign container image signature",
        "",
    ],
)
def test_an_unknown_predicate_proves_nothing(predicate_type):
    found = judge(statement_json(predicate_type, PROVENANCE))
    assert reason(found) is Reason.PREDICATE_MISMATCH
    assert found.predicate_type == predicate_type
    assert found.signer_hint == KEY.public.fingerprint


def test_a_signature_over_a_bare_message_proves_nothing():
    """A key that signs files as well must not have signed an image by that."""
    good = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE))

    def bare(value):
        del value["dsseEnvelope"]
        value["messageSignature"] = {
            "messageDigest": {"algorithm": "SHA2_256", "digest": ""},
            "signature": "",
        }

    assert reason(only(check(edited(good, bare)))) is Reason.PREDICATE_MISMATCH


def test_a_statement_about_another_image_is_an_evidence_mismatch(stored):
    other = ImageReference.parse("ghcr.io/acme/web@sha256:" + "cd" * 32)
    simple = sign.signature(other, KEY, stored)
    attested = sign.attestation(other, provenance.TYPE, PROVENANCE, KEY, stored)
    for signed in (simple, attested):
        found = only(check(artifact(signed)))
        assert reason(found) is Reason.EVIDENCE_MISMATCH
        assert found.signer_hint == KEY.public.fingerprint


def subjects(*digests):
    return [{"digest": digest} for digest in digests]


RIGHT = IMAGE.digest.hex


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (subjects({"sha256": "cd" * 32}, {"sha256": RIGHT}), None),
        (subjects({"sha256": RIGHT, "sha512": "x"}, {"gitCommit": "1f" * 20}), None),
        ([], Reason.MALFORMED),
        (subjects({"sha256": RIGHT.upper()}), Reason.MALFORMED),
        (subjects({"sha256": RIGHT}, {"sha256": "CD" * 32}), Reason.MALFORMED),
        (subjects({"sha256": f"sha256:{RIGHT}"}), Reason.MALFORMED),
        (subjects({"sha256": f"{RIGHT}\n"}), Reason.MALFORMED),
        (subjects({"sha256": RIGHT[:-1]}), Reason.MALFORMED),
        (subjects({"sha256": 7}), Reason.MALFORMED),
        (subjects({"SHA256": RIGHT}), Reason.EVIDENCE_MISMATCH),
        (subjects({"sha512": RIGHT}), Reason.EVIDENCE_MISMATCH),
        (subjects({}), Reason.EVIDENCE_MISMATCH),
        (subjects({"sha256": RIGHT}) * 1025, Reason.MALFORMED),
        ({"digest": {"sha256": RIGHT}}, Reason.MALFORMED),
        ("x", Reason.MALFORMED),
        (None, Reason.MALFORMED),
    ],
)
def test_the_subject_is_matched_exactly(subject, expected):
    found = judge(statement_json(sign.SIGN_TYPE, {}, subject=subject))
    assert (found.reason if isinstance(found, Rejected) else None) is expected


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("critical", "type"), "atomic container signature", Reason.PREDICATE_MISMATCH),
        (("critical", "type"), "", Reason.PREDICATE_MISMATCH),
        (("critical", "image", "docker-manifest-digest"), RIGHT, Reason.MALFORMED),
        (
            ("critical", "image", "docker-manifest-digest"),
            f"sha256:{RIGHT.upper()}",
            Reason.MALFORMED,
        ),
        (
            ("critical", "image", "docker-manifest-digest"),
            "sha256:" + "cd" * 32,
            Reason.EVIDENCE_MISMATCH,
        ),
        (("critical", "identity", "docker-reference"), 7, Reason.MALFORMED),
        (("critical", "identity", "docker-reference"), "a\x1b[2J", Reason.MALFORMED),
        (("critical", "image"), None, Reason.MALFORMED),
        (("optional",), [], Reason.MALFORMED),
        (("optional",), {"timestamp": 1, "creator": "x"}, None),
        (("critical", "identity", "docker-reference"), "", None),
    ],
)
def test_the_simple_signing_payload_is_checked(path, value, expected):
    payload = json.loads(simplesigning.write(IMAGE, {}))
    place = payload
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    content = json.dumps(payload).encode()
    made = Artifact(
        EvidenceFormat.LEGACY,
        simplesigning.MEDIA_TYPE,
        content,
        Digest.of(content),
        simplesigning.sign(content, KEY),
    )
    found = only(check(made))
    assert (found.reason if isinstance(found, Rejected) else None) is expected


@pytest.mark.parametrize("annotations", [{"a": 1}, {"a": "\x1b[2J"}, {"": "x"}, ["a"]])
def test_annotations_of_a_signature_are_plain_text(annotations):
    value = statement_json(sign.SIGN_TYPE, {})
    value["subject"][0]["annotations"] = annotations
    assert reason(judge(value)) is Reason.MALFORMED


# Form.


@pytest.mark.parametrize(
    "edit",
    [
        lambda v: v.pop("mediaType"),
        lambda v: v.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2"),
        lambda v: v.update(mediaType="application/vnd.dev.sigstore.bundle.v0.4+json"),
        lambda v: v.pop("verificationMaterial"),
        lambda v: v.update(verificationMaterial={}),
        lambda v: v.update(verificationMaterial={"publicKey": {"hint": 7}}),
        lambda v: v.pop("dsseEnvelope"),
        lambda v: v.update(messageSignature={}),
        lambda v: v["dsseEnvelope"].update(signatures=[]),
        lambda v: v["dsseEnvelope"].update(signatures=v["dsseEnvelope"]["signatures"] * 2),
        lambda v: v["dsseEnvelope"].update(signatures=[{"sig": None}]),
        lambda v: v["dsseEnvelope"].pop("payloadType"),
        lambda v: v["dsseEnvelope"].update(payload=v["dsseEnvelope"]["payload"] + "\n"),
        lambda v: v["dsseEnvelope"].update(payload=" " + v["dsseEnvelope"]["payload"]),
        lambda v: v["dsseEnvelope"].update(payload="-_8="),
        lambda v: v["dsseEnvelope"].update(payload="YR=="),
        lambda v: v["dsseEnvelope"].update(payload="YQ"),
        lambda v: v["dsseEnvelope"].update(payload="ÿÿÿÿ"),
        lambda v: v["dsseEnvelope"]["signatures"][0].update(sig="!"),
    ],
)
def test_a_bundle_of_another_form_is_malformed(edit):
    good = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE))
    assert reason(only(check(edited(good, edit)))) is Reason.MALFORMED


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"7", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000],
    ids=lambda content: repr(content[:12]),
)
@pytest.mark.parametrize(
    "media_type", [bundle.MEDIA_TYPE, dsse.MEDIA_TYPE, simplesigning.MEDIA_TYPE]
)
def test_garbage_is_malformed(content, media_type):
    form = EvidenceFormat.BUNDLE if media_type == bundle.MEDIA_TYPE else EvidenceFormat.LEGACY
    made = Artifact(form, media_type, content, Digest.of(content))
    assert reason(only(check(made))) is Reason.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b'{"_type":"https://in-toto.io/Statement/v1","_type":"https://in-toto.io/Statement/v1"}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":"\\ud800"}',
        b'{"a":' + b"9" * 10_000 + b"}",
        b"{} {}",
        b"[" * 2000 + b"]" * 2000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_a_signed_payload_that_is_no_statement_is_malformed(payload):
    assert reason(only(check(signed_bytes(payload)))) is Reason.MALFORMED


def test_a_key_given_twice_anywhere_in_a_statement_is_malformed():
    text = json.dumps(statement_json(provenance.TYPE, PROVENANCE))
    twice = text.replace('"gitCommit":', '"gitCommit": "' + "9" * 40 + '", "gitCommit":')
    assert twice != text
    found = only(check(signed_bytes(twice.encode())))
    assert reason(found) is Reason.MALFORMED
    assert "twice" in found.detail


def test_sizes_are_bounded():
    huge = Artifact(
        EvidenceFormat.BUNDLE, bundle.MEDIA_TYPE, b" " * (8 * 2**20 + 1), Digest("00" * 32)
    )
    assert reason(only(check(huge))) is Reason.MALFORMED
    long = statement_json(sign.SIGN_TYPE, {"x": "y" * (4 * 2**20)})
    found = judge(long)
    assert reason(found) is Reason.MALFORMED
    assert "at most" in found.detail


def test_a_layer_of_another_media_type_is_malformed():
    signed = sign.attestation(IMAGE, provenance.TYPE, PROVENANCE, KEY, EvidenceFormat.LEGACY)
    assert reason(only(check(artifact(signed, media_type="text/plain")))) is Reason.MALFORMED


def test_a_simple_signature_needs_its_annotation():
    signed = sign.signature(IMAGE, KEY, EvidenceFormat.LEGACY)
    for annotations in ({}, {simplesigning.SIGNATURE_ANNOTATION: ""}):
        found = only(check(artifact(signed, annotations=annotations)))
        assert reason(found) is Reason.MALFORMED


def test_what_was_not_foreseen_becomes_a_rejection(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(module.statement, "read", fail)
    found = check(artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE)))
    assert reason(only(found)) is Reason.INTERNAL
    assert len(found.unread) == 1
    assert "MemoryError" in found.unread[0]


def test_what_was_not_fetched_stays_unread():
    signed = artifact(sign.signature(IMAGE, KEY, EvidenceFormat.BUNDLE))
    attached = Attached(IMAGE, (signed,), skipped=("a", "b"), unread=("b",))
    assert module.verify(attached, (KEY.public,)).unread == ("b",)
    assert check(signed).unread == ()


def test_an_image_without_a_digest_is_a_mistake_of_the_caller():
    with pytest.raises(MalformedError):
        module.verify(Attached(ImageReference.parse("a/b:c"), ()), ())
    with pytest.raises(MalformedError):
        sign.signature(ImageReference.parse("a/b:c"), KEY, EvidenceFormat.BUNDLE)
    with pytest.raises(MalformedError):
        sign.signature(ImageReference.parse("a/b:c"), KEY, EvidenceFormat.LEGACY)
