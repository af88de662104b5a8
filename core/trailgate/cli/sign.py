"""``trailgate sign``: put a signature beside an image."""

from __future__ import annotations

import click

from trailgate.cli import signing
from trailgate.evidence import sign
from trailgate.model.evidence import EvidenceFormat
from trailgate.model.image import ImageReference


@click.command("sign")
@click.option(
    "-a",
    "--annotation",
    "annotations",
    multiple=True,
    metavar="NAME=VALUE",
    help="Say this, too, in the signature; may be repeated.",
)
@signing.signing_options
def command(
    *,
    image: ImageReference,
    key_name: str,
    stored: str,
    annotations: tuple[str, ...],
    insecure: tuple[str, ...],
    private: tuple[str, ...],
    output: str,
) -> None:
    """Sign IMAGE with a private key, as 'cosign sign --key' does.

    A tag is resolved first, and what is signed is the digest.
    """
    said = dict(_pair(text) for text in annotations)
    key = signing.load_key(key_name)
    signing.run(
        image,
        lambda named: sign.signature(named, key, EvidenceFormat(stored), said),
        insecure=insecure,
        private=private,
        form=output,
    )


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"got {text!r}, expected NAME=VALUE", param_hint="--annotation")
    return name, value
