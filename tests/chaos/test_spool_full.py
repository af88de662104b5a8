"""The spool's cap is reached: what is enforced waits outside, what is audited passes and is told."""

from __future__ import annotations

import collections

import pytest

from tests.chaos.stage import until
from tests.chaos.stream import Books, Stream

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

CAP = 8


async def cap(stage):
    """A quota that counts: its controller looks for new kinds every 30 s."""
    path = f"/api/v1/namespaces/{stage.system}/resourcequotas"
    body = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "spool"},
        "spec": {"hard": {"count/admissions.trailgate.dev": str(CAP)}},
    }
    for _ in range(30):
        assert (await stage.api("POST", path, body))[0] == 201

        async def counted():
            return (await stage.api("GET", f"{path}/spool"))[1].get("status", {}).get("used")

        if await until(counted, 2):
            return
        await stage.api("DELETE", f"{path}/spool")
    pytest.fail("the quota controller never counted")


async def test_enforced_changes_wait_and_audited_ones_pass_and_are_counted(stage_with_controllers):
    stage = stage_with_controllers
    books, trial = Books(), Books()
    enforced, audited = Stream(stage, books), Stream(stage, trial, namespace=stage.trial)
    await cap(stage)
    await stage.start_gate()
    made = await enforced.create("web")
    tried = await audited.create("web")
    for _ in range(CAP):
        refused = await enforced.change(made)
        if refused.outcome != "accepted":
            break
    assert refused.text.startswith("503 ")
    assert "SpoolFull: changes wait to be written to the ledger and no more fit" in refused.text
    assert "is its operator running?" in refused.text
    assert len(await stage.spooled()) == CAP

    for _ in range(5):  # Audit never blocks
        assert (await audited.change(tried)).outcome == "accepted"

    # A gate that starts into a full spool says so, too; what it can't write, nobody waits for.
    await stage.start_gate("gate-b", wait=False)
    stage.balancer.targets[:] = stage.balancer.targets[-1:]
    gate = stage.gates["gate-b"]
    await stage.told(gate, "start not announced yet")
    refused = await enforced.change(made)
    assert "SpoolFull" in refused.text
    stage.balancer.targets[:] = [int((stage.directory / "gate-a.port").read_text())]
    await gate.kill()

    await stage.start_recorder()

    async def accepted():
        return (await enforced.change(made)).outcome == "accepted"

    assert await until(accepted, 40, every=0.5), "all flows again"
    assert await stage.gates["gate-a"].stop() == 0
    await stage.drained()
    assert await stage.recorder.stop() == 0

    records = stage.records()
    found = collections.Counter(
        (r["object"]["generation"], r["object"]["specDigest"])
        for r in records
        if r["kind"] == "admitted" and r["object"]["namespace"] == stage.shop
    )
    want = {(one.generation, digest) for digest, one in books.accepted.items()}
    assert want == set(found) & want
    unrecorded = [r["count"] for r in records if r["kind"] == "gap"]
    causes = {r["cause"] for r in records if r["kind"] == "gap"}
    assert causes == {"admissions-unrecorded"}
    kept = [
        r for r in records if r["kind"] == "admitted" and r["object"]["namespace"] == stage.trial
    ]
    assert sum(unrecorded) + len(kept) >= len(trial.accepted) == 6
    # The API server reviews a change twice where it had looked at an old form first.
    assert 5 <= sum(unrecorded) <= 10
    assert all(not r["enforced"] for r in kept)
    await stage.verify()
