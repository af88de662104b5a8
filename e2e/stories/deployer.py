"""The CI's service account, at work with the real kubectl and a token of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.kubectl import Kubectl
from e2e.cluster.provider import Cluster
from e2e.demo import manifests


@dataclass(frozen=True)
class Deployer:
    """kubectl as ``ci/deployer``."""

    kubectl: Kubectl

    @property
    def kubeconfig(self) -> Path:
        """Of this account."""
        return self.kubectl.kubeconfig

    @classmethod
    def log_in(cls, cluster: Cluster, program: Path, directory: Path) -> Deployer:
        """Ask for a token and write a kubeconfig with it and nothing else."""
        token = cluster.kubectl(
            "create", "token", manifests.DEPLOYER, "-n", manifests.CI, "--duration=24h"
        ).stdout.strip()
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        config["users"] = [{"name": "deployer", "user": {"token": token}}]
        for context in config["contexts"]:
            context["context"]["user"] = "deployer"
        file = directory / "deployer.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(config))
        return cls(Kubectl(program, file))

    def apply(self, *objects: Mapping[str, Any], check: bool = True) -> str:
        """Apply objects; returns what kubectl said, on both streams."""
        return self._said(self._apply(objects, check=check))

    def try_out(self, *objects: Mapping[str, Any]) -> str:
        """Try by dry run; returns the refusal, or nothing where there was none."""
        done = self._apply(objects, "--dry-run=server", check=False)
        return "" if done.returncode == 0 else self._said(done)

    def _apply(
        self, objects: tuple[Mapping[str, Any], ...], *more: str, check: bool
    ) -> subprocess.CompletedProcess[str]:
        text = "\n---\n".join(json.dumps(one) for one in objects)
        return self.kubectl("apply", "-f", "-", *more, input=text, check=check)

    @staticmethod
    def _said(done: subprocess.CompletedProcess[str]) -> str:
        return done.stdout + done.stderr
