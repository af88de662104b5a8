"""``trailgate key``: key pairs for signing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from trailgate.cli import files, output, passphrase
from trailgate.cli.errors import InputError
from trailgate.model.errors import MalformedError

_MAX_PEM = 64 * 1024


@click.group("key")
def command() -> None:
    """Make key pairs and name them."""


@command.command("generate")
@click.option(
    "--out",
    "prefix",
    default="trailgate",
    show_default=True,
    metavar="PREFIX",
    help="Write PREFIX.key (private, mode 0600) and PREFIX.pub.",
)
@click.option(
    "--for",
    "use",
    type=click.Choice(["evidence", "gate", "recorder"]),
    default="evidence",
    show_default=True,
    help="What the key is for: signing evidence (P-256), or the spool's two ends: the gate "
    "signs what it admits (Ed25519), the recorder opens it (X25519).",
)
@output.output_option("table", "json")
def generate(prefix: str, use: str, output: str) -> None:
    """Make a key pair.

    A key for evidence is PKCS#8 PEM, encrypted with the passphrase from
    TRAILGATE_KEY_PASSPHRASE or a prompt; the public key is what cosign calls
    cosign.pub. Keys for the gate and the recorder have no passphrase: the volume
    they are mounted from guards them. Existing files are never overwritten.
    """
    private, public = Path(f"{prefix}.key"), Path(f"{prefix}.pub")
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise InputError(f"{path}: it exists, and is not overwritten")
    secret = passphrase.new() if use == "evidence" else None
    pair = _evidence_pair(secret) if use == "evidence" else _spool_pair(use)
    files.create(private, pair.private, secret=True)
    files.create(public, pair.public, secret=False)
    _print(
        {
            "fingerprint": pair.fingerprint,
            "privateKey": str(private),
            "publicKey": str(public),
            "encrypted": secret is not None,
        },
        output,
    )


@dataclass(frozen=True, slots=True)
class _Pair:
    private: bytes
    public: bytes
    fingerprint: str


def _evidence_pair(secret: bytes | None) -> _Pair:
    from trailgate.evidence import keys

    key = keys.generate()
    return _Pair(keys.private_pem(key, secret), keys.public_pem(key.public), key.public.fingerprint)


def _spool_pair(use: str) -> _Pair:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from trailgate.ledger import spoolkeys

    kind = Ed25519PrivateKey if use == "gate" else X25519PrivateKey
    key = kind.generate()
    public = key.public_key()
    return _Pair(
        spoolkeys.private_pem(key), spoolkeys.public_pem(public), str(spoolkeys.key_id(public))
    )


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@output.output_option("table", "json")
def show(file: Path, output: str) -> None:
    """Name a public key: its kind, and the fingerprint that policies and records show.

    Keys for evidence, and the spool's two: the gate's (Ed25519) and the recorder's
    (X25519). The log's vkey is another kind of file, and names itself.
    """
    pem = files.read(file, _MAX_PEM)
    try:
        fields = _described(pem)
    except MalformedError as error:
        raise InputError(f"{file}: {error}") from error
    _print(fields | {"publicKey": str(file)}, output)


def _described(pem: bytes) -> dict[str, object]:
    """Name a key of either sort; raises ``MalformedError``."""
    from trailgate.evidence import keys
    from trailgate.ledger import spoolkeys

    try:
        key = keys.load_public_key(pem)
    except MalformedError:
        try:
            sealing = spoolkeys.load_sealing_key(pem)
        except MalformedError:
            sealing = None
        if sealing is None:
            raise
        told = {"fingerprint": str(spoolkeys.key_id(sealing)), "kind": "X25519"}
        return {**told, "use": "the recorder's: what gates seal to it, only it can open"}
    use = "signs evidence, or (a gate's) what it spools" if keys.is_ed25519(key) else None
    return {
        "fingerprint": key.fingerprint,
        "kind": keys.kind(key),
        "use": use or "signs evidence",
    }


def _print(fields: dict[str, object], form: str) -> None:
    if form == "json":
        output.emit_json(fields)
        return
    output.emit_fields(fields)
