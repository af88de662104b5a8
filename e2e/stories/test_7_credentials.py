"""A registry that asks for a login, and a gate that has none but the workloads' own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.demo import manifests
from e2e.stories.installation import NAMESPACE, wait_for
from e2e.stories.shop import PULL_SECRET, deployment
from e2e.stories.stand import Stand

pytestmark = pytest.mark.timeout(600)

_LISTED = [{"namespace": manifests.SHOP, "name": PULL_SECRET}]


@pytest.fixture(scope="module")
def without_own_login(stand: Stand) -> Iterator[Stand]:
    """The gate with no credentials of its own, and nothing listed."""
    before = stand.release.values.get("registry", {})
    _upgrade(stand, {**before, "credentialsSecret": "", "imagePullSecrets": []})
    yield stand
    _upgrade(stand, before)
    wait_for("the gate to hold", stand.is_enforced, 30)


def test_an_unlisted_secret_is_not_read_and_named(without_own_login: Stand) -> None:
    refused = without_own_login.deployer.try_out(_good(without_own_login))
    assert "EvidenceUnavailable" in refused
    assert f"{manifests.SHOP}/{PULL_SECRET}" in refused
    assert "SignatureMissing" not in refused, "not being let in is no missing signature"


def test_a_listed_secret_lets_its_pods_be_judged(without_own_login: Stand) -> None:
    stand = without_own_login
    _upgrade(stand, {**stand.release.values["registry"], "imagePullSecrets": _LISTED})
    assert "SignatureMissing" in stand.deployer.try_out(deployment(stand.bad, name="try"))
    stand.deployer.apply(_good(stand))
    stand.cluster.kubectl(
        "rollout", "status", "deployment/own-login", "-n", manifests.SHOP, "--timeout=60s"
    )
    stand.deployer.kubectl("delete", "deployment/own-login", "-n", manifests.SHOP)


def test_and_only_pods_that_name_it(without_own_login: Stand) -> None:
    anonymous = copy.deepcopy(_good(without_own_login))
    del anonymous["spec"]["template"]["spec"]["imagePullSecrets"]
    refused = without_own_login.deployer.try_out(anonymous)
    assert "EvidenceUnavailable" in refused, "what others learned by their login is not told"


def test_the_gate_may_read_that_one_secret(without_own_login: Stand) -> None:
    can = without_own_login.cluster.kubectl
    account = f"--as=system:serviceaccount:{NAMESPACE}:trailgate-webhook"

    def allowed(*words: str, namespace: str = manifests.SHOP) -> str:
        return can("auth", "can-i", *words, "-n", namespace, account, check=False).stdout.strip()

    assert allowed("get", f"secrets/{PULL_SECRET}") == "yes"
    assert allowed("get", "secrets/another") == "no"
    assert allowed("list", "secrets") == "no"
    assert allowed("get", f"secrets/{PULL_SECRET}", namespace="default") == "no"


def _good(stand: Stand) -> dict[str, Any]:
    return deployment(stand.good, name="own-login")


def _upgrade(stand: Stand, registry: dict[str, Any]) -> None:
    """Upgrade, and wait until no gate of before drains any more: it would still answer."""
    before = _gates(stand)
    stand.release.upgrade(registry=registry)
    wait_for("the gates of before to be gone", lambda: not before & _gates(stand), 90)


def _gates(stand: Stand) -> set[str]:
    return set(
        stand.cluster.kubectl(
            "get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=webhook",
            "-o", "name",
        ).stdout.split()
    )  # fmt: skip
