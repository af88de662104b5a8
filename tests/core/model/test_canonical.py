from __future__ import annotations

import datetime as dt
import enum
import hashlib
import json
import uuid
from dataclasses import dataclass

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from trailgate.model.canonical import canonical, fingerprint
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError

_TEXT = st.text(st.characters(exclude_categories=("Cs",)))
# Characters on both sides of the surrogate range: where code point order and
# UTF-16 order of keys part ways.
_KEYS = st.text(st.sampled_from("aA~\x7f\u00e9\ud7ff\ue000\uffff\U00010000\U0010ffff"), max_size=4)
_LEAF = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
    | _TEXT
    | st.text(st.characters(max_codepoint=0x9F))
)


def _json(keys):
    return st.recursive(
        _LEAF,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
        max_leaves=30,
    )


@given(_json(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=6)))
def test_it_equals_a_second_encoder_for_ascii_keys(value):
    assert canonical(value) == rfc8785.dumps(value)


@given(_json(_KEYS | _TEXT))
def test_it_equals_a_second_encoder_for_any_keys(value):
    assert canonical(value) == rfc8785.dumps(value)


@given(_json(_KEYS | _TEXT))
def test_it_loses_nothing(value):
    assert json.loads(canonical(value)) == value


def test_the_property_would_see_the_wrong_key_order():
    # U+E000 sorts before U+10000 by code point and after it by UTF-16 code unit.
    value = {"\ue000": 1, "\U00010000": 2}
    assert canonical(value) == '{"\U00010000":2,"\ue000":1}'.encode()
    assert canonical({"x": [value]}) == '{"x":[{"\U00010000":2,"\ue000":1}]}'.encode()


def test_the_rfc_example_of_key_order():
    # RFC 8785, 3.2.3.
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical(value)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


def test_escapes_are_the_short_ones_and_lower_case():
    assert canonical('\b\t\n\f\r"\\/\x0b\x1f\x7f\u2028') == (
        b'"\\b\\t\\n\\f\\r\\"\\\\/\\u000b\\u001f\x7f\xe2\x80\xa8"'
    )


def test_order_of_insertion_does_not_matter():
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == canonical({"a": {"c": 3, "d": 2}, "b": 1})


class _Colour(enum.StrEnum):
    RED = "red"


class _Text(str):
    __slots__ = ()


class _Number(int):
    pass


@dataclass(frozen=True)
class _Value:
    a: int = 1


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        0.5,
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        2**64,
        (1, 2),
        {1, 2},
        b"x",
        _Colour.RED,
        _Text("x"),
        _Number(1),
        _Value(),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        uuid.UUID(int=1),
        {1: "x"},
        {None: "x"},
        {_Colour.RED: "x"},
        {_Text("a"): "x"},
        "\ud800",
        {"\udc00": 1},
        pytest.param(object(), id="object"),
    ],
    ids=repr,
)
def test_what_is_not_plain_json_is_refused_wherever_it_stands(value):
    for where in (value, [value], {"a": {"b": [value]}}, {"\u00e9": value}):
        with pytest.raises(MalformedError):
            canonical(where)


def test_a_cycle_and_too_deep_a_nesting_are_refused():
    cycle: list[object] = []
    cycle.append(cycle)
    deep: object = 1
    for _ in range(5000):
        deep = {"\u00e9": deep}
    for value in (cycle, deep):
        with pytest.raises(MalformedError):
            canonical(value)


def test_the_largest_integers_are_kept():
    assert canonical([2**53 - 1, -(2**53) + 1, 0, True, None]) == (
        b"[9007199254740991,-9007199254740991,0,true,null]"
    )


def test_the_fingerprint_is_the_digest_of_the_canonical_bytes():
    value = {"b": [1, "\u00e9"], "a": None}
    expected = hashlib.sha256('{"a":null,"b":[1,"\u00e9"]}'.encode()).hexdigest()
    assert fingerprint(value) == Digest(expected)
    assert fingerprint({"b": [1, "e\u0301"], "a": None}) != fingerprint(value)
