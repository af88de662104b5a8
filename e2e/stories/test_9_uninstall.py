"""Uninstall: nothing is left behind but the trail, nothing is stuck, the cluster deploys freely."""

from __future__ import annotations

import json

from e2e.demo import manifests
from e2e.stories.installation import NAMESPACE, Installation, wait_for
from e2e.stories.shop import deployment
from e2e.stories.stand import Stand

_KEPT = {
    "persistentvolumeclaim/trailgate-checkpoint",
    "persistentvolumeclaim/trailgate-ledger",
    "secret/trailgate-log",
}


def test_uninstall_leaves_the_trail_and_nothing_else(stand: Stand, release: Installation) -> None:
    cluster = stand.cluster
    release.uninstall()
    assert not release.is_armed()
    stand.deployer.apply(deployment(stand.bad, name="free", replicas=0))
    stand.deployer.kubectl("delete", "deployment/free", "-n", manifests.SHOP)

    def left() -> set[str]:
        names = cluster.kubectl(
            "get", "all,secrets,pvc,serviceaccounts,roles,rolebindings,networkpolicies,pdb,jobs,"
            "configmaps,resourcequotas", "-n", NAMESPACE, "-o", "name",
        ).stdout.split()  # fmt: skip
        return {name for name in names if "trailgate" in name}

    wait_for("everything else to go", lambda: left() <= _KEPT, 60)
    assert left() == _KEPT
    everywhere = cluster.kubectl(
        "get", "clusterroles,clusterrolebindings,validatingadmissionpolicies,"
        "validatingadmissionpolicybindings,validatingwebhookconfigurations,flowschemas,"
        "prioritylevelconfigurations,disarms", "-o", "name",
    ).stdout.split()  # fmt: skip
    assert [name for name in everywhere if "trailgate" in name] == []


def test_a_namespace_with_what_is_left_can_be_deleted(stand: Stand) -> None:
    cluster = stand.cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
    crds = [
        item["metadata"]["name"]
        for item in json.loads(cluster.kubectl("get", "crds", "-o", "json").stdout)["items"]
        if item["spec"]["group"] == "trailgate.dev"
    ]
    assert len(crds) == 3, "the kinds are kept, and every policy with them"
    cluster.kubectl("delete", "crds", *crds, "--timeout=60s")
