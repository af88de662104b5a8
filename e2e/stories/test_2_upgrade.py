"""Upgrade and rotate under traffic: nothing bad gets in, nothing is lost."""

from __future__ import annotations

import json

from e2e.cluster.provider import Cluster
from e2e.stories.installation import NAMESPACE, Installation, wait_for
from e2e.stories.stand import Stand

_MARK = {"podAnnotations": {"stories.example/upgraded": "yes"}}


def test_an_upgrade_rolls_gate_and_operator_without_a_failed_deploy(
    stand: Stand, release: Installation
) -> None:
    before = _pods(stand.cluster)
    with stand.deploying("upgrade") as account:
        release.upgrade(webhook=_MARK, operator=_MARK)
        wait_for("the old pods to be gone", lambda: not before & _pods(stand.cluster), 90)
    assert account.errors == {}
    assert account.unanswered == {}


def test_a_forced_rotation_of_the_certificate_fails_no_deploy(stand: Stand) -> None:
    cluster = stand.cluster
    before = _certificate(cluster)
    with stand.deploying("certificate rotated") as account:
        cluster.kubectl(
            "annotate", "secret", "trailgate-authority", "-n", NAMESPACE,
            "trailgate.dev/rotate=leaf",
        )  # fmt: skip
        wait_for("another certificate", lambda: _certificate(cluster) != before, 60)
        wait_for("every gate to serve it", lambda: _loaded(cluster) >= _gates(cluster), 180)
    assert account.errors == {}
    assert account.unanswered == {}


def _pods(cluster: Cluster) -> set[str]:
    names = cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "name").stdout
    return set(names.split())


def _certificate(cluster: Cluster) -> str:
    return cluster.kubectl(
        "get", "secret", "trailgate-webhook-tls", "-n", NAMESPACE,
        "-o", "jsonpath={.data.tls\\.crt}",
    ).stdout  # fmt: skip


def _gates(cluster: Cluster) -> int:
    return sum("webhook" in name for name in _pods(cluster))


def _loaded(cluster: Cluster) -> int:
    """How many gates have loaded another certificate since they started."""
    count = 0
    for name in _pods(cluster):
        if "webhook" in name:
            log = cluster.kubectl("logs", "-n", NAMESPACE, name).stdout
            events = [json.loads(line).get("event") for line in log.splitlines() if line[0] == "{"]
            count += "certificate loaded" in events
    return count
