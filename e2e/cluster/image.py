"""An OCI archive of one static program: the smallest image that does something."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def archive(target: Path, name: str, program: Path, arguments: list[str], **labels: str) -> Path:
    """Write the image ``name`` (a full reference with a tag); same inputs, same bytes.

    Another label makes it another image, which matters to the kubelet: what it once
    pulled with a login it gives to no pod without, by whatever name, loaded or not.
    """
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    config = {
        "architecture": _MACHINES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": [f"/{program.name}", *arguments],
            "User": "65532:65532",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [layer, _bytes(config)]
    kinds = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.config.v1+json")
    layers, configs = (_descriptor(kind, b) for kind, b in zip(kinds, blobs, strict=True))
    manifest = _bytes(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": configs,
            "layers": [layers],
        }
    )
    entry = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": name}
    entry["annotations"]["org.opencontainers.image.ref.name"] = name.rpartition(":")[2]
    files = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (*blobs, manifest)}
    files["index.json"] = _bytes({"schemaVersion": 2, "manifests": [entry]})
    files["oci-layout"] = _bytes({"imageLayoutVersion": "1.0.0"})
    target.write_bytes(_tar(files, mode=0o644))
    return target


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _bytes(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
