"""CPU time of one warm ``assess``: ``python -m tests.core.assess.bench_assess``.

Real AdmissionReviews, a real policy and really signed images; one image per workload, one
event loop. Processor time of this process, so that a busy machine disturbs little.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from dataclasses import replace

from tests.core.assess.support import OwnersTwin, edited, real
from tests.core.assess.world import HOST, KINDS, World, policy
from trailgate.assess.assessor import Assessor
from trailgate.assess.gather import RegistryEvidence
from trailgate.model.admission import AdmissionRequest

ROUNDS, CALLS = 7, 2000


def with_image(asked: AdmissionRequest, image: str) -> AdmissionRequest:
    """Name our image in a recorded request that has one container."""
    item = asked.object
    assert item is not None
    path = "spec__" if asked.resource == "pods" else "spec__template__spec__"
    return replace(asked, object=edited(item, **{f"{path}containers__0__image": image}))


async def measure(name: str, gate: Assessor, asked: AdmissionRequest) -> None:
    found = await gate.assess(asked)
    assert found.decision.allowed, found.message
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            await gate.assess(asked)
        rounds.append((time.process_time() - started) / CALLS * 1e6)
    sys.stdout.write(
        f"{name:34} {found.change_class.value:9} median {statistics.median(rounds):6.1f} us "
        f"(best {min(rounds):.1f}, worst {max(rounds):.1f})\n"
    )


async def main() -> None:
    world, owners = World(), OwnersTwin()
    image = str(await world.image("web", *KINDS))
    asks = ("signature", "provenance", "tests")
    loaded = (policy(ask=asks),)
    source = RegistryEvidence(world, lambda: {HOST})
    gate = Assessor(lambda: loaded, source, owners, "c1")
    replicaset = with_image(real("create replicaset", "CREATE replicasets deployer"), image)
    pod = with_image(real("create replicaset", "CREATE pods replicaset-controller"), image)
    assert replicaset.object is not None
    owners.add(replicaset.object)
    job = real("rollout undo", "UPDATE deployments/status deployment-controller")
    scale = real("scale up", "UPDATE deployments/scale deployer")
    await measure("root: create ReplicaSet", gate, replicaset)
    await measure("child: create Pod", gate, pod)
    await measure("no delta: Deployment status", gate, job)
    await measure("scale", gate, scale)
    await source.close()


if __name__ == "__main__":
    asyncio.run(main())
