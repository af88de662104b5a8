"""What the stories share: one cluster, one installation, the shop and its CI."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import provider
from e2e.cluster.provider import Cluster
from e2e.controlplane.binaries import ensure
from e2e.demo import manifests
from e2e.images.build import COMPONENTS, build
from e2e.stories import installation, registry
from e2e.stories.deployer import Deployer
from e2e.stories.installation import Installation
from e2e.stories.say import say
from e2e.stories.shop import PULL_SECRET, Shop, open_shop
from e2e.stories.stand import Stand


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the whole run."""
    return tmp_path_factory.mktemp("stories")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster; one that is made for this run is gone afterwards."""
    began = time.monotonic()
    with provider.cluster() as running:
        say(f"{running.provider} cluster up in {time.monotonic() - began:.0f} s")
        yield running


@pytest.fixture(scope="session")
def shop(cluster: Cluster, directory: Path) -> Iterator[Shop]:
    """The shop's CI, logged in at the registry; its namespace and its deployer's account."""
    login = directory / "docker"
    login.mkdir()
    (login / "config.json").write_text(registry.docker_config(cluster))
    before = os.environ.get("DOCKER_CONFIG")
    os.environ["DOCKER_CONFIG"] = str(login)
    try:
        opened = open_shop(cluster, directory, ensure(["podling"])["podling"])
        for namespace in (manifests.SHOP, manifests.CI):
            _namespace(cluster, namespace)
        _pull_secret(cluster, manifests.SHOP)
        cluster.kubectl(
            "create", "serviceaccount", manifests.DEPLOYER, "-n", manifests.CI, check=False
        )
        cluster.kubectl(
            "create", "rolebinding", "deployer", "-n", manifests.SHOP, "--clusterrole=edit",
            f"--serviceaccount={manifests.CI}:{manifests.DEPLOYER}", check=False,
        )  # fmt: skip
        yield opened
    finally:
        if before is None:
            del os.environ["DOCKER_CONFIG"]
        else:
            os.environ["DOCKER_CONFIG"] = before


@pytest.fixture(scope="session")
def release(cluster: Cluster, directory: Path) -> Installation:
    """Trailgate, installed by Helm from this checkout, armed, with no policy yet."""
    began = time.monotonic()
    digests = {
        component: registry.push_archive(cluster, archive, f"trailgate/trailgate-{component}")
        for component, archive in _archives(directory).items()
    }
    say(f"images built and pushed in {time.monotonic() - began:.0f} s")
    _namespace(cluster, installation.NAMESPACE)
    _pull_secret(cluster, installation.NAMESPACE)
    helm = ensure(["helm4"])["helm4"]
    release = Installation(cluster, helm, digests, directory, PULL_SECRET)
    began = time.monotonic()
    release.install()
    say(f"installed and armed in {time.monotonic() - began:.0f} s")
    return release


def _archives(directory: Path) -> dict[str, Path]:
    """Build the images, or take those that ``make images`` left where we are told."""
    given = os.environ.get("TRAILGATE_E2E_IMAGES")
    if given:
        return {one: Path(given) / f"trailgate-{one}.tar" for one in COMPONENTS}
    built = build(directory / "images", say)
    return {component: image.archive for component, image in built.items()}


def _namespace(cluster: Cluster, name: str) -> None:
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(made))


def _pull_secret(cluster: Cluster, namespace: str) -> None:
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": PULL_SECRET, "namespace": namespace},
        "stringData": {".dockerconfigjson": registry.docker_config(cluster)},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(made))


@pytest.fixture(scope="session")
def deployer(cluster: Cluster, shop: Shop, directory: Path) -> Deployer:
    """The shop's deployer, logged in."""
    assert shop.cluster is cluster
    return Deployer.log_in(cluster, ensure(["kubectl"])["kubectl"], directory)


@pytest.fixture(scope="session")
def stand(release: Installation, cluster: Cluster, shop: Shop, deployer: Deployer) -> Stand:
    """The shop in operation under its policy, with a good image and a bad one."""
    good = shop.release("2.0.0", run=2)
    stand = Stand(release, cluster, shop, deployer, good, shop.build("2.0.0-unsigned"))
    stand.enforce()
    return stand
