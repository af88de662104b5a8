import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trailgate.tlog import note
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.errors import NoteError, ProofError, SignatureError, TlogError
from trailgate.tlog.merkle import Frontier, inclusion_proof, leaf_hash
from trailgate.tlog.proof import Receipt

KEY = note.SigningKey("log.example/a", bytes(range(32)))
SIZE = 11
RECORDS = [f"record {index}".encode() for index in range(SIZE)]


def _tree():
    frontier, nodes = Frontier(), {}
    for record in RECORDS:
        for level, position, value in frontier.append(leaf_hash(record)):
            nodes[level, position] = value
    return nodes, Checkpoint(KEY.name, SIZE, frontier.root()).sign(KEY)


NODES, SIGNED = _tree()


def receipt(index, extra=None):
    proof = inclusion_proof(index, SIZE, lambda level, position: NODES[level, position])
    return Receipt(index, tuple(proof), SIGNED, extra)


@pytest.mark.parametrize("extra", [None, b"", b"\x00\xff"])
def test_what_is_written_is_read(extra):
    for index in range(SIZE):
        original = receipt(index, extra)
        copy = Receipt.parse(original.encode())
        assert copy == original == Receipt.parse(original.encode().encode())
        assert copy.verify(RECORDS[index], [KEY.verifier]).size == SIZE


def test_the_text_is_that_of_the_spec():
    original = receipt(5, b"extra")
    lines = [base64.b64encode(value).decode() for value in original.hashes]
    assert original.encode() == "\n".join(
        ["c2sp.org/tlog-proof@v1", "extra ZXh0cmE=", "index 5", *lines, "", SIGNED]
    )


def test_a_tree_of_one_leaf_has_no_hashes():
    head = Checkpoint(KEY.name, 1, leaf_hash(b"only")).sign(KEY)
    text = f"c2sp.org/tlog-proof@v1\nindex 0\n\n{head}"
    assert Receipt.parse(text).verify(b"only", [str(KEY)]).size == 1


def test_another_record_index_or_key_fails():
    with pytest.raises(ProofError):
        receipt(5).verify(RECORDS[6], [KEY.verifier])
    with pytest.raises(ProofError):
        Receipt(6, receipt(5).hashes, SIGNED).verify(RECORDS[5], [KEY.verifier])
    with pytest.raises(ProofError):
        Receipt(SIZE, receipt(5).hashes, SIGNED).verify(RECORDS[5], [KEY.verifier])
    with pytest.raises(SignatureError):
        receipt(5).verify(RECORDS[5], [note.SigningKey(KEY.name, bytes(32)).verifier])


@given(st.data())
@settings(max_examples=300)
def test_a_flipped_bit_fails(data):
    index = data.draw(st.integers(0, SIZE - 1))
    content = bytearray(receipt(index).encode().encode())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TlogError):
        Receipt.parse(bytes(content)).verify(RECORDS[index], [KEY.verifier])


HASH = base64.b64encode(bytes(32)).decode()
HEADER = "c2sp.org/tlog-proof@v1\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        f"{HEADER}index 0\n",
        f"{HEADER}index 0\n{SIGNED.lstrip()}".replace("\n\n", "\n"),
        f"c2sp.org/tlog-proof@v2\nindex 0\n\n{SIGNED}",
        f" {HEADER}index 0\n\n{SIGNED}",
        f"{HEADER}\n{SIGNED}",
        f"{HEADER}extra AA==\n\n{SIGNED}",
        f"{HEADER}index 0\nextra AA==\n\n{SIGNED}",
        f"{HEADER}extra AB==\nindex 0\n\n{SIGNED}",
        f"{HEADER}extra AA\nindex 0\n\n{SIGNED}",
        f"{HEADER}extra AA==\nextra AA==\nindex 0\n\n{SIGNED}",
        f"{HEADER}index\n\n{SIGNED}",
        f"{HEADER}index 00\n\n{SIGNED}",
        f"{HEADER}index -1\n\n{SIGNED}",
        f"{HEADER}index 1 \n\n{SIGNED}",
        f"{HEADER}index 0\nindex 0\n\n{SIGNED}",
        f"{HEADER}index 0\n{HASH[:-1]}\n\n{SIGNED}",
        f"{HEADER}index 0\nAAAA\n\n{SIGNED}",
        f"{HEADER}index 0\n" + f"{HASH}\n" * 64 + f"\n{SIGNED}",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(NoteError):
        Receipt.parse(text)


def test_bytes_that_are_no_text_and_floods_are_refused():
    with pytest.raises(NoteError):
        Receipt.parse(b"\xff" + receipt(0).encode().encode())
    with pytest.raises(NoteError, match="at most"):
        Receipt.parse(receipt(0).encode() + "x" * note.MAX_NOTE_BYTES)
