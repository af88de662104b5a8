import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailgate.tlog import checkpoint, note
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.errors import NoteError, SignatureError, TlogError
from trailgate.tlog.merkle import EMPTY_ROOT

KEY = note.SigningKey("log.example/a", bytes(range(32)))
ROOT = bytes(range(32))
ENCODED = base64.b64encode(ROOT).decode()
HEAD = Checkpoint("log.example/a", 42, ROOT)


def test_checkpoints_are_those_of_go(vectors):
    key = note.SigningKey.parse(vectors["keys"][0]["skey"])
    assert len(vectors["checkpoints"]) == 5
    for signed in vectors["checkpoints"]:
        head = checkpoint.verify(signed, [key.verifier])
        assert head.root.hex() == vectors["roots"][head.size]
        assert head.sign(key) == signed
        assert checkpoint.read(signed) == head


def test_the_text_is_three_lines():
    assert HEAD.text == f"log.example/a\n42\n{ENCODED}\n"
    assert Checkpoint.parse(HEAD.text) == HEAD


@given(
    st.text(st.characters(blacklist_categories=["Cs"], min_codepoint=32), min_size=1),
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(st.characters(blacklist_categories=["Cs"], min_codepoint=32), min_size=1)),
)
def test_what_is_written_is_read(origin, size, root, extensions):
    head = Checkpoint(origin, size, root, tuple(extensions))
    assert Checkpoint.parse(head.text) == head


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "a\n1\n",
        f"a\n1\n{ENCODED}",
        f"a\n1\n{ENCODED}\n\n",
        f"a\n1\n{ENCODED}\n\nx\n",
        f"\n1\n{ENCODED}\n",
        f"a\n\n{ENCODED}\n",
        f"a\n01\n{ENCODED}\n",
        f"a\n+1\n{ENCODED}\n",
        f"a\n-1\n{ENCODED}\n",
        f"a\n 1\n{ENCODED}\n",
        f"a\n1 \n{ENCODED}\n",
        f"a\n1_0\n{ENCODED}\n",
        f"a\n0x1\n{ENCODED}\n",
        f"a\n1.0\n{ENCODED}\n",
        f"a\n\u0661\n{ENCODED}\n",
        f"a\n{2**63}\n{ENCODED}\n",
        f"a\n{10**30}\n{ENCODED}\n",
        f"a\n00\n{base64.b64encode(EMPTY_ROOT).decode()}\n",
        f"a\n0\n{ENCODED}\n",
        f"a\n1\n{ENCODED[:-1]}\n",
        f"a\n1\n{ENCODED[:-2]}9=\n",
        f"a\n1\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"a\n1\n{base64.b64encode(ROOT + ROOT).decode()}\n",
        f"a\n1\n {ENCODED}\n",
        f"a\r\n1\r\n{ENCODED}\r\n",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "values",
    [
        ("", 1, ROOT),
        ("a\nb", 1, ROOT),
        ("a", -1, ROOT),
        ("a", 2**63, ROOT),
        ("a", 1, ROOT[:31]),
        ("a", 0, ROOT),
        ("a", 1, ROOT, ("",)),
        ("a", 1, ROOT, ("x\ny",)),
    ],
)
def test_other_values_are_refused(values):
    with pytest.raises(NoteError):
        Checkpoint(*values)


def test_a_checkpoint_is_of_its_own_log():
    other = note.SigningKey("log.example/b", bytes(32))
    with pytest.raises(NoteError, match="the same"):
        HEAD.sign(other)
    foreign = note.sign(HEAD.text, [other])
    with pytest.raises(SignatureError, match="its own key"):
        checkpoint.verify(foreign, [other.verifier])
    assert checkpoint.verify(note.sign(HEAD.text, [other, KEY]), [str(KEY), str(other)]) == HEAD


def test_another_key_of_the_same_name_is_not_the_log():
    imposter = note.SigningKey("log.example/a", bytes(32))
    with pytest.raises(SignatureError):
        checkpoint.verify(HEAD.sign(imposter), [KEY.verifier])


@given(st.data())
def test_a_flipped_bit_fails(data):
    signed = bytearray(HEAD.sign(KEY).encode())
    bit = data.draw(st.integers(0, len(signed) * 8 - 1))
    signed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TlogError):
        checkpoint.verify(bytes(signed), [KEY.verifier])
