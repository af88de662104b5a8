"""Image archives: one form for every tool that loads images, and alike for equal images.

An OCI layout in a tar file, with the names where containerd looks for them, and Docker's
own table of contents beside it: ``ctr images import``, ``kind load image-archive``,
``docker load`` and ``buildah pull oci-archive:`` all take it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from e2e.images.errors import ImageError

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image."""

    digest: str
    """Of what is transferred: compressed."""
    size: int
    """Bytes that are transferred."""
    unpacked: int
    """Bytes of its tar stream."""


class Archive:
    """An archive that is being read."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path)  # noqa: SIM115 - closed by __exit__
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def blob(self, digest: str) -> bytes:
        """Return a blob; raises ``ImageError`` where it is missing or isn't what it is named."""
        content = self._read(f"blobs/{digest.replace(':', '/')}")
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise ImageError(f"{self._path}: the blob {digest} has another content")
        return content

    def manifest(self) -> tuple[str, dict[str, Any]]:
        """Return digest and content of the one image in it, not those of attestations."""
        listed = json.loads(self._read("index.json"))["manifests"]
        while len(listed := [entry for entry in listed if _is_image(entry)]) == 1:
            (entry,) = listed
            content = json.loads(self.blob(entry["digest"]))
            if entry["mediaType"] != _INDEX:
                return entry["digest"], content
            listed = content["manifests"]
        raise ImageError(f"{self._path}: got {len(listed)} images, expected one")

    def config(self) -> dict[str, Any]:
        """Return the image's configuration: environment, entry point, labels."""
        config: dict[str, Any] = json.loads(self.blob(self.manifest()[1]["config"]["digest"]))
        return config

    def layers(self) -> Iterator[Layer]:
        """Yield the layers, lowest first."""
        for entry in self.manifest()[1]["layers"]:
            unpacked = len(_inflate(self.blob(entry["digest"])))
            yield Layer(entry["digest"], entry["size"], unpacked)

    def unpack(self, directory: Path) -> None:
        """Lay the layers over each other, as a runtime does; owners only where root asks."""
        for entry in self.manifest()[1]["layers"]:
            with tarfile.open(fileobj=io.BytesIO(_inflate(self.blob(entry["digest"])))) as layer:
                for member in layer:
                    _lay(layer, member, directory)

    def _read(self, name: str) -> bytes:
        try:
            file = self._tar.extractfile(name)
        except KeyError as error:
            raise ImageError(f"{self._path}: got no {name}, expected an OCI layout") from error
        if file is None:
            raise ImageError(f"{self._path}: {name} is no file")
        return file.read()


def rewrite(raw: Path, target: Path, reference: str) -> str:
    """Write an archive anew, with nothing but its image in it; returns the image's digest."""
    with Archive(raw) as archive:
        digest, manifest = archive.manifest()
        wanted = [manifest["config"]["digest"], *(x["digest"] for x in manifest["layers"])]
        blobs = {name: archive.blob(name) for name in (digest, *wanted)}
    _write(target, reference, digest, manifest, blobs)
    return digest


def base(rootfs: Path, target: Path, reference: str, machine: str) -> str:
    """Make an image of one layer, a file system as a tar file; returns its digest."""
    tar = rootfs.read_bytes()
    layer = gzip.compress(tar, compresslevel=6, mtime=0)
    config = _json({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(tar)]},
        "history": [{"created_by": "a root file system of packages"}],
    })  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)},
        "layers": [{"mediaType": _LAYER, "digest": _digest(layer), "size": len(layer)}],
    }
    content = _json(manifest)
    blobs = {_digest(blob): blob for blob in (config, layer, content)}
    _write(target, reference, _digest(content), manifest, blobs)
    return _digest(content)


def _write(
    target: Path, reference: str, digest: str, manifest: dict[str, Any], blobs: dict[str, bytes]
) -> None:
    names = {
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference,
    }
    entry = {
        "mediaType": manifest.get("mediaType", _MANIFEST),
        "digest": digest,
        "size": len(blobs[digest]),
        "annotations": names,
    }
    docker = {
        "Config": _path(manifest["config"]["digest"]),
        "RepoTags": [reference],
        "Layers": [_path(layer["digest"]) for layer in manifest["layers"]],
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": _json(index),
        "manifest.json": _json([docker]),
        **{_path(name): blob for name, blob in blobs.items()},
    }
    staged = target.with_name(f".{target.name}.new")
    with tarfile.open(staged, "w") as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    staged.rename(target)


def _lay(layer: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    path = directory / member.name
    if path.name == _OPAQUE:
        _remove(path.parent.iterdir())
    elif path.name.startswith(_WHITEOUT):
        _remove([path.with_name(path.name.removeprefix(_WHITEOUT))])
    else:
        if path.is_symlink() or (path.exists() and not (path.is_dir() and member.isdir())):
            _remove([path])
        layer.extract(member, directory, numeric_owner=True, filter="fully_trusted")


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_image(entry: dict[str, Any]) -> bool:
    kind: str = entry.get("annotations", {}).get("vnd.docker.reference.type", "")
    return kind != "attestation-manifest"


def _inflate(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
