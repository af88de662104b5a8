"""Disarm, make an emergency change, arm again: each is told."""

from __future__ import annotations

import os
import subprocess
import sys

from e2e.demo import manifests
from e2e.stories.installation import Installation, wait_for
from e2e.stories.shop import deployment
from e2e.stories.stand import Stand


def test_disarm_emergency_change_arm_again(stand: Stand, release: Installation) -> None:
    said = _trailgate(stand, "disarm", "--for", "30m", "--reason", "registry lost its disk",
                      "--ticket", "INC-7")  # fmt: skip
    assert "INC-7" in said or "30" in said or "until" in said.lower()
    wait_for("the gate to stand aside", lambda: not release.is_armed(), 30)
    stand.deployer.apply(deployment(stand.bad, name="emergency", replicas=0))

    names = stand.cluster.kubectl("get", "disarms", "-o", "name").stdout.split()
    assert len(names) == 1
    stand.cluster.kubectl("delete", *names)
    release.wait_until_armed(30)
    wait_for("the gate to hold", stand.is_enforced, 30)
    told = [row["workload"] for row in release.rows("--kind", "control-state")]
    assert "disarm" in " ".join(str(one) for one in told)
    stand.deployer.kubectl("delete", "deployment/emergency", "-n", manifests.SHOP)


def _trailgate(stand: Stand, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "trailgate.cli.main", *arguments],
        env={**os.environ, "KUBECONFIG": str(stand.cluster.kubeconfig)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
