import json
import os
import stat

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448

from trailgate.cli.main import main
from trailgate.evidence import keys
from trailgate.ledger import spoolkeys
from trailgate.model.errors import MalformedError


def run(*arguments, passphrase="", **more):
    env = {"TRAILGATE_KEY_PASSPHRASE": passphrase}
    return CliRunner().invoke(main, ["key", *map(str, arguments)], env=env, **more)


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_a_pair_is_made(tmp_path, passphrase):
    done = run("generate", "--out", tmp_path / "ci", "-o", "json", passphrase=passphrase)
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    private = (tmp_path / "ci.key").read_bytes()
    key = keys.load_private_key(private, passphrase.encode() or None)
    public = keys.load_public_key((tmp_path / "ci.pub").read_bytes())
    assert key.public == public
    assert said == {
        "fingerprint": public.fingerprint,
        "privateKey": str(tmp_path / "ci.key"),
        "publicKey": str(tmp_path / "ci.pub"),
        "encrypted": bool(passphrase),
    }
    assert keys.is_encrypted(private) is bool(passphrase)


def test_the_private_key_is_its_owners_alone(tmp_path):
    mask = os.umask(0)
    try:
        run("generate", "--out", tmp_path / "ci")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "ci.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["ci.key", "ci.pub"])
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / name).write_text("precious")
    done = run("generate", "--out", tmp_path / "ci")
    assert done.exit_code == 2
    assert "not overwritten" in done.stderr
    assert (tmp_path / name).read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_dangling_link_is_not_followed(tmp_path):
    (tmp_path / "ci.key").symlink_to(tmp_path / "elsewhere")
    assert run("generate", "--out", tmp_path / "ci").exit_code == 2
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_not_there(tmp_path):
    done = run("generate", "--out", tmp_path / "no" / "ci")
    assert done.exit_code == 2
    assert "No such file" in done.stderr


def test_without_a_terminal_the_passphrase_must_be_said(tmp_path):
    done = CliRunner().invoke(
        main,
        ["key", "generate", "--out", str(tmp_path / "ci")],
        env={"TRAILGATE_KEY_PASSPHRASE": None},
    )
    assert done.exit_code == 2
    assert "TRAILGATE_KEY_PASSPHRASE" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_passphrase_is_no_option():
    assert run("generate", "--passphrase", "x").exit_code == 2


def test_a_public_key_is_named(tmp_path):
    key = keys.generate()
    path = tmp_path / "cosign.pub"
    path.write_bytes(keys.public_pem(key.public))
    assert key.public.fingerprint in run("show", path).stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "0 PEM blocks"), (b"x" * 70_000, "more than"), (None, "No such file")],
)
def test_what_is_no_public_key(tmp_path, content, said):
    path = tmp_path / "k.pub"
    if content is not None:
        path.write_bytes(content)
    done = run("show", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert "k.pub" in done.stderr


@pytest.mark.parametrize(
    ("use", "private", "public"),
    [
        ("gate", spoolkeys.load_signing_key, spoolkeys.load_verifying_key),
        ("recorder", spoolkeys.load_unsealing_key, spoolkeys.load_sealing_key),
    ],
)
def test_a_pair_for_one_end_of_the_spool(tmp_path, use, private, public):
    done = run("generate", "--for", use, "--out", tmp_path / "pair", "-o", "json")
    assert done.exit_code == 0, done.stderr
    key = private((tmp_path / "pair.key").read_bytes())
    shared = public((tmp_path / "pair.pub").read_bytes())
    assert key.public_key() == shared
    assert json.loads(done.stdout)["fingerprint"] == str(spoolkeys.key_id(shared))
    assert stat.S_IMODE((tmp_path / "pair.key").stat().st_mode) == 0o600


def test_the_two_ends_of_the_spool_are_not_interchangeable(tmp_path):
    run("generate", "--for", "gate", "--out", tmp_path / "gate")
    with pytest.raises(MalformedError, match="expected an X25519 key"):
        spoolkeys.load_unsealing_key((tmp_path / "gate.key").read_bytes())


@pytest.mark.parametrize(
    ("use", "kind", "words"), [("gate", "Ed25519", "sign"), ("recorder", "X25519", "seal")]
)
def test_a_public_key_of_the_spool_is_named(tmp_path, use, kind, words):
    made = run("generate", "--for", use, "--out", tmp_path / use, "-o", "json")
    done = run("show", tmp_path / f"{use}.pub", "-o", "json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["fingerprint"] == json.loads(made.stdout)["fingerprint"]
    assert told["kind"] == kind
    assert words in told["use"]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "P-256"),
        (ec.generate_private_key(ec.SECP384R1()), "P-384"),
        (rsa.generate_private_key(65537, 2048), "RSA 2048"),
    ],
)
def test_the_kind_of_a_key_is_named(tmp_path, key, kind):
    path = tmp_path / "k.pub"
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(encoding, form))
    told = json.loads(run("show", path, "-o", "json").stdout)
    assert told["kind"] == kind
    assert told["use"] == "signs evidence"


@pytest.mark.parametrize("name", ["recorder.key", "x448.pub"])
def test_other_keys_are_not_named(tmp_path, name):
    run("generate", "--for", "recorder", "--out", tmp_path / "recorder")
    other = x448.X448PrivateKey.generate().public_key()
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "x448.pub").write_bytes(other.public_bytes(encoding, form))
    done = run("show", tmp_path / name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert name in done.stderr
