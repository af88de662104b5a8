"""Somebody deletes the webhook configuration: it comes back, and what got in meanwhile is told."""

from __future__ import annotations

from e2e.demo import manifests
from e2e.stories.installation import CONFIGURATION, NAMESPACE, Installation, wait_for
from e2e.stories.shop import deployment
from e2e.stories.stand import Stand


def test_it_is_armed_again_at_once(stand: Stand, release: Installation) -> None:
    before = max(row["index"] for row in release.rows("--kind", "control-state"))
    stand.cluster.kubectl("delete", CONFIGURATION)
    release.wait_until_armed(30)
    wait_for("the gate to hold", stand.is_enforced, 30)
    wait_for(
        "its deletion and its return in the ledger",
        lambda: {"deleted", "put-back"} <= _told_after(release, before),
        30,
    )


def _told_after(release: Installation, index: int) -> set[str]:
    return {
        row["state"]
        for row in release.rows("--kind", "control-state")
        if row["index"] > index and row["workload"] == "webhook-configuration/trailgate"
    }


def test_what_got_in_meanwhile_is_a_discrepancy(stand: Stand, release: Installation) -> None:
    cluster = stand.cluster
    cluster.kubectl("scale", "deployment/trailgate-operator", "-n", NAMESPACE, "--replicas=0")
    cluster.kubectl(
        "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=operator",
        "-n", NAMESPACE, "--timeout=60s",
    )  # fmt: skip
    cluster.kubectl("delete", CONFIGURATION)
    stand.deployer.apply(deployment(stand.bad, name="stowaway", replicas=0))
    cluster.kubectl("scale", "deployment/trailgate-operator", "-n", NAMESPACE, "--replicas=1")
    release.wait_until_armed(90)
    wait_for(
        "the discrepancy",
        lambda: release.rows("--kind", "discrepancy", "--workload", "Deployment/stowaway"),
        90,
    )
    stand.deployer.kubectl("delete", "deployment/stowaway", "-n", manifests.SHOP)
