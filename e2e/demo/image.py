"""Build and push a small image: one layer with the checkout's files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci.registry import RegistryWriter

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def _layer(directory: Path) -> bytes:
    """Pack the directory's files, in order and without times, so that equal is equal."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in sorted(directory.glob("*.py")):
            content = file.read_bytes()
            entry = tarfile.TarInfo(f"app/{file.name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


async def push(
    writer: RegistryWriter, image: ImageReference, directory: Path, label: str
) -> Digest:
    """Build an image of a checkout and push it under a tag; returns its digest."""
    layer = _layer(directory)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"org.opencontainers.image.revision": label}},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()

    def descriptor(media_type: str, digest: Digest, content: bytes) -> dict[str, object]:
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    config_digest = await writer.push_blob(image, config)
    layer_digest = await writer.push_blob(image, layer)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": descriptor(_CONFIG, config_digest, config),
            "layers": [descriptor(_LAYER, layer_digest, layer)],
        }
    ).encode()
    return (await writer.push_manifest(image, manifest, _MANIFEST)).digest
