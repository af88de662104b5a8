"""Build and push a small image: one layer with the checkout's files, and what to run."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from dataclasses import dataclass
from pathlib import Path

from trailgate.model.digest import Digest
from trailgate.model.image import ImageReference
from trailgate.oci.registry import RegistryWriter

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Runnable:
    """A static program for an image that is to run."""

    program: Path
    arguments: tuple[str, ...]


def _layer(directory: Path, runs: Runnable | None) -> bytes:
    """Pack the directory's files, in order and without times, so that equal is equal."""
    files = {f"app/{file.name}": (file, 0o644) for file in sorted(directory.glob("*.py"))}
    if runs is not None:
        files[runs.program.name] = (runs.program, 0o755)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (file, mode) in files.items():
            content = file.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


async def push(
    writer: RegistryWriter,
    image: ImageReference,
    directory: Path,
    label: str,
    runs: Runnable | None = None,
) -> Digest:
    """Build an image of a checkout and push it under a tag; returns its digest."""
    layer = _layer(directory, runs)
    started: dict[str, object] = {"Labels": {"org.opencontainers.image.revision": label}}
    if runs is not None:
        started |= {"Entrypoint": [f"/{runs.program.name}", *runs.arguments], "User": "65532:65532"}
    config = json.dumps(
        {
            "architecture": {"aarch64": "arm64"}.get(platform.machine(), "amd64"),
            "os": "linux",
            "config": started,
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
