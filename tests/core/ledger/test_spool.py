from __future__ import annotations

import base64
import copy
import json
import os
import zlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.ledger import example_records as ex
from trailgate.ledger import record as rec
from trailgate.ledger import spool, spoolkeys
from trailgate.ledger.spool import Batch, BatchKind, Link
from trailgate.model.canonical import canonical
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError

RECORDER = X25519PrivateKey.generate()
SIGNER = Ed25519PrivateKey.generate()
KEYS = {spoolkeys.key_id(SIGNER.public_key()): SIGNER.public_key()}
BOOT = "6b043a38898260488e75a2e1"
CLAIM = rec.admitted(ex.release(), ex.CONTEXT)


def sealed(*claims, link=None, kind=BatchKind.ADMITTED, recorder=RECORDER, signer=SIGNER) -> Batch:
    return spool.seal(
        claims or (CLAIM,),
        link=link or Link.first(BOOT),
        kind=kind,
        recorder_key=recorder.public_key(),
        signer=signer,
    )


def opened(batch: Batch, *, name=None, recorders=(RECORDER,), signers=KEYS):
    return spool.open_batch(
        batch, name=name or batch.name, recorder_keys=recorders, signer_keys=signers
    )


def resigned(batch: Batch, signer=SIGNER) -> Batch:
    """The same batch with a good signature over whatever it says now."""
    return replace(batch, signature=signer.sign(spool._SIGN + canonical(batch.unsigned())))


def test_what_was_sealed_comes_out_in_order():
    refused = rec.refused(ex.refused_group(), ex.CONTEXT)
    assert opened(sealed(CLAIM, refused)) == (CLAIM, refused)


def test_it_survives_the_way_through_an_api_server():
    batch = sealed()
    spec = json.loads(json.dumps(batch.to_spec()))
    spec = dict(sorted(spec.items(), reverse=True))
    assert Batch.from_spec(spec) == batch
    assert Batch.from_spec(spec).digest == batch.digest
    assert opened(Batch.from_spec(spec)) == (CLAIM,)


def test_the_specification_has_no_nulls_and_is_small():
    spec = sealed().to_spec()
    assert None not in _leaves(spec)
    assert len(json.dumps(spec)) < 5_000


def _leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def test_nothing_personal_stands_in_clear():
    request = replace(ex.release().request, caller=ex.LAPTOP)
    claim = rec.admitted(replace(ex.release(), request=request), ex.CONTEXT)
    text = json.dumps(sealed(claim).to_spec())
    personal = [person["id"] for person in claim["people"]] + claim["texts"]
    personal += [person["login"] for person in claim["people"] if person["login"]]
    assert len(personal) > 8
    assert not [word for word in personal if word in text]


def test_the_clear_part_says_what_people_looking_at_the_spool_need():
    later = copy.deepcopy(CLAIM)
    later["decidedAt"] = "2026-11-23T13:06:01.000000Z"
    spec = sealed(later, CLAIM).to_spec()
    assert spec["claims"] == 2
    assert spec["decidedFrom"] == "2026-11-23T13:06:00.250000Z"
    assert spec["decidedTo"] == "2026-11-23T13:06:01.000000Z"
    assert spec["objects"] == [{"kind": "Deployment", "namespace": "shop", "name": "web"}]
    assert spec["kind"] == "admitted"


def test_at_most_eight_objects_are_named():
    claims = []
    for number in range(12):
        claim = copy.deepcopy(CLAIM)
        claim["object"]["name"] = f"web-{number}"
        claims.append(claim)
    batch = sealed(*claims)
    assert len(batch.objects) == 8
    assert len(opened(batch)) == 12


def test_names_are_boot_and_number_and_sort():
    first = Link.first(BOOT)
    assert first.name == f"{BOOT}-0000000000"
    names = [replace(first, seq=seq).name for seq in (2, 10, 9_999_999_999)]
    assert names == sorted(names)


def test_the_next_place_follows_from_the_whole_batch():
    batch = sealed()
    link = batch.following()
    assert (link.boot, link.seq, link.prev) == (BOOT, 1, batch.digest)
    assert Link.first(BOOT).prev == Digest.of(BOOT.encode())
    assert sealed().following().prev != link.prev  # sealing is randomised


def test_boot_ids_sort_by_time_and_differ():
    early = spool.new_boot(datetime(2026, 1, 1, tzinfo=UTC))
    late = spool.new_boot(datetime(2026, 1, 2, tzinfo=UTC))
    assert early < late
    assert spool.new_boot(ex.NOW) != spool.new_boot(ex.NOW)
    batch = sealed(link=Link.first(early))
    assert Batch.from_spec(batch.to_spec()) == batch


# --- what is refused, each with its own error ---------------------------------------


def test_a_batch_under_another_name_is_refused():
    batch = sealed()
    for name in (f"{BOOT}-0000000001", f"{BOOT}-0", "copy", batch.name.upper()):
        with pytest.raises(spool.WrongNameError):
            opened(batch, name=name)


def test_a_batch_renumbered_to_fit_its_name_is_refused():
    batch = sealed()
    moved = replace(batch, link=replace(batch.link, seq=7))
    with pytest.raises(spool.BadSignatureError):
        opened(moved)


def test_an_unknown_signer_is_refused():
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(spool.UnknownSignerError):
        opened(sealed(signer=stranger))
    with pytest.raises(spool.UnknownSignerError):
        opened(sealed(), signers={})


def test_a_key_filed_under_another_key_s_id_is_refused():
    stranger = Ed25519PrivateKey.generate()
    misfiled = {spoolkeys.key_id(SIGNER.public_key()): stranger.public_key()}
    with pytest.raises(spool.UnknownSignerError):
        opened(resigned(sealed(), stranger), signers=misfiled)


def test_a_stranger_s_signature_in_a_known_signer_s_name_is_refused():
    with pytest.raises(spool.BadSignatureError):
        opened(resigned(sealed(), Ed25519PrivateKey.generate()))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": BatchKind.REFUSED},
        {"claims": 2},
        {"decided_from": "2025-11-23T13:06:00.250000Z"},
        {"decided_to": "2027-11-23T13:06:00.250000Z"},
        {"objects": ()},
        {"sealed": b"x" * 64},
        {"signature": b""},
        {"signature": b"x" * 64},
        {"link": Link(BOOT, 0, Digest.of(b"another past"))},
    ],
    ids=str,
)
def test_any_change_breaks_the_signature(change):
    with pytest.raises(spool.BadSignatureError):
        opened(replace(sealed(), **change))


def test_a_signature_made_for_another_purpose_is_refused():
    batch = sealed()
    plain = replace(batch, signature=SIGNER.sign(canonical(batch.unsigned())))
    with pytest.raises(spool.BadSignatureError):
        opened(plain)


def test_a_batch_sealed_to_somebody_else_is_refused():
    other = X25519PrivateKey.generate()
    with pytest.raises(spool.UnknownRecorderKeyError):
        opened(sealed(recorder=other))
    with pytest.raises(spool.UnknownRecorderKeyError):
        opened(sealed(), recorders=())


def test_an_old_recorder_key_still_opens_what_was_sealed_to_it():
    new = X25519PrivateKey.generate()
    assert opened(sealed(), recorders=(new, RECORDER)) == (CLAIM,)


def test_a_spoiled_seal_is_refused():
    batch = sealed()
    spoiled = bytearray(batch.sealed)
    spoiled[-1] ^= 1
    for content in (bytes(spoiled), b"", b"short", batch.sealed[:-1]):
        with pytest.raises(spool.UnreadableSealError):
            opened(resigned(replace(batch, sealed=content)))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": BatchKind.REFUSED},
        {"claims": 2},
        {"decided_to": "2027-11-23T13:06:00.250000Z"},
        {"link": Link(BOOT, 1, Digest.of(b"x"))},
        {"link": Link("another0", 0, Digest.of(b"another0"))},
    ],
    ids=str,
)
def test_a_seal_fits_no_other_header(change):
    with pytest.raises(spool.UnreadableSealError):
        opened(resigned(replace(sealed(), **change)))


def _sealing(plain: bytes, claims: int = 1) -> Batch:
    """A well-signed batch that seals these bytes."""
    batch = replace(sealed(), claims=claims)
    info = spool._SEAL + canonical(batch.header())
    content = spool._SUITE.encrypt(plain, RECORDER.public_key(), info)
    return resigned(replace(batch, sealed=content))


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"not compressed",
        zlib.compress(b"not json"),
        zlib.compress(b"{}"),
        zlib.compress(b"[1]"),
        zlib.compress(b"[{},{}]"),
        zlib.compress(b"[]"),
        zlib.compress(b"[{}]")[:-2],
        zlib.compress(b" " * (spool.MAX_PLAIN + 1) + b"[{}]"),
        zlib.compress(b"\xff"),
    ],
    ids=range(10),
)
def test_what_is_sealed_has_to_be_the_claims(plain):
    with pytest.raises(spool.BatchMalformedError):
        opened(_sealing(plain))


def test_the_negative_ones_would_pass_with_the_right_content():
    assert opened(_sealing(zlib.compress(b"[{}]"))) == ({},)


def test_a_bomb_is_not_unpacked():
    bomb = zlib.compress(b"[" + b" " * 60_000_000 + b"]")
    with pytest.raises(spool.BatchMalformedError):
        opened(_sealing(bomb))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "trailgate.dev/spool/v2"),
        ("boot", "UPPER"),
        ("boot", "short"),
        ("boot", BOOT + "\n"),
        ("boot", None),
        ("seq", -1),
        ("seq", "0"),
        ("seq", 1.5),
        ("seq", 10_000_000_000),
        ("prev", ""),
        ("prev", "sha256:" + "A" * 64),
        ("kind", "child"),
        ("claims", 0),
        ("claims", 65),
        ("decidedFrom", "yesterday"),
        ("decidedTo", "2026-11-23T13:06:00Z"),
        ("objects", [{"kind": "Deployment"}]),
        ("objects", [{"kind": "D", "namespace": "n", "name": "x" * 254}]),
        ("objects", [{"kind": "D", "namespace": "n", "name": "x"}] * 9),
        ("recorderKey", "me"),
        ("signerKey", "sha512:00"),
        ("sealed", "not base64!"),
        ("signature", "AB"),
        ("signature", "AB=="),
        ("surprise", 1),
    ],
)
def test_a_specification_of_another_form_is_refused(field, value):
    with pytest.raises(spool.BatchMalformedError):
        Batch.from_spec(sealed().to_spec() | {field: value})


@pytest.mark.parametrize("field", sealed().to_spec())
def test_no_field_may_be_left_out(field):
    spec = sealed().to_spec()
    del spec[field]
    with pytest.raises(spool.BatchMalformedError, match="batch"):
        Batch.from_spec(spec)


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(max_size=8), st.none() | st.integers() | st.text() | st.lists(st.text())
    )
)
def test_no_specification_crashes_the_reader(spec):
    with pytest.raises(spool.BatchMalformedError):
        Batch.from_spec(spec)


# --- how much fits ------------------------------------------------------------------------


def test_neither_none_nor_too_many_claims_make_a_batch():
    small = rec.gap(ex.CONTEXT, ex.NOW, rec.GapCause.CHAIN_FORKED)
    assert len(opened(sealed(*[small] * spool.MAX_CLAIMS))) == spool.MAX_CLAIMS
    with pytest.raises(spool.BatchTooLargeError):
        sealed(*[small] * (spool.MAX_CLAIMS + 1))
    with pytest.raises(spool.BatchTooLargeError):
        spool.seal(
            [],
            link=Link.first(BOOT),
            kind=BatchKind.ENDED,
            recorder_key=RECORDER.public_key(),
            signer=SIGNER,
        )


def test_a_batch_takes_exactly_so_many_bytes():
    claim = {"decidedAt": CLAIM["decidedAt"], "x": ""}
    room = spool.MAX_PLAIN - len(canonical([claim]))
    assert opened(sealed(claim | {"x": "y" * room}))[0]["x"] == "y" * room
    with pytest.raises(spool.BatchTooLargeError):
        sealed(claim | {"x": "y" * (room + 1)})


def test_the_largest_batch_stays_below_etcd_s_limit_even_if_nothing_compresses():
    noise = base64.b85encode(os.urandom(spool.MAX_PLAIN * 4 // 5 - 4_096)).decode()
    claim = {"decidedAt": CLAIM["decidedAt"], "noise": noise.replace("\\", "/")}
    batch = sealed(claim)
    assert len(json.dumps(batch.to_spec())) < 1_500_000
    assert opened(batch) == (claim,)
    with pytest.raises(spool.BatchTooLargeError):
        sealed(claim | {"more": "x" * 10_000})


# --- the format itself --------------------------------------------------------------------


def test_the_seal_is_hpke_as_the_documentation_says():
    batch = sealed()
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    spec = batch.to_spec()
    header = {k: v for k, v in spec.items() if k not in ("sealed", "signature")}
    info = b"trailgate.dev/spool/v1 seal\n" + canonical(header)
    plain = suite.decrypt(base64.b64decode(spec["sealed"]), RECORDER, info)
    assert zlib.decompress(plain) == canonical([CLAIM])


def test_the_signature_is_ed25519_as_the_documentation_says():
    spec = sealed().to_spec()
    signature = base64.b64decode(spec.pop("signature"))
    SIGNER.public_key().verify(signature, b"trailgate.dev/spool/v1 sign\n" + canonical(spec))


# --- key files ------------------------------------------------------------------------------


def test_keys_survive_their_files():
    recorder, signer = RECORDER, SIGNER
    private = spoolkeys.load_unsealing_key(spoolkeys.private_pem(recorder))
    assert private.private_bytes_raw() == recorder.private_bytes_raw()
    signing = spoolkeys.load_signing_key(spoolkeys.private_pem(signer))
    assert signing.private_bytes_raw() == signer.private_bytes_raw()
    sealing = spoolkeys.load_sealing_key(spoolkeys.public_pem(recorder.public_key()))
    verifying = spoolkeys.load_verifying_key(spoolkeys.public_pem(signer.public_key()))
    assert spoolkeys.key_id(sealing) == spoolkeys.key_id(recorder.public_key())
    assert spoolkeys.key_id(verifying) == spoolkeys.key_id(signer.public_key())
    assert spoolkeys.private_pem(signer).startswith(b"-----BEGIN PRIVATE KEY-----")
    assert spoolkeys.public_pem(signer.public_key()).startswith(b"-----BEGIN PUBLIC KEY-----")


P256 = ec.generate_private_key(ec.SECP256R1())


def _p256_private() -> bytes:
    return P256.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _p256_public() -> bytes:
    return P256.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _encrypted() -> bytes:
    return SIGNER.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


@pytest.mark.parametrize(
    ("load", "pem"),
    [
        (load, pem)
        for load in (spoolkeys.load_signing_key, spoolkeys.load_unsealing_key)
        for pem in (
            b"",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            _p256_private(),
            _encrypted(),
            spoolkeys.public_pem(SIGNER.public_key()),
            spoolkeys.private_pem(RECORDER if load is spoolkeys.load_signing_key else SIGNER),
        )
    ]
    + [
        (load, pem)
        for load in (spoolkeys.load_verifying_key, spoolkeys.load_sealing_key)
        for pem in (
            b"",
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            _p256_public(),
            spoolkeys.private_pem(SIGNER),
            spoolkeys.public_pem(
                (RECORDER if load is spoolkeys.load_verifying_key else SIGNER).public_key()
            ),
        )
    ],
    ids=range(22),
)
def test_another_key_or_none_is_refused(load, pem):
    with pytest.raises(MalformedError, match="expected"):
        load(pem)
