"""The shop's CI: build, test, sign, attest, with the real command line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.demo import image
from e2e.demo.manifests import BUILDER, VERIFIER
from e2e.demo.shop import Repository
from trailgate.model.image import ImageReference
from trailgate.oci.client import RegistryClient
from trailgate.oci.guard import Guard

FORGE = "git.shop.example"
ALICE = {"id": f"{FORGE}:1001", "login": "alice", "name": "Alice Ames"}
BOB = {"id": f"{FORGE}:1002", "login": "bob", "name": "Bob Byrne"}
RUN = "https://ci.shop.example/runs"


def trailgate(
    *arguments: str | Path, passphrase: str = "", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the real ``trailgate`` command of this environment."""
    done = subprocess.run(
        [sys.executable, "-m", "trailgate.cli.main", *map(str, arguments)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "TRAILGATE_KEY_PASSPHRASE": passphrase, "NO_COLOR": "1"},
    )  # fmt: skip
    if check and done.returncode != 0:
        raise RuntimeError(
            f"trailgate {' '.join(map(str, arguments))}: status {done.returncode}\n{done.stderr}"
        )
    return done


@dataclass(frozen=True)
class Pipeline:
    """One repository's CI with its keys: the release and build keys are the CI's own."""

    repository: Repository
    registry: str
    work: Path
    keys: Mapping[str, Path]
    """Private keys by name: release, build, review."""
    passphrase: str

    def build(self, tag: str, name: str = "web") -> str:
        """Build and push the checkout's image; returns its reference by digest."""
        reference = ImageReference.parse(f"{self.registry}/shop/{name}:{tag}")

        async def push() -> str:
            guard = Guard(lambda: {self.registry}, insecure=frozenset({self.registry}))
            async with RegistryClient(guard) as client:
                digest = await image.push(
                    client, reference, self.repository.path, f"{self.repository.head} {tag}"
                )
            return str(reference.with_digest(digest))

        return asyncio.run(push())

    def sign(self, reference: str, key: str = "release") -> None:
        """Sign the image."""
        self._attest(reference, key, "sign")

    def provenance(
        self, reference: str, *, run: int, key: str = "build", repository: str | None = None
    ) -> None:
        """State what the image was built from."""
        self._attest(
            reference, key, "attest", "provenance",
            "--source", self.repository.path, "--repository", repository or self.repository.url,
            "--ref", "refs/heads/main", "--builder", BUILDER, "--run", f"{RUN}/{run}",
        )  # fmt: skip

    def tests(self, reference: str, *, run: int, commit: str | None = None) -> bool:
        """Run the repository's tests and state how they went; returns whether they passed."""
        junit = self.work / f"junit-{run}.xml"
        passed = self.repository.run_tests(junit)
        chosen = ["--commit", commit] if commit else []
        self._attest(
            reference, "build", "attest", "tests", "--source", self.repository.path,
            "--repository", self.repository.url, "--junit", junit,
            "--url", f"{RUN}/{run}", *chosen,
        )  # fmt: skip
        return passed

    def change(self, reference: str, record: Mapping[str, Any], *, key: str = "review") -> None:
        """State who wrote and approved it, signed by whoever keeps the review key."""
        file = self.work / f"change-{abs(hash(json.dumps(record, sort_keys=True)))}.json"
        file.write_text(json.dumps(record, indent=2))
        self._attest(reference, key, "attest", "change", "--file", file, "--verifier", VERIFIER)

    def record(
        self,
        *,
        since: str,
        approvers: list[Mapping[str, Any]] | None = None,
        approved: str | None = None,
        number: int = 42,
    ) -> dict[str, Any]:
        """Write the change record of the commits after ``since``, approved by Bob unless told."""
        head = self.repository.head
        commits = self.repository.git("rev-list", f"{since}..{head}").split()
        reviewers = [BOB] if approvers is None else approvers
        return {
            "source": {
                "uri": f"git+{self.repository.url}",
                "ref": "refs/heads/main",
                "from": since,
                "to": head,
                "tree": self.repository.tree,
                "commits": commits,
            },
            "changes": [
                {
                    "uri": f"{self.repository.url}/pull/{number}",
                    "headCommit": head,
                    "commits": commits,
                    "openedAt": "2026-11-20T09:00:00Z",
                    "mergedAt": "2026-11-20T12:00:00Z",
                    "committers": [ALICE],
                    "lastPusher": ALICE,
                }
            ],
            "committers": [ALICE],
            "approvers": [
                {
                    **reviewer,
                    "state": "APPROVED",
                    "commit": approved or head,
                    "at": "2026-11-20T11:30:00Z",
                    "binding": "commit",
                    "uri": f"{self.repository.url}/pull/{number}#review",
                }
                for reviewer in reviewers
            ],
            "ticket": f"SHOP-{number}",
        }

    def _attest(self, reference: str, key: str, *command: str | Path) -> None:
        trailgate(
            *command, "--key", self.keys[key], "--allow-insecure-registry", self.registry,
            reference, passphrase=self.passphrase,
        )  # fmt: skip
