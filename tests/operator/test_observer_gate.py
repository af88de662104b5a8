"""Gate, recorder, arming and observer together, on a real API server with its controllers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.operator import rights
from tests.operator.armed import SYSTEM, Site, start_plane, until
from trailgate.ledger.record import Cluster, Context, Gate
from trailgate.ledger.spoolkeys import key_id
from trailgate.model.digest import Digest
from trailgate_kube.cluster import cluster_uid
from trailgate_operator.intake import Keys
from trailgate_operator.loops import run_all
from trailgate_operator.observer import Observer, Parts
from trailgate_operator.observer_past import Past
from trailgate_operator.observer_track import Rules

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

KINDS = ("persisted", "running", "ended", "not-persisted", "discrepancy", "baseline", "gap")


class Observed(Site):
    """A site whose spool is recorded, and whose workloads are observed."""

    async def start(self, **settings):
        await super().start(**settings)
        world = self.gate.world
        signer = world.signer.public_key()
        uid = await cluster_uid(self._kube)
        context = Context(Cluster(uid), Gate("1", Digest.of(b"c"), None, "recorder"))
        past = Past(uid)
        list(past.noting(self.store.records()))
        # The site's recorder has nothing to open batches with.
        keys = Keys((world.recorder,), {key_id(signer): signer})
        self.recorder._desk = replace(self.recorder._desk, keys=keys)
        self.observer = Observer(
            Parts(
                kube=self._kube,
                tell=self.recorder.tell,
                context=context,
                metrics=self.metrics.loops,
                past=past,
                recorded=lambda: self.recorder.emptied,
                armed=self.arming.armed,
                excluded=frozenset({"kube-system", SYSTEM}),
            ),
            rules=Rules(settle=timedelta(seconds=2)),
        )
        self.recorder.followers.append(self.observer.appended)
        self._others = asyncio.create_task(self._record())

    async def _record(self):
        recording = asyncio.create_task(self.recorder.run(self._stop))
        looking = asyncio.create_task(run_all([self.observer], self._stop))
        while not self._stop.is_set():
            self.recorder.wake()
            await asyncio.sleep(0.2)
        await asyncio.gather(recording, looking)

    async def stop(self):
        if self._running is not None:
            self._stop.set()
            await asyncio.wait_for(self._others, 15)
        await super().stop()

    def stages(self):
        """(kind, name, detail) of what the observer said of our shop, in order."""
        found = []
        for one in map(json.loads, self.store.records()):
            if one["kind"] in KINDS and one.get("object", {}).get("namespace") == self.shop:
                detail = one.get("cause") or one.get("why") or one.get("seen")
                found.append((one["kind"], one["object"]["name"], detail))
        return found

    def watched(self, kind):
        """How many objects of a kind the observer has seen in our shop."""
        tracks = self.observer._join._tracks.values()
        keys = [track.newest.seen.thing.key for track in tracks if track.newest is not None]
        return sum((key.kind.kind, key.namespace) == (kind, self.shop) for key in keys)


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    plane = start_plane(tmp_path_factory.mktemp("observing") / "control-plane")
    yield plane
    plane.stop()


@pytest.fixture
async def site(plane, tmp_path):
    site = Observed(plane, tmp_path)
    plane.apply(*rights.manifests("trailgate-operator", SYSTEM))
    yield site
    try:
        await site.stop()
    finally:
        site.clear()


async def test_what_got_in_while_it_was_disarmed_is_a_discrepancy(site):
    site.apply(site.policy("staging", "Audit"))
    assert site.deploy(site.shop, "before").returncode == 0
    site.gate.start()
    await site.start()
    await site.armed()
    await until(lambda: site.told("baseline"), 40)
    names = [one["name"] for told in site.told("baseline") for one in told["objects"]]
    assert "before" in names
    assert site.deploy(site.shop, "admitted").returncode == 0
    await until(lambda: site.stages() == [("persisted", "admitted", "observed")], 30)
    (told,) = site.told("persisted")
    admitted = json.loads(list(site.store.records())[told["claim"]])
    assert (admitted["kind"], admitted["changeId"]) == ("admitted", told["changeId"])
    site.apply(site.disarm())
    await site.unarmed()
    assert site.deploy(site.shop, "meanwhile").returncode == 0
    await until(lambda: ("discrepancy", "meanwhile", "NoAdmission") in site.stages(), 40)
    (strange,) = site.told("discrepancy")
    assert strange["armed"] is False
    site.plane.kubectl(site.plane.admin, "delete", "disarms", "--all")
    await site.armed()
    await until(lambda: [one["cause"] for one in site.told("gap")] == ["disarmed"], 30)
    await site.stop()
    count = len(site.told("discrepancy"))
    await site.start()
    await until(lambda: "observer-down" in [one["cause"] for one in site.told("gap")], 30)
    await until(lambda: site.observer.problem() is None and not site.observer._join.waiting, 30)
    assert len(site.told("discrepancy")) == count
    assert len(site.told("baseline")) == 1
    assert site.observer.counts().unexplained == 1


async def test_what_no_policy_covers_is_stored_as_it_was_admitted(site):
    site.apply(site.policy("elsewhere", "Audit", "nowhere"))
    site.gate.start()
    await site.start()
    await site.armed()
    await until(lambda: site.told("baseline"), 40)
    assert site.deploy(site.shop, "plain").returncode == 0
    await until(lambda: site.stages() == [("persisted", "plain", "observed")], 30)
    large = site.deployment("large")
    large["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 9007199254740993
    large["metadata"]["namespace"] = site.shop
    site.apply(large)
    await until(lambda: ("persisted", "large", "observed") in site.stages(), 30)
    claims = {
        one["object"]["name"]: one
        for one in site.told("admitted")
        if one["object"]["namespace"] == site.shop
    }
    assert claims["plain"]["policies"] == []
    assert claims["plain"]["object"]["specDigest"] is not None
    assert claims["large"]["absent"]["/object/specDigest"] == "NotVerified"
    for claim in claims.values():
        assert [one["reference"] for one in claim["images"]] == ["ghcr.io/other/web:1"]
        assert claim["delta"] == [""]
    # Their ReplicaSets and pods came meanwhile, and are nobody else's.
    await until(lambda: site.watched("ReplicaSet") == 2, 30)
    await until(lambda: not site.observer._join.waiting, 30)
    assert {stage[0] for stage in site.stages()} == {"persisted"}
    assert site.observer.counts().unexplained == 0
