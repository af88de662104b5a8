"""The command line against a real registry, with a checkout and keys of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from trailgate.cli.main import main
from trailgate.cli.registry import by_digest, open_registry
from trailgate.evidence import keys, verify
from trailgate.evidence.keys import PrivateKey
from trailgate.model.evidence import Evidence
from trailgate.model.image import ImageReference
from trailgate.oci import media
from trailgate.oci.attached import fetch_attached

CI_VARIABLES = ("GITHUB_ACTIONS", "GITLAB_CI", "TRAILGATE_KEY", "TRAILGATE_VERIFIER")


def git(directory: Path, *arguments: str) -> str:
    identity = [
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@b.example",
        "-c",
        "init.defaultBranch=main",
    ]
    done = subprocess.run(
        ["git", "-C", directory, *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A Git checkout with one commit and a remote that has credentials in it."""
    directory = tmp_path / "checkout"
    directory.mkdir()
    git(directory, "init", "-q")
    (directory / "file").write_text("one")
    git(directory, "add", ".")
    git(directory, "commit", "-q", "-m", "one")
    git(directory, "remote", "add", "origin", "https://ci:s3cret@Git.example/acme/web.git")
    return directory


@dataclass(frozen=True)
class Workbench:
    image: ImageReference
    tagged: ImageReference
    key: PrivateKey
    key_file: Path
    directory: Path

    def run(self, *arguments: str | Path, env: dict[str, str] | None = None) -> Result:
        base = dict.fromkeys(CI_VARIABLES) | {"HOME": str(self.directory)}
        base["TRAILGATE_ALLOW_INSECURE_REGISTRY"] = self.image.registry
        return CliRunner().invoke(main, [*map(str, arguments)], env=base | (env or {}))

    def evidence(self) -> Evidence:
        async def fetch():
            async with open_registry(self.image, [self.image.registry]) as client:
                return await fetch_attached(client, self.image)

        return verify.verify(asyncio.run(fetch()), (self.key.public,))


@pytest.fixture
def workbench(registry, tmp_path) -> Workbench:
    key = keys.generate()
    path = tmp_path / "ci.key"
    path.write_bytes(keys.private_pem(key, None))
    tagged = ImageReference(registry.address, f"cli/{uuid.uuid4().hex}", "v1")
    return Workbench(asyncio.run(_push(tagged)), tagged, key, path, tmp_path)


async def _push(target: ImageReference) -> ImageReference:
    config = json.dumps({"architecture": "amd64", "os": "linux", "n": target.repository}).encode()
    async with open_registry(target, [target.registry]) as client:
        digest = await client.push_blob(target, config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": media.OCI_MANIFEST,
            "config": {"mediaType": media.OCI_CONFIG, "digest": str(digest), "size": len(config)},
            "layers": [],
        }
        await client.push_manifest(target, json.dumps(manifest).encode(), media.OCI_MANIFEST)
        return await by_digest(client, target)
