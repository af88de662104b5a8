"""The shop on a real cluster: its CI builds images that run, its policy, who deploys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.cluster.provider import Cluster
from e2e.demo import image, manifests, shop
from e2e.demo.pipeline import Pipeline, trailgate
from e2e.stories import registry
from trailgate.model.image import ImageReference
from trailgate.oci.client import RegistryClient

SOURCE = "https://git.shop.example/shop/web"
PULL_SECRET = "e2e-registry"
_PASSPHRASE = "stories only"
_KEYS = ("release", "build", "review")


@dataclass(frozen=True)
class Shop(Pipeline):
    """One repository's CI, whose images hold a program that runs."""

    cluster: Cluster
    program: Path
    """A static program that takes ``serve ADDRESS``."""

    def build(self, tag: str, name: str = "web") -> str:
        """Build and push the checkout's image; returns its reference by digest."""
        reference = ImageReference.parse(f"{self.registry}/shop/{name}:{tag}")

        async def push(client: RegistryClient) -> str:
            label = f"{self.repository.head} {tag}"
            runnable = image.Runnable(self.program, ("serve", ":8080"))
            digest = await image.push(client, reference, self.repository.path, label, runnable)
            return str(reference.with_digest(digest))

        return registry.with_client(self.cluster, push)

    def release(self, tag: str, run: int) -> str:
        """Commit, build, test, sign and attest a version as the policy wants it."""
        before = self.repository.head
        self.repository.commit({"VERSION": tag}, f"Release {tag}")
        reference = self.build(tag)
        self.sign(reference)
        self.provenance(reference, run=run)
        self.tests(reference, run=run)
        self.change(reference, self.record(since=before, number=run))
        return reference

    def policy(self, mode: str = "Enforce") -> dict[str, Any]:
        """Return the shop's policy."""
        public = {name: self.keys[name].with_suffix(".pub").read_text() for name in _KEYS}
        policy = manifests.deploy_policy(self.registry, SOURCE, public)
        policy["spec"]["mode"] = mode
        return policy


def open_shop(cluster: Cluster, directory: Path, program: Path) -> Shop:
    """Make the shop's repository and keys."""
    keys = directory / "keys"
    keys.mkdir()
    for name in _KEYS:
        trailgate("key", "generate", "--out", keys / name, passphrase=_PASSPHRASE)
    repository = shop.create(directory / "shop", SOURCE)
    private = {name: keys / f"{name}.key" for name in _KEYS}
    return Shop(
        repository, cluster.registry_address, directory, private, _PASSPHRASE, cluster, program
    )


def deployment(reference: str, **extra: Any) -> dict[str, Any]:
    """Make a Deployment whose pod is ready when it answers."""
    made = manifests.deployment(reference, **extra)
    pod: dict[str, Any] = made["spec"]["template"]["spec"]
    pod["imagePullSecrets"] = [{"name": PULL_SECRET}]
    pod["terminationGracePeriodSeconds"] = 1
    pod["containers"][0]["readinessProbe"] = {
        "httpGet": {"path": "/", "port": 8080},
        "periodSeconds": 1,
    }
    return made


def environment(made: Mapping[str, Any], **variables: str) -> dict[str, Any]:
    """Return a Deployment with other environment variables: a change of configuration alone."""
    template = made["spec"]["template"]
    (container,) = template["spec"]["containers"]
    changed = {**container, "env": [{"name": k, "value": v} for k, v in variables.items()]}
    spec = {**template["spec"], "containers": [changed]}
    return {**made, "spec": {**made["spec"], "template": {**template, "spec": spec}}}
