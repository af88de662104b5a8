import pytest

from trailgate.ledger.errors import LedgerExistsError, LedgerKeyError
from trailgate.ledger.keys import (
    read_signing_key,
    read_verifier_key,
    write_signing_key,
    write_verifier_key,
)


def test_the_secret_is_its_owners_alone(tmp_path, key):
    write_signing_key(tmp_path / "k", key)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert read_signing_key(tmp_path / "k") == key
    (tmp_path / "k").chmod(0o440)
    assert read_signing_key(tmp_path / "k") == key


def test_a_secret_that_everyone_may_read_is_refused(tmp_path, key):
    write_signing_key(tmp_path / "k", key)
    for mode in (0o604, 0o644, 0o602, 0o601):
        (tmp_path / "k").chmod(mode)
        with pytest.raises(LedgerKeyError, match="open to everyone"):
            read_signing_key(tmp_path / "k")


def test_key_files_are_never_overwritten(tmp_path, key):
    (tmp_path / "k").write_text("mine")
    with pytest.raises(LedgerExistsError):
        write_signing_key(tmp_path / "k", key)
    with pytest.raises(LedgerExistsError):
        write_verifier_key(tmp_path / "k", key.verifier)
    assert (tmp_path / "k").read_text() == "mine"
    with pytest.raises(LedgerKeyError, match="can't make"):
        write_signing_key(tmp_path / "missing" / "k", key)


def test_what_is_no_key_is_refused_without_showing_it(tmp_path, key):
    with pytest.raises(LedgerKeyError, match="can't read"):
        read_signing_key(tmp_path / "missing")
    for content in (b"", b"\xff", key.encode()[:-2].encode(), str(key).encode()):
        (tmp_path / "k").write_bytes(content)
        (tmp_path / "k").chmod(0o600)
        with pytest.raises(LedgerKeyError) as caught:
            read_signing_key(tmp_path / "k")
        assert key.encode().rsplit("+", 1)[1][:20] not in str(caught.value)


def test_a_vkey_is_given_itself_or_as_a_file(tmp_path, key):
    write_verifier_key(tmp_path / "v", key.verifier)
    assert read_verifier_key(str(key)) == key.verifier
    assert read_verifier_key(str(tmp_path / "v")) == key.verifier
    (tmp_path / "bad").write_text("nothing")
    for text in ("", "nothing", str(tmp_path / "bad"), str(tmp_path / "missing"), str(tmp_path)):
        with pytest.raises(LedgerKeyError):
            read_verifier_key(text)
