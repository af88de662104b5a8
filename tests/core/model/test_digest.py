from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError

HEX = "74a9b1c2" * 8


@given(st.binary())
def test_it_is_sha256_and_survives_its_text(content):
    digest = Digest.of(content)
    assert digest.hex == hashlib.sha256(content).hexdigest()
    assert str(digest) == f"sha256:{digest.hex}"
    assert Digest.parse(str(digest)) == digest


def test_equal_digests_are_equal_and_order_by_their_digits():
    assert Digest(HEX) == Digest.parse(f"sha256:{HEX}")
    assert len({Digest(HEX), Digest.parse(f"sha256:{HEX}")}) == 1
    assert Digest("0" * 64) < Digest("f" * 64)


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEX,
        ":" + HEX,
        "sha256:",
        "sha256:" + HEX[:-1],
        "sha256:" + HEX + "0",
        "sha256:" + HEX.upper(),
        "sha256:" + "g" * 64,
        "sha256:" + HEX + "\n",
        "sha256:" + HEX + " ",
        " sha256:" + HEX,
        "SHA256:" + HEX,
        "sha256;" + HEX,
        "sha256::" + HEX,
        "sha512:" + HEX * 2,
        "sha256:0x" + HEX[2:],
        "sha256:" + "\uff10" * 64,  # full-width digits are digits to str.isdigit
        "sha256:" + "\u0661" * 64,
        "sha256+b64:" + HEX,
    ],
)
def test_any_other_spelling_is_refused(text):
    with pytest.raises(MalformedError, match="expected"):
        Digest.parse(text)


@given(st.text())
def test_whatever_is_read_is_written_the_same(text):
    try:
        digest = Digest.parse(text)
    except MalformedError:
        return
    assert str(digest) == text


@pytest.mark.parametrize("value", ["", "sha256:" + HEX, HEX.upper(), HEX[1:]])
def test_a_digest_is_never_made_of_anything_else(value):
    with pytest.raises(MalformedError):
        Digest(value)


def test_a_long_wrong_text_is_not_repeated_in_full():
    with pytest.raises(MalformedError) as caught:
        Digest.parse("x" * 100_000)
    assert len(str(caught.value)) < 300
