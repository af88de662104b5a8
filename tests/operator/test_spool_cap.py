"""The spool's quota: never too early, mended where it isn't counted, kept at what was asked for."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from e2e.controlplane.cluster import ApiError
from tests.kube.batches import Chain
from tests.operator import rights
from tests.operator.armed import SYSTEM, start_plane, until
from trailgate_kube.client import KubeClient
from trailgate_kube.errors import NotFoundError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import CLUSTER_ROLES, CUSTOM_RESOURCES, RESOURCE_QUOTAS
from trailgate_kube.webhooks import ARMING_ROLE
from trailgate_operator.loops import WaitingError
from trailgate_operator.metrics import Metrics
from trailgate_operator.spool_cap import COUNTED, DEFINITION, KNOWN_AFTER, QUOTA, SpoolCap


class Spool:
    """A cluster in memory, with a clock of ours."""

    def __init__(self):
        self.kube, self.ahead = MemoryKube(), timedelta(0)
        self.loop = SpoolCap(self.kube, SYSTEM, 5, Metrics(), clock=self.now)

    def now(self):
        return datetime.now(UTC) + self.ahead

    async def owner(self):
        await self.kube.create(CLUSTER_ROLES, {"metadata": {"name": ARMING_ROLE}})

    async def kind(self, *, established=True):
        moment = self.now().isoformat(timespec="seconds")
        condition = {"type": "Established", "status": "True", "lastTransitionTime": moment}
        conditions = [condition] if established else []
        body = {"metadata": {"name": DEFINITION}, "status": {"conditions": conditions}}
        await self.kube.create(CUSTOM_RESOURCES, body)

    async def quota(self):
        try:
            return await self.kube.get(RESOURCE_QUOTAS, QUOTA, SYSTEM)
        except NotFoundError:
            return None

    async def count(self, used="0"):
        await self.kube.change(
            RESOURCE_QUOTAS, QUOTA, {"status": {"used": {COUNTED: used}}}, SYSTEM
        )

    async def later(self, by=KNOWN_AFTER):
        self.ahead += by
        await self.loop.look()


@pytest.fixture
async def spool():
    spool = Spool()
    await spool.owner()
    return spool


async def test_it_waits_until_the_kind_is_known(spool):
    with pytest.raises(WaitingError, match="not there yet"):
        await spool.loop.look()
    await spool.kind()
    await spool.later(KNOWN_AFTER - timedelta(seconds=5))
    assert await spool.quota() is None
    await spool.later(timedelta(seconds=6))
    quota = await spool.quota()
    assert quota["spec"] == {"hard": {COUNTED: "5"}}
    assert quota["metadata"]["ownerReferences"][0]["name"] == ARMING_ROLE


async def test_a_kind_that_is_not_established_is_waited_for(spool):
    await spool.kind(established=False)
    with pytest.raises(WaitingError, match="not established yet"):
        await spool.loop.look()


async def test_without_its_owner_it_is_not_made():
    spool = Spool()
    await spool.kind()
    with pytest.raises(WaitingError, match=ARMING_ROLE):
        await spool.later()
    assert await spool.quota() is None


async def test_for_an_owner_that_is_being_deleted_it_is_not_made(spool):
    await spool.kind()
    role = await spool.kube.get(CLUSTER_ROLES, ARMING_ROLE)
    going = role["metadata"] | {"deletionTimestamp": "2026-11-23T12:00:00Z"}
    await spool.kube.change(CLUSTER_ROLES, ARMING_ROLE, {"metadata": going})
    with pytest.raises(WaitingError, match=ARMING_ROLE):
        await spool.later()
    assert await spool.quota() is None


async def test_one_that_is_not_counted_is_made_anew(spool):
    await spool.kind()
    await spool.later()
    first = (await spool.quota())["metadata"]["uid"]
    spool.ahead = timedelta(seconds=1)  # its own age counts from now
    await spool.kube.change(
        CUSTOM_RESOURCES, DEFINITION,
        {"status": {"conditions": [{"type": "Established", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}},
    )  # fmt: skip
    await spool.loop.look()
    assert (await spool.quota())["metadata"]["uid"] == first
    await spool.later(KNOWN_AFTER + timedelta(seconds=5))
    assert await spool.quota() is None
    await spool.loop.look()
    assert (await spool.quota())["metadata"]["uid"] != first


async def test_one_that_counts_is_left_alone(spool):
    await spool.kind()
    await spool.later()
    await spool.count()
    before = await spool.quota()
    await spool.later(KNOWN_AFTER * 2)
    assert await spool.quota() == before


async def test_another_number_is_set_back(spool):
    await spool.kind()
    await spool.later()
    await spool.count()
    await spool.kube.change(RESOURCE_QUOTAS, QUOTA, {"spec": {"hard": {COUNTED: "9"}}}, SYSTEM)
    await spool.loop.look()
    assert (await spool.quota())["spec"] == {"hard": {COUNTED: "5"}}


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_fresh_cluster_is_never_without_a_spool(tmp_path):
    """From the kind's first second on each write is taken, until the quota's cap."""
    plane = await asyncio.to_thread(start_plane, tmp_path / "control-plane")
    account = plane.service_account(SYSTEM, "trailgate-operator")
    plane.apply(*rights.manifests("trailgate-operator", SYSTEM))
    collection = f"/apis/trailgate.dev/v1alpha1/namespaces/{SYSTEM}/admissions"
    stop, refused = asyncio.Event(), []

    async def quota():
        path = f"/api/v1/namespaces/{SYSTEM}/resourcequotas/{QUOTA}"
        try:
            found = await asyncio.to_thread(plane.api, "GET", path)
        except ApiError:
            return False
        return found["status"].get("used", {}).get(COUNTED) == "0"

    async def write():
        while not stop.is_set():
            try:
                await asyncio.to_thread(plane.api, "POST", f"{collection}?dryRun=All", _admission())
            except ApiError as error:
                refused.append(str(error))
            await asyncio.sleep(0.5)

    try:
        async with await KubeClient.open(account.kubeconfig) as kube:
            loop = SpoolCap(kube, SYSTEM, 5, Metrics())
            tasks = [asyncio.create_task(loop.run(stop)), asyncio.create_task(write())]
            await until(quota, 150)
            stop.set()
            await asyncio.gather(*tasks)
        assert refused == []
        for _ in range(5):
            await asyncio.to_thread(plane.api, "POST", collection, _admission())
        with pytest.raises(ApiError, match="exceeded quota: trailgate-spool"):
            await asyncio.to_thread(plane.api, "POST", collection, _admission())
    finally:
        await asyncio.to_thread(plane.stop)


def _admission():
    batch = Chain().next()
    return {
        "apiVersion": "trailgate.dev/v1alpha1", "kind": "Admission",
        "metadata": {"name": batch.name}, "spec": batch.to_spec(),
    }  # fmt: skip
