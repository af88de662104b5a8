"""Parts of the machinery fail under traffic: nothing bad gets in, no evidence is lost."""

from __future__ import annotations

import time

from e2e.cluster.provider import Cluster
from e2e.demo import manifests
from e2e.stories.installation import NAMESPACE, wait_for
from e2e.stories.shop import deployment
from e2e.stories.stand import Stand

_BEFORE, _AFTER = 3.0, 5.0
"""Seconds of undisturbed traffic before and after, so that both are in the account."""


def test_a_gate_killed(stand: Stand) -> None:
    with stand.deploying("one gate killed"):
        time.sleep(_BEFORE)
        (name, *_) = _pods(stand.cluster, "webhook")
        stand.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force")
        _rolled_out(stand.cluster, "webhook")
        time.sleep(_AFTER)


def test_the_operator_away_for_a_minute(stand: Stand) -> None:
    cluster = stand.cluster
    with stand.deploying("operator away for a minute") as account:
        time.sleep(_BEFORE)
        _scale(cluster, "operator", 0)
        (name,) = _pods(cluster, "operator") or [""]
        if name:
            cluster.kubectl(
                "delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force", check=False
            )
        time.sleep(60)
        assert stand.release.spooled() > 0
        _scale(cluster, "operator", 1)
        _rolled_out(cluster, "operator")
        time.sleep(_AFTER)
    assert account.errors == {}


def test_the_api_server_restarted(stand: Stand) -> None:
    with stand.deploying("API server restarted"):
        time.sleep(_BEFORE)
        stand.cluster.restart_api_server()
        time.sleep(_AFTER)
        wait_for("the gate to hold", stand.is_enforced, 60)


def test_the_registry_away_running_releases_scale_and_drain(stand: Stand) -> None:
    cluster = stand.cluster
    stand.deployer.apply(deployment(stand.good, name="steady", replicas=1))
    _shop_rollout(cluster, "steady")
    with stand.deploying("registry away"):
        time.sleep(_BEFORE)
        cluster.stop_registry()
        try:
            stand.deployer.kubectl(
                "scale", "deployment/steady", "-n", manifests.SHOP, "--replicas=3"
            )
            _shop_rollout(cluster, "steady")
            (node, *_) = cluster.kubectl("get", "nodes", "-o", "name").stdout.split()
            cluster.kubectl("cordon", node)
            pods = cluster.kubectl(
                "get", "pods", "-n", manifests.SHOP, "-l", "app=steady", "-o", "name"
            ).stdout.split()
            cluster.kubectl("delete", "-n", manifests.SHOP, *pods, "--wait=false")
            cluster.kubectl("uncordon", node)
            _shop_rollout(cluster, "steady")
        finally:
            cluster.start_registry()
        time.sleep(_AFTER)
    stand.deployer.kubectl("delete", "deployment/steady", "-n", manifests.SHOP)


def test_the_node_stopped_and_started(stand: Stand) -> None:
    with stand.deploying("node's power cut"):
        time.sleep(_BEFORE)
        stand.cluster.stop_node(cut_power=True)
        time.sleep(_AFTER)
        stand.cluster.start_node()
        _rolled_out(stand.cluster, "webhook")
        _rolled_out(stand.cluster, "operator")
        wait_for("the gate to hold", stand.is_enforced, 120)
        time.sleep(_AFTER)


def _pods(cluster: Cluster, component: str) -> list[str]:
    return cluster.kubectl(
        "get", "pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/component={component}",
        "-o", "jsonpath={.items[*].metadata.name}",
    ).stdout.split()  # fmt: skip


def _scale(cluster: Cluster, component: str, replicas: int) -> None:
    cluster.kubectl(
        "scale", f"deployment/trailgate-{component}", "-n", NAMESPACE, f"--replicas={replicas}"
    )


def _rolled_out(cluster: Cluster, component: str) -> None:
    cluster.kubectl(
        "rollout", "status", f"deployment/trailgate-{component}", "-n", NAMESPACE,
        "--timeout=180s", seconds=190,
    )  # fmt: skip


def _shop_rollout(cluster: Cluster, name: str) -> None:
    cluster.kubectl(
        "rollout", "status", f"deployment/{name}", "-n", manifests.SHOP, "--timeout=90s"
    )
