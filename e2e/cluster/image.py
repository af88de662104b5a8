"""An OCI archive of one static program: the smallest image that does something."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

from e2e.cluster.errors import ClusterError

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


def check_named(source: Path) -> None:
    """Raise ``ClusterError`` where an image of an OCI or Docker archive has no full name.

    Loaded all the same, it would get a made-up one that no pod asks for.
    """
    try:
        with tarfile.open(source) as tar:
            wanted = {"index.json", "manifest.json"}
            found = {
                e.name.removeprefix("./"): e for e in tar if e.name.removeprefix("./") in wanted
            }
            texts = {name: _read(tar, entry) for name, entry in found.items()}
    except (tarfile.TarError, OSError, ValueError) as error:
        raise ClusterError(f"{source}: got no readable archive of an image: {error}") from error
    if not texts:
        raise ClusterError(f"{source}: got neither index.json nor manifest.json in the archive")
    docker = [image.get("RepoTags") for image in texts.get("manifest.json") or []]
    oci = [_oci_name(entry) for entry in texts.get("index.json", {}).get("manifests", [])]
    names = oci or docker
    if not names or not all(names):
        raise ClusterError(
            f"{source}: got an image without a full name in the archive, "
            "expected one like registry.example/name:tag"
        )


def _oci_name(entry: dict[str, Any]) -> str | None:
    annotations = entry.get("annotations") or {}
    name = annotations.get("io.containerd.image.name")
    tag = annotations.get("org.opencontainers.image.ref.name", "")
    return name or (tag if "/" in tag else None)


def _read(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Any:
    file = tar.extractfile(entry)
    if file is None:
        raise ValueError(f"{entry.name} is no file")
    return json.loads(file.read())


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
