"""What administrators do to a cluster: drain, load, back up, force, interrupt. The gate holds."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster.provider import Cluster
from e2e.controlplane.binaries import ensure
from e2e.demo import manifests
from e2e.stories.crowd import crowd
from e2e.stories.errors import StoryError
from e2e.stories.installation import CHART, CONFIGURATION, NAMESPACE, RELEASE, wait_for
from e2e.stories.say import say
from e2e.stories.shop import deployment
from e2e.stories.stand import Stand

pytestmark = pytest.mark.timeout(600)

_BEFORE, _AFTER = 3.0, 5.0
_FORCED = [
    ("helm4", ["--force-replace", "--server-side=false"],
     ["--server-side=true", "--force-conflicts"]),
    ("helm3", ["--force"], []),
]  # fmt: skip
_CLAIMS = {
    "ledger": {
        "persistence": {"existingClaim": "trailgate-ledger"},
        "checkpoint": {"existingClaim": "trailgate-checkpoint"},
    }
}
"""With these the claims are no part of the release, and stay."""


def test_a_drained_node_keeps_one_gate(stand: Stand) -> None:
    cluster = stand.cluster
    (node, *_) = cluster.kubectl("get", "nodes", "-o", "name").stdout.split()
    with stand.deploying("node drained") as account:
        time.sleep(_BEFORE)
        drained = cluster.kubectl(
            "drain", node, "--pod-selector=app.kubernetes.io/component=webhook",
            "--delete-emptydir-data", "--timeout=20s", check=False,
        )  # fmt: skip
        try:
            assert "would violate the pod's disruption budget" in drained.stdout + drained.stderr
            assert drained.returncode != 0, "on its only node the last gate stays"
            time.sleep(_AFTER)
        finally:
            cluster.kubectl("uncordon", node)
        cluster.kubectl(
            "rollout", "status", "deployment/trailgate-webhook", "-n", NAMESPACE,
            "--timeout=120s", seconds=130,
        )  # fmt: skip
    assert account.errors == {}


def test_a_crowd_that_fills_workload_low(stand: Stand, tmp_path: Path) -> None:
    """The gate writes its evidence by seats of its own, while everybody else waits for one."""
    cluster = stand.cluster
    with _few_seats(cluster), crowd(cluster, tmp_path) as asked:
        wait_for("requests to queue", lambda: _queued(cluster, "workload-low"), 30)
        with stand.deploying("workload-low full") as account:
            time.sleep(10)
            wait_for("them to queue still", lambda: _queued(cluster, "workload-low"), 10)
    say(f"  {asked.answered} cheap requests were answered meanwhile")
    assert account.errors == {}


def test_a_backup_of_our_objects_put_back(stand: Stand, tmp_path: Path) -> None:
    """As backup tools do it: without what the server writes. Nothing bad gets in afterwards."""
    cluster = stand.cluster
    backup = tmp_path / "backup.yaml"
    # One that has ended: put back, it must not disarm again.
    ended = "2026-01-01T00:00:00Z"
    backup.write_text(cluster.kubectl("get", "dpol,disarms", "-o", "yaml").stdout)
    held = yaml.safe_load(backup.read_text())
    names = {item["metadata"]["name"] for item in held["items"]}
    assert {manifests.POLICY, "trailgate-probe"} <= names
    held["items"] = [_plain(item) for item in held["items"]]
    held["items"].append(
        {
            "apiVersion": "trailgate.dev/v1alpha1",
            "kind": "Disarm",
            "metadata": {"name": "of-long-ago"},
            "spec": {"reason": "it has ended", "until": ended},
        }
    )
    cluster.kubectl("delete", "dpol,disarms", "--all")
    assert not stand.deployer.try_out(deployment(stand.bad, name="try")), "no policy, no refusal"
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump(held))
    wait_for("the gate to hold", stand.is_enforced, 30)
    with stand.deploying("backup put back") as account:
        time.sleep(_BEFORE)
        assert stand.release.is_armed()
    assert account.errors == {}
    for name in sorted(names):
        cluster.kubectl("wait", "--for=condition=Ready", f"dpol/{name}", "--timeout=30s")
    cluster.kubectl("delete", "disarm", "of-long-ago", "--ignore-not-found")


@pytest.mark.parametrize(("major", "replace_", "conflicts"), _FORCED, ids=["helm4", "helm3"])
def test_a_forced_upgrade(
    stand: Stand, major: str, replace_: list[str], conflicts: list[str]
) -> None:
    """Armed all the time, also where Kubernetes refuses to replace a claim that is in use."""
    release = replace(stand.release, program=ensure([major])[major])
    values = release.directory / "values.yaml"
    claims = release.directory / "claims.yaml"
    claims.write_text(yaml.safe_dump(_CLAIMS))
    upgrade = ("upgrade", RELEASE, CHART, "--values", values, "--wait", "--timeout", "4m")
    before = _uid(stand.cluster)
    with stand.deploying(f"forced by {major}") as account:
        with pytest.raises(StoryError, match="immutable after creation"):
            release.helm(*upgrade, *replace_)
        release.helm(*upgrade, "--values", claims, *replace_)
        release.helm(*upgrade, *conflicts)
        time.sleep(_AFTER)
        assert stand.release.is_armed()
    assert account.errors == {}
    assert account.unanswered == {}
    assert _uid(stand.cluster) == before, "it was armed all the time"


def test_an_uninstall_that_is_interrupted_and_done_again(stand: Stand) -> None:
    """It ends clean, and the trail that was left goes on."""
    release, cluster = stand.release, stand.cluster
    release.wait_until_recorded()
    origin, rows = release.vkey(), len(release.rows())
    _interrupted(stand, "job begun", lambda: _there(cluster, "job/trailgate-uninstall"))
    _interrupted(stand, "disarmed", lambda: not release.is_armed())
    _interrupted(stand, "secrets deleted", lambda: not _there(cluster, "secret/trailgate-gate"))
    began = time.monotonic()
    release.uninstall()
    say(f"the uninstall after that took {time.monotonic() - began:.0f} s")
    assert not release.is_armed()
    _deploys(stand)

    release.install()
    wait_for("the gate to hold", stand.is_enforced, 60)
    assert release.vkey() == origin, "the same log goes on"
    assert "ok" in release.verify()
    assert len(release.rows()) > rows
    with stand.deploying("installed again"):
        time.sleep(_BEFORE)


def _interrupted(stand: Stand, what: str, reached: Callable[[], bool]) -> None:
    """Begin an uninstall, and kill Helm as soon as something is so: the cluster deploys."""
    release = stand.release
    process = subprocess.Popen(
        [release.program, "--kubeconfig", stand.cluster.kubeconfig, "--namespace", NAMESPACE,
         "uninstall", RELEASE, "--wait", "--timeout", "5m"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(what, reached, 120)
        assert process.poll() is None, "Helm is still at it"
    finally:
        process.kill()
        process.wait()
    say(f"uninstall killed, {what}: {'' if release.is_armed() else 'not '}armed")
    _deploys(stand)


def _deploys(stand: Stand) -> None:
    """A good deploy gets through, armed or not; a bad one only where it isn't armed."""
    good = deployment(stand.good, name="interrupted", replicas=0)
    wait_for("a good deploy", lambda: not stand.deployer.try_out(good), 10)
    stand.deployer.apply(good)
    stand.deployer.kubectl("delete", "deployment/interrupted", "-n", manifests.SHOP)


def _there(cluster: Cluster, name: str) -> bool:
    return cluster.kubectl("get", name, "-n", NAMESPACE, check=False).returncode == 0


def _uid(cluster: Cluster) -> str:
    return cluster.kubectl("get", CONFIGURATION, "-o", "jsonpath={.metadata.uid}").stdout


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the server wrote."""
    meta = item["metadata"]
    kept = {name: meta[name] for name in ("name", "labels", "ownerReferences") if name in meta}
    return {**{k: v for k, v in item.items() if k != "status"}, "metadata": kept}


@contextmanager
def _few_seats(cluster: Cluster) -> Iterator[None]:
    """Give workload-low so few seats that a crowd of ours can fill it."""
    name = "prioritylevelconfiguration/workload-low"
    before = json.loads(cluster.kubectl("get", name, "-o", "json").stdout)["spec"]["limited"]
    _seats(cluster, name, {"nominalConcurrencyShares": 1, "borrowingLimitPercent": 0}, "false")
    try:
        yield
    finally:
        shares = {"nominalConcurrencyShares": before["nominalConcurrencyShares"]}
        _seats(cluster, name, {**shares, "borrowingLimitPercent": None}, "true")


def _seats(cluster: Cluster, name: str, limited: dict[str, Any], kept: str) -> None:
    patch = {
        "metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": kept}},
        "spec": {"limited": limited},
    }
    cluster.kubectl("patch", name, "--type=merge", "-p", json.dumps(patch))


def _queued(cluster: Cluster, level: str) -> int:
    """How many requests wait for a seat of a priority level."""
    metrics = cluster.kubectl("get", "--raw", "/metrics").stdout
    name = "apiserver_flowcontrol_current_inqueue_requests"
    return sum(
        int(float(line.rsplit(" ", 1)[1]))
        for line in metrics.splitlines()
        if line.startswith(name) and f'priority_level="{level}"' in line
    )
