import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from trailgate.evidence import keys
from trailgate.evidence.keys import PassphraseError
from trailgate.model.errors import MalformedError


def _pkcs8(secret) -> bytes:
    return secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _spki(secret) -> bytes:
    return secret.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_generated_pair_is_read_back_and_verifies(passphrase):
    made = keys.generate()
    read = keys.load_private_key(keys.private_pem(made, passphrase), passphrase)
    public = keys.load_public_key(keys.public_pem(made.public))
    assert read.public == public == made.public
    assert keys.verifies(public, read.sign(b"message"), b"message")
    assert not keys.verifies(public, read.sign(b"message"), b"massage")


def test_a_passphrase_is_needed_and_must_be_right():
    pem = keys.private_pem(keys.generate(), b"right")
    assert keys.is_encrypted(pem)
    with pytest.raises(PassphraseError, match="no passphrase"):
        keys.load_private_key(pem, None)
    with pytest.raises(PassphraseError, match="does not open"):
        keys.load_private_key(pem, b"wrong")


def test_openssl_reads_the_encrypted_key(tmp_path):
    made = keys.generate()
    path = tmp_path / "k.pem"
    path.write_bytes(keys.private_pem(made, b"pass phrase"))
    public = subprocess.run(
        ["openssl", "pkey", "-in", path, "-passin", "pass:pass phrase", "-pubout"],
        check=True,
        capture_output=True,
    ).stdout
    assert keys.load_public_key(public) == made.public


def test_the_secret_is_not_in_the_repr():
    made = keys.generate()
    assert "secret" not in repr(made)


@pytest.mark.parametrize(
    "secret",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["p256", "p384", "ed25519", "rsa"],
)
def test_every_supported_kind_signs_and_verifies_only_its_own(secret):
    key = keys.load_private_key(_pkcs8(secret), None)
    signature = key.sign(b"m")
    assert keys.verifies(keys.load_public_key(_spki(secret)), signature, b"m")
    assert not keys.verifies(keys.generate().public, signature, b"m")
    assert not keys.verifies(key.public, b"", b"m")
    assert not keys.verifies(key.public, b"\x30\x06\x02\x01\x00\x02\x01\x00", b"m")


def test_p384_with_sha256_is_accepted_as_cosign_made_it():
    from cryptography.hazmat.primitives import hashes

    secret = ec.generate_private_key(ec.SECP384R1())
    key = keys.load_public_key(_spki(secret))
    assert keys.verifies(key, secret.sign(b"m", ec.ECDSA(hashes.SHA256())), b"m")
    assert not keys.verifies(key, secret.sign(b"m", ec.ECDSA(hashes.SHA512())), b"m")


def test_rsa_pss_is_accepted():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    secret = rsa.generate_private_key(65537, 2048)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    signature = secret.sign(b"m", pss, hashes.SHA256())
    assert keys.verifies(keys.load_public_key(_spki(secret)), signature, b"m")


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (b"", "0 PEM blocks"),
        (b"not a key", "0 PEM blocks"),
        (_spki(keys.generate().secret) * 2, "2 PEM blocks"),
        (_pkcs8(keys.generate().secret), "private key does not belong here"),
        (b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "CERTIFICATE"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"),
        (_spki(ec.generate_private_key(ec.SECP521R1())), "expected P-256 or P-384"),
        (_spki(ec.generate_private_key(ec.SECP256K1())), "expected P-256 or P-384"),
        (_spki(rsa.generate_private_key(65537, 1024)), "expected 2048"),
        (_spki(dsa.generate_private_key(2048)), "expected P-256"),
        (b"x" * 70_000, "at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_a_usable_public_key_is_refused(pem, said):
    with pytest.raises(MalformedError, match=said):
        keys.load_public_key(pem)


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAA==\n", "cosign's own encryption"),
        (b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\nAA==\n", "cosign's own encryption"),
        (b"-----BEGIN EC PRIVATE KEY-----\nAA==\n", "openssl pkcs8"),
        (b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "cannot be read"),
        (_spki(keys.generate().secret), "PUBLIC KEY"),
        (_pkcs8(ec.generate_private_key(ec.SECP521R1())), "expected P-256 or P-384"),
        (_pkcs8(dsa.generate_private_key(2048)), "expected P-256"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_a_usable_private_key_is_refused(pem, said):
    with pytest.raises(MalformedError, match=said):
        keys.load_private_key(pem, None)


def test_one_key_has_one_fingerprint_however_it_is_written():
    secret = ec.generate_private_key(ec.SECP256R1())
    compressed = secret.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    header = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    import base64

    pem = (
        b"-----BEGIN PUBLIC KEY-----\n"
        + base64.b64encode(header + compressed)
        + b"\n-----END PUBLIC KEY-----\n"
    )
    assert keys.load_public_key(pem) == keys.load_public_key(_spki(secret))
