"""Whatever lies beside an image: nothing raises, and nothing verifies to something else."""

import copy
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.evidence.samples import (
    IMAGE,
    KEY,
    PREDICATES,
    PROVENANCE,
    artifact,
    check,
    only,
    signed_bytes,
    statement_json,
)
from trailgate.evidence import bundle, dsse, provenance, sign, simplesigning
from trailgate.evidence.sign import Signed
from trailgate.model.artifact import Artifact
from trailgate.model.digest import Digest
from trailgate.model.evidence import EvidenceFormat, Rejected, Statement
from trailgate.model.reason import Reason

# Other work on the machine must not fail a property.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
GOOD = {
    form: sign.attestation(IMAGE, provenance.TYPE, PROVENANCE, KEY, form) for form in EvidenceFormat
}
SIMPLE = sign.signature(IMAGE, KEY, EvidenceFormat.LEGACY)
FORESEEN = set(Reason) - {Reason.INTERNAL}


def facts(found):
    """All of a statement but the name of the bytes it came in."""
    return found.kind, found.predicate_type, found.predicate, found.signer


def assert_harmless(good: Signed, content: bytes, annotations=None):
    spoiled = artifact(good, content=content, annotations=annotations or dict(good.annotations))
    found = only(check(spoiled))
    if isinstance(found, Statement):
        assert facts(found) == facts(only(check(artifact(good))))
    else:
        assert found.reason in FORESEEN


@pytest.mark.parametrize("good", [*GOOD.values(), SIMPLE], ids=["bundle", "att", "sig"])
@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_one_byte_mutation_is_harmless(good, mask):
    for position in range(len(good.content)):
        content = bytearray(good.content)
        content[position] ^= mask
        assert_harmless(good, bytes(content))


@pytest.mark.parametrize("good", [*GOOD.values(), SIMPLE], ids=["bundle", "att", "sig"])
def test_every_truncation_is_rejected(good):
    for length in range(len(good.content)):
        found = only(check(artifact(good, content=good.content[:length])))
        assert isinstance(found, Rejected)
        assert found.reason in FORESEEN


def test_no_mutation_of_a_simple_signature_verifies():
    text = SIMPLE.annotations[simplesigning.SIGNATURE_ANNOTATION]
    for position in range(len(text)):
        for other in "A+/=\n-":
            changed = text[:position] + other + text[position + 1 :]
            if changed == text:
                continue
            annotations = {simplesigning.SIGNATURE_ANNOTATION: changed}
            found = only(check(artifact(SIMPLE, annotations=annotations)))
            assert isinstance(found, Rejected)
            assert found.reason in FORESEEN


@PATIENT
@given(
    good=st.sampled_from([*GOOD.values(), SIMPLE]),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), max_size=4),
)
def test_random_edits_are_harmless(good, edits):
    content = good.content
    for position, insert in edits:
        at = position % (len(content) + 1)
        content = content[:at] + insert + content[at + len(insert) // 2 :]
    assert_harmless(good, content)


@PATIENT
@given(content=st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))
@pytest.mark.parametrize(
    "media_type", [bundle.MEDIA_TYPE, dsse.MEDIA_TYPE, simplesigning.MEDIA_TYPE]
)
def test_anything_unsigned_is_rejected(content, media_type):
    form = EvidenceFormat.BUNDLE if media_type == bundle.MEDIA_TYPE else EvidenceFormat.LEGACY
    made = Artifact(form, media_type, content, Digest.of(content))
    found = only(check(made))
    assert isinstance(found, Rejected)
    assert found.reason in FORESEEN


@PATIENT
@given(value=JSON)
def test_anything_that_a_trusted_key_signed_is_foreseen(value):
    found = only(check(signed_bytes(json.dumps(value).encode())))
    assert isinstance(found, Rejected)
    assert found.reason in FORESEEN


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


ALL_PLACES = [
    (predicate_type, path)
    for predicate_type, predicate in PREDICATES.items()
    for path in places(statement_json(predicate_type, predicate))
    if path
]


@settings(PATIENT, max_examples=400)
@given(place=st.sampled_from(ALL_PLACES), value=JSON)
def test_any_value_at_any_place_of_a_signed_statement_is_foreseen(place, value):
    predicate_type, path = place
    whole = copy.deepcopy(statement_json(predicate_type, PREDICATES[predicate_type]))
    inner = whole
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    found = only(check(signed_bytes(json.dumps(whole).encode())))
    if isinstance(found, Rejected):
        assert found.reason in FORESEEN, found
        assert found.detail.isprintable()


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * (3 * 2**20),
        b'{"a":' * (2**19),
        json.dumps(statement_json(provenance.TYPE, {"x": ["y"] * 400_000})).encode(),
        json.dumps(
            statement_json(
                provenance.TYPE, {**PROVENANCE, "x": {str(n): {} for n in range(200_000)}}
            )
        ).encode(),
    ],
    ids=["arrays", "objects", "long", "wide"],
)
def test_big_content_is_read_in_bounded_time(payload):
    start = time.process_time()
    check(signed_bytes(payload))
    # Measured 0.02 to 0.3 s here; the bound only tells linear from quadratic.
    assert time.process_time() - start < 5
