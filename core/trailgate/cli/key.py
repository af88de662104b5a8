"""``trailgate key``: key pairs for signing."""

from __future__ import annotations

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
@output.output_option("table", "json")
def generate(prefix: str, output: str) -> None:
    """Make a P-256 key pair.

    The private key is PKCS#8 PEM, encrypted with the passphrase from
    TRAILGATE_KEY_PASSPHRASE or a prompt; the public key is what cosign calls
    cosign.pub. Existing files are never overwritten.
    """
    from trailgate.evidence import keys

    private, public = Path(f"{prefix}.key"), Path(f"{prefix}.pub")
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise InputError(f"{path}: it exists, and is not overwritten")
    secret = passphrase.new()
    key = keys.generate()
    files.create(private, keys.private_pem(key, secret), secret=True)
    files.create(public, keys.public_pem(key.public), secret=False)
    _print(
        {
            "fingerprint": key.public.fingerprint,
            "privateKey": str(private),
            "publicKey": str(public),
            "encrypted": secret is not None,
        },
        output,
    )


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@output.output_option("table", "json")
def show(file: Path, output: str) -> None:
    """Name a public key: print the fingerprint that policies and records show."""
    from trailgate.evidence import keys

    try:
        key = keys.load_public_key(files.read(file, _MAX_PEM))
    except MalformedError as error:
        raise InputError(f"{file}: {error}") from error
    _print({"fingerprint": key.fingerprint, "publicKey": str(file)}, output)


def _print(fields: dict[str, object], form: str) -> None:
    if form == "json":
        output.emit_json(fields)
        return
    output.emit_fields(fields)
