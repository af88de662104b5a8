"""What ``sign`` and ``attest`` share: the key, the form, the way to the registry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from trailgate.cli import files, output, passphrase
from trailgate.cli.errors import InputError
from trailgate.cli.registry import by_digest, image_argument, open_registry
from trailgate.evidence import keys, simplesigning
from trailgate.evidence.keys import PrivateKey
from trailgate.evidence.sign import Signed
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import EvidenceFormat
from trailgate.model.image import ImageReference
from trailgate.oci.push import LegacyLayer, append_legacy
from trailgate.oci.registry import RegistryWriter

_MAX_PEM = 64 * 1024
_ENVIRONMENT = "env://"

Make = Callable[[ImageReference], Signed]
"""Makes the signed artifact for an image named by digest."""


def signing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add IMAGE, ``--key``, ``--format``, ``-o`` and the registry's options."""
    for decorate in (
        output.output_option("table", "json"),
        click.option(
            "--format",
            "stored",
            type=click.Choice([form.value for form in EvidenceFormat]),
            default=EvidenceFormat.BUNDLE.value,
            show_default=True,
            help="bundle: Sigstore bundle by OCI referrer; legacy: cosign's .sig and .att tags.",
        ),
        click.option(
            "--key",
            "key_name",
            required=True,
            metavar="FILE|env://NAME",
            envvar="TRAILGATE_KEY",
            show_envvar=True,
            help="Private key, PKCS#8 PEM: a file, or an environment variable that holds it.",
        ),
        image_argument,
    ):
        function = decorate(function)
    return function


def load_key(name: str) -> PrivateKey:
    """Load the private key that ``--key`` names."""
    try:
        pem = _pem(name)
        secret = passphrase.existing(name) if keys.is_encrypted(pem) else None
        return keys.load_private_key(pem, secret)
    except MalformedError as error:
        raise InputError(f"{name}: {error}") from error


def run(
    image: ImageReference,
    make: Make,
    *,
    insecure: Sequence[str],
    private: Sequence[str],
    form: str,
) -> None:
    """Resolve the image, sign, store, and print what is where."""
    fields = asyncio.run(_run(image, make, insecure, private))
    if form == "json":
        output.emit_json(fields)
    else:
        output.emit_fields(fields)


async def store(registry: RegistryWriter, image: ImageReference, signed: Signed) -> Digest:
    """Store it in its own format; returns the digest of the manifest that holds it."""
    if signed.format is EvidenceFormat.BUNDLE:
        return await registry.attach(image, signed.content, signed.predicate_type)
    simple = signed.media_type == simplesigning.MEDIA_TYPE
    layer = LegacyLayer(signed.media_type, signed.content, signed.annotations)
    return await append_legacy(registry, image, ".sig" if simple else ".att", layer)


async def _run(
    image: ImageReference, make: Make, insecure: Sequence[str], private: Sequence[str]
) -> dict[str, Any]:
    async with open_registry(image, insecure, private) as client:
        named = await by_digest(client, image)
        if image.digest is None:
            output.note(f"{image} is {named.digest}; signing the digest, not the tag")
        signed = make(named)
        manifest = await store(client, named, signed)
    return {
        "image": str(named),
        "predicateType": signed.predicate_type,
        "format": signed.format.value,
        "digest": str(signed.digest),
        "manifest": str(manifest),
    }


def _pem(name: str) -> bytes:
    if name.startswith(_ENVIRONMENT):
        variable = name.removeprefix(_ENVIRONMENT)
        text = os.environ.get(variable)
        if not text:
            raise InputError(f"--key {name}: the environment variable is not set")
        return text.encode("utf-8")
    return files.read(Path(name), _MAX_PEM)
