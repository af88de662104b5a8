"""Install, write a policy, be refused, sign, be admitted, and see it run."""

from __future__ import annotations

import json

from e2e.cluster.provider import Cluster
from e2e.demo import manifests
from e2e.stories.deployer import Deployer
from e2e.stories.installation import NAMESPACE, Installation, wait_for
from e2e.stories.shop import Shop, deployment


def test_the_gate_runs_twice_and_the_operator_once(release: Installation, cluster: Cluster) -> None:
    answer = cluster.kubectl("get", "deployments", "-n", NAMESPACE, "-o", "json").stdout
    ready = {one["metadata"]["name"]: one["status"]["readyReplicas"] for one in
             json.loads(answer)["items"]}  # fmt: skip
    assert ready == {"trailgate-webhook": 2, "trailgate-operator": 1}
    assert release.is_armed()


def test_refused_signed_admitted_running(
    release: Installation, cluster: Cluster, shop: Shop, deployer: Deployer
) -> None:
    cluster.kubectl("apply", "-f", "-", input=json.dumps(shop.policy()))
    cluster.kubectl("wait", "--for=condition=Ready", f"dpol/{manifests.POLICY}", "--timeout=30s")
    unsigned = shop.build("1.0.0-unsigned")
    refused = wait_for(
        "the policy to be enforced", lambda: deployer.try_out(deployment(unsigned)), 30
    )
    assert "SignatureMissing" in refused

    reference = shop.release("1.0.0", run=1)
    deployer.apply(deployment(reference))
    cluster.kubectl("rollout", "status", "deployment/web", "-n", manifests.SHOP, "--timeout=60s")
    release.wait_until_recorded()
    digest = reference.partition("@")[2]
    (row,) = release.rows("--workload", "Deployment/web", "--kind", "admitted", "--image", digest)
    assert row["committers"]
    assert row["approvers"]
    wait_for(
        "the rollout in the trail",
        lambda: release.rows("--state", "running", "--image", digest),
        60,
    )
    assert "ok" in release.verify()
