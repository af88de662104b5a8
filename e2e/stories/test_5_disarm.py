"""Disarm, make an emergency change, arm again: each is told."""

from __future__ import annotations

from e2e.demo import manifests
from e2e.stories.installation import Installation, wait_for
from e2e.stories.shop import deployment
from e2e.stories.stand import Stand


def test_disarm_emergency_change_arm_again(stand: Stand, release: Installation) -> None:
    said = stand.disarm("the registry lost its disk", "INC-7")
    assert "the registry lost its disk" in said
    assert "INC-7" in said
    stand.deployer.apply(deployment(stand.bad, name="emergency", replicas=0))

    stand.arm()
    refused = stand.deployer.try_out(deployment(stand.bad, name="another", replicas=0))
    assert "SignatureMissing" in refused
    release.wait_until_recorded()
    told = release.rows("--kind", "disarm")
    assert told, "the window is in the trail"
    wait_for(
        "the emergency change in the trail",
        lambda: release.rows("--workload", "Deployment/emergency"),
        90,
    )
    stand.deployer.kubectl("delete", "deployment/emergency", "-n", manifests.SHOP)
