import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trailgate.tlog import note
from trailgate.tlog.errors import NoteError, SignatureError, TlogError

TEXT = "origin\n1\nroot\n"
KEY = note.SigningKey("log.example/a", bytes(range(32)))
OTHER = note.SigningKey("log.example/b", bytes(range(1, 33)))
VKEY = str(KEY.verifier)
SIGNED = note.sign(TEXT, [KEY])


def test_keys_are_those_of_go(vectors):
    for key in vectors["keys"]:
        signing = note.SigningKey.parse(key["skey"])
        assert signing.name == key["name"]
        assert signing.encode() == key["skey"]
        assert str(signing) == str(signing.verifier) == key["vkey"]
        assert note.VerifierKey.parse(key["vkey"]) == signing.verifier


def test_signed_notes_are_those_of_go(vectors):
    keys = {key["name"]: note.SigningKey.parse(key["skey"]) for key in vectors["keys"]}
    assert len(vectors["signed"]) > 5
    for case in vectors["signed"]:
        signers = [keys[name] for name in case["keys"]]
        assert note.sign(case["text"], signers) == case["note"], case["what"]
        opened = note.verify(case["note"], [key.verifier for key in signers])
        assert opened.text == case["text"]
        assert [key.name for key in opened.verified] == case["keys"]


def test_verdicts_are_those_of_go(vectors):
    assert len(vectors["verdicts"]) > 20
    for case in vectors["verdicts"]:
        message = base64.b64decode(case["note"])
        if case["ok"]:
            note.verify(message, case["keys"] or [])
        else:
            with pytest.raises(TlogError):
                note.verify(message, case["keys"] or [])


def test_text_and_bytes_are_the_same_note():
    assert note.verify(SIGNED, [VKEY]) == note.verify(SIGNED.encode(), [VKEY])
    assert note.verify(SIGNED, VKEY).text == TEXT


@given(st.integers(0, len(SIGNED.encode()) * 8 - 1))
def test_a_flipped_bit_fails(bit):
    changed = bytearray(SIGNED.encode())
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TlogError):
        note.verify(bytes(changed), [VKEY])


def test_an_unknown_key_is_ignored_and_named():
    opened = note.verify(note.sign(TEXT, [OTHER, KEY]), [VKEY])
    assert [key.name for key in opened.verified] == ["log.example/a"]
    assert [signature.name for signature in opened.unknown] == ["log.example/b"]


def test_only_unknown_keys_is_a_failure():
    with pytest.raises(SignatureError, match=r"expected one of log\.example/b"):
        note.verify(SIGNED, [OTHER.verifier])


def test_a_failing_known_key_fails_the_note_whoever_else_signed():
    bad = note.Signature(OTHER.name, OTHER.verifier.id, bytes(64)).line
    for message in (SIGNED + bad, TEXT + "\n" + bad + KEY.sign(TEXT).line):
        assert note.verify(message, [VKEY]).text == TEXT
        with pytest.raises(SignatureError, match=r"log\.example/b"):
            note.verify(message, [VKEY, OTHER.verifier])


@pytest.mark.parametrize("size", [1, 63, 65, 128])
def test_a_known_key_needs_a_signature_of_64_bytes(size):
    message = TEXT + "\n" + note.Signature(KEY.name, KEY.verifier.id, bytes(size)).line
    with pytest.raises(SignatureError):
        note.verify(message, [VKEY])


def test_the_name_or_the_id_alone_is_not_the_key():
    signature = KEY.sign(TEXT)
    renamed = note.Signature(OTHER.name, signature.key_id, signature.signature)
    renumbered = note.Signature(KEY.name, OTHER.verifier.id, signature.signature)
    for changed in (renamed, renumbered):
        with pytest.raises(SignatureError, match="expected one of"):
            note.verify(TEXT + "\n" + changed.line, [VKEY])


def test_colliding_keys_are_refused(monkeypatch):
    twin = note.VerifierKey(KEY.name, OTHER.verifier.public)
    assert note.verify(SIGNED, [KEY.verifier, KEY.verifier, twin]).text == TEXT
    monkeypatch.setattr(note, "key_id", lambda name, public: b"same")
    with pytest.raises(NoteError, match="two different keys"):
        note.verify(SIGNED, [KEY.verifier, twin])


def test_sixteen_signatures_are_accepted_and_too_many_are_not():
    others = "".join(
        note.Signature(f"w{number}.example", b"abcd", bytes(2420)).line for number in range(15)
    )
    assert len(note.verify(SIGNED + others, [VKEY]).unknown) == 15
    small = note.Signature("w.example", b"abcd", b"x").line
    note.verify(SIGNED + small * (note.MAX_SIGNATURES - 1), [VKEY])
    with pytest.raises(NoteError, match="at most 100"):
        note.verify(SIGNED + small * note.MAX_SIGNATURES, [VKEY])


def test_a_huge_note_is_refused():
    with pytest.raises(NoteError, match="at most 1000000"):
        note.verify(note.sign("x" * note.MAX_NOTE_BYTES + "\n", [KEY]), [VKEY])


@pytest.mark.parametrize("code", [c for c in range(32) if c != 10])
def test_control_characters_are_refused_everywhere(code):
    character = chr(code)
    for message in (
        character + SIGNED,
        SIGNED.replace("log", character + "log"),
        SIGNED + character,
    ):
        with pytest.raises(NoteError):
            note.verify(message, [VKEY])
    with pytest.raises(NoteError):
        note.sign(f"a{character}b\n", [KEY])


def test_base64_has_one_spelling():
    head, _, encoded = SIGNED.rstrip("\n").rpartition(" ")
    last = encoded.rstrip("=")[-1]
    assert encoded.endswith("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    trailing = alphabet[alphabet.index(last) + 1]
    for spelling in (
        encoded.rstrip("="),
        encoded + "=",
        encoded.rstrip("=")[:-1] + trailing + "=",
        encoded[:10] + " " + encoded[10:],
        encoded.replace("+", "-").replace("/", "_") + "_",
    ):
        with pytest.raises(NoteError):
            note.verify(f"{head} {spelling}\n", [VKEY])


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\nb", "a\tb", "\ud800"]
)
def test_bad_key_names_are_refused(name):
    with pytest.raises(NoteError):
        note.SigningKey(name, bytes(32))


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "log.example/a",
        "log.example/a+" + KEY.verifier.id.hex(),
        VKEY.replace("+", " "),
        VKEY.upper(),
        VKEY.replace("log", "lag"),
        VKEY[:-4],
        VKEY + "=",
        VKEY.replace(KEY.verifier.id.hex(), "00000000"),
        VKEY.replace(KEY.verifier.id.hex(), KEY.verifier.id.hex()[:7]),
        "a+00000000+" + base64.b64encode(b"\x04" + bytes(32)).decode(),
        "a+00000000+" + base64.b64encode(b"\x01" + bytes(31)).decode(),
        "a+00000000+" + base64.b64encode(b"").decode(),
        "a+00000000+!",
    ],
)
def test_bad_verifier_keys_are_refused(vkey):
    with pytest.raises(NoteError):
        note.verify(SIGNED, [vkey])


@pytest.mark.parametrize(
    "skey",
    [
        "",
        VKEY,
        "PRIVATE+KEY+a",
        "PRIVATE+KEY+a+00000000+!",
        "PRIVATE+KEY+a+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(),
        "PRIVATE+KEY+a+00000000+" + base64.b64encode(b"\x01" + bytes(31)).decode(),
        "PRIVATE+KEY+a+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        KEY.encode().replace("log", "lag"),
    ],
)
def test_bad_signing_keys_are_refused(skey):
    with pytest.raises(NoteError):
        note.SigningKey.parse(skey)


def test_errors_and_representations_never_show_the_private_key():
    secret = KEY.encode().rsplit("+", 1)[1]
    with pytest.raises(NoteError) as caught:
        note.VerifierKey.parse(KEY.encode())
    assert secret not in str(caught.value)
    with pytest.raises(NoteError) as caught:
        note.SigningKey.parse(KEY.encode()[:-1])
    assert secret[:-1] not in str(caught.value)
    assert secret not in repr(KEY) + str(KEY)
    assert repr(KEY.seed) not in repr(KEY)


def test_signing_needs_a_key_and_a_newline():
    with pytest.raises(NoteError):
        note.sign(TEXT, [])
    with pytest.raises(NoteError):
        note.sign("no newline", [KEY])
    with pytest.raises(NoteError):
        note.sign("\ud800\n", [KEY])
    with pytest.raises(NoteError):
        note.verify("\ud800" + SIGNED, [VKEY])


def test_generated_keys_differ():
    first, second = note.SigningKey.generate("a"), note.SigningKey.generate("a")
    assert first.seed != second.seed
    assert note.SigningKey.parse(first.encode()) == first
