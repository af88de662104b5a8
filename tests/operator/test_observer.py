"""The observer's loop: watches, lookouts and what it does when something is away."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from tests.core.ledger import example_records as ex
from tests.operator.observing import CLUSTER, NOW, brief, claim, pod, rolled, workload
from tests.operator.waiting import until
from trailgate.ledger import record as rec
from trailgate.ledger.errors import LedgerUnavailableError
from trailgate.model.admission import Kind
from trailgate_kube.errors import ForbiddenError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import WORKLOADS
from trailgate_operator.metrics import Metrics
from trailgate_operator.observer import Observer, Parts
from trailgate_operator.observer_past import Past
from trailgate_operator.observer_track import Rules

RESOURCES = {Kind(one.group, one.kind): one for one in WORKLOADS}
DEPLOYMENTS = RESOURCES[Kind("apps", "Deployment")]
PODS = RESOURCES[Kind("", "Pod")]
QUICK = Rules(settle=timedelta(0), patience=timedelta(0))


class Scene:
    """A cluster in memory and an observer of it."""

    def __init__(self, *, past=None, excluded=("kube-system",)):
        self.kube, self.said, self.errors = MemoryKube(), [], []
        self.past = past or Past(CLUSTER, baseline=True)
        self.excluded, self.armed = frozenset(excluded), True
        self.recorded = None
        """None: the spool was read just now."""

    async def tell(self, statements):
        if self.errors:
            raise self.errors.pop(0)
        self.said += statements
        return frozenset(one.key for one in statements)

    def observer(self):
        parts = Parts(
            kube=self.kube,
            tell=self.tell,
            context=ex.CONTEXT,
            metrics=Metrics().loops,
            past=self.past,
            recorded=lambda: self.recorded or datetime.now(UTC),
            armed=lambda: self.armed,
            excluded=self.excluded,
        )
        return Observer(parts, rules=QUICK)

    @contextlib.asynccontextmanager
    async def watching(self):
        self.one = self.observer()
        stop = asyncio.Event()
        task = asyncio.create_task(self.one.run(stop))
        try:
            yield self.one
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)

    async def create(self, item, namespace="shop"):
        kind = Kind(item["apiVersion"].rpartition("/")[0], item["kind"])
        item = {**item, "metadata": dict(item["metadata"])}
        return await self.kube.create(RESOURCES[kind], item, namespace)

    def admit(self, index, old, new):
        self.one.appended(index, rec.encode(claim(index, old, new)[1]))

    def told(self):
        return [brief(one) for one in self.said]

    def kinds(self):
        return [one.claim["kind"] for one in self.said]


async def test_from_the_admission_to_the_end():
    scene = Scene()
    async with scene.watching():
        made = await scene.create(workload())
        uid = made["metadata"]["uid"]
        scene.recorded = NOW
        scene.admit(4, None, made)
        await until(lambda: scene.told() == [("persisted", uid, 1, "observed")])
        replicas = await scene.create(
            workload(Kind("apps", "ReplicaSet"), owner=(Kind("apps", "Deployment"), uid))
        )
        for name in ("p1", "p2"):
            item = pod(name, (Kind("apps", "ReplicaSet"), replicas["metadata"]["uid"]))
            await scene.create(item)
        await scene.kube.change(DEPLOYMENTS, "deployment-d", {"status": rolled(1)}, "shop")
        await until(lambda: scene.kinds() == ["persisted", "running"])
        scene.admit(5, made, None)
        await scene.kube.delete(DEPLOYMENTS, "deployment-d", "shop")
        scene.recorded = None
        await until(lambda: scene.kinds() == ["persisted", "running", "persisted", "ended"])
        assert scene.one.problem() is None


async def test_what_nobody_admitted():
    scene = Scene()
    async with scene.watching() as observer:
        await until(lambda: observer.problem() is None)
        scene.armed = False
        made = await scene.create(workload())
        uid = made["metadata"]["uid"]
        await until(lambda: scene.told() == [("discrepancy", uid, 1, "NoAdmission")])
        assert scene.said[0].claim["armed"] is False
        assert observer.counts().unexplained == 1
        assert observer.counts().workloads == 1


async def test_what_was_there_before_it_started_was_admitted_who_knows_when():
    scene = Scene()
    await scene.create(workload())
    async with scene.watching():
        await until(lambda: scene.kinds() == ["discrepancy"])
        assert scene.said[0].claim["absent"]["/armed"] == "Unavailable"


async def test_the_baseline_is_taken_when_the_gate_is_armed():
    scene = Scene(past=Past(CLUSTER))
    scene.armed = False
    await scene.create(workload())
    async with scene.watching() as observer:
        await until(lambda: observer.problem() is None)
        assert scene.said == []
        scene.armed = True
        observer._routine.wake()
        await until(lambda: scene.kinds() == ["baseline"])
        assert scene.said[0].claim["count"] == 1


async def test_namespaces_that_the_gate_is_not_asked_about():
    scene = Scene()
    async with scene.watching() as observer:
        made = await scene.create(workload(), "kube-system")
        scene.one.appended(
            0,
            rec.encode(_elsewhere(claim(0, None, made)[1], "kube-system")),
        )
        other = await scene.create(workload())
        await until(
            lambda: scene.told() == [("discrepancy", other["metadata"]["uid"], 1, "NoAdmission")]
        )
        assert observer.counts().workloads == 1


def _elsewhere(record, namespace):
    return {**record, "object": {**record["object"], "namespace": namespace}}


async def test_other_entries_are_not_its_business():
    scene = Scene()
    async with scene.watching() as observer:
        await until(lambda: observer.problem() is None)
        refused = ex.recorded(rec.refused(ex.refused_group(), ex.CONTEXT), rec.Vault())
        odd = {**refused, "namespace": '"kind":"admitted"'}
        for record in (refused, odd):
            observer.appended(1, rec.encode(record))
        observer.appended(2, b'{"kind":"admitted","object":{"namespace":"kube-system"}}')
        assert not observer._join.waiting


async def test_downtime_is_told_once():
    past = Past(CLUSTER, baseline=True, last=NOW)
    scene = Scene(past=past)
    async with scene.watching():
        await until(lambda: scene.kinds() == ["gap"])
        found = scene.said[0].claim
        assert (found["cause"], found["since"]) == ("observer-down", rec.stamp(NOW))
        assert found["until"] > found["since"]
        await scene.create(workload())
        await until(lambda: len(scene.said) == 2)
    assert scene.kinds() == ["gap", "discrepancy"]


async def test_without_a_past_there_is_no_gap():
    scene = Scene()
    async with scene.watching() as observer:
        await until(lambda: observer.problem() is None)
    assert scene.said == []


async def test_what_it_cannot_say_now_it_says_later():
    scene = Scene()
    scene.errors = [LedgerUnavailableError("the disk is full")] * 2
    async with scene.watching() as observer:
        await until(lambda: observer.problem() == "the disk is full")
        await scene.create(workload())
        await until(lambda: scene.kinds() == ["discrepancy"])
        await until(lambda: observer.problem() is None)


@pytest.mark.parametrize(
    "error", [ForbiddenError("no right"), UnavailableError("away", maybe_done=True)]
)
async def test_it_waits_until_it_may_read(error):
    scene = Scene()
    for _ in WORKLOADS:
        scene.kube.fail("page", error)
    scene.kube.fail("page", error)
    observer = scene.observer()
    with pytest.raises(Exception, match="has not been read yet"):
        await observer.look()
    scene.one = observer
    stop = asyncio.Event()
    task = asyncio.create_task(observer.run(stop))
    await until(lambda: str(error) in (observer.problem() or ""))
    await until(lambda: observer.problem() is None, seconds=20)
    stop.set()
    await asyncio.wait_for(task, 10)


async def test_a_watch_that_was_too_slow_is_a_gap():
    scene = Scene()
    async with scene.watching() as observer:
        made = await scene.create(workload())
        await until(lambda: scene.kinds() == ["discrepancy"])
        await scene.kube.change(
            DEPLOYMENTS, "deployment-d", {"spec": made["spec"] | {"replicas": 1}}, "shop"
        )
        scene.kube.compact()
        await scene.create(workload(uid="e"))
        await until(lambda: scene.kinds().count("discrepancy") == 2, seconds=20)
        assert "gap" in scene.kinds()
        assert {one.claim["cause"] for one in scene.said if one.claim["kind"] == "gap"} == {
            "observer-down"
        }
        await until(lambda: observer.problem() is None)


async def test_what_has_no_digest_is_told_once():
    scene = Scene()
    async with scene.watching() as observer:
        await until(lambda: observer.problem() is None)
        item = workload()
        item["spec"]["huge"] = 1 << 60
        uid = (await scene.create(item))["metadata"]["uid"]
        await until(lambda: scene.told() == [("discrepancy", uid, 1, "NoAdmission")])
        for replicas in range(3):
            status = {"status": {"replicas": replicas}}
            await scene.kube.change(DEPLOYMENTS, "deployment-d", status, "shop")
        other = (await scene.create(workload(uid="e")))["metadata"]["uid"]
        await until(lambda: len(scene.said) == 2)
        assert scene.told()[1:] == [("discrepancy", other, 1, "NoAdmission")]
        assert observer.counts().unexplained == 2
    told = scene.said[0].claim
    assert told["object"]["specDigest"] is None
    assert told["absent"]["/object/specDigest"] == "NotVerified"
    assert told["object"]["name"] == "deployment-d"


async def test_what_cannot_be_read_is_logged_and_left_out():
    scene = Scene()
    async with scene.watching() as observer:
        await until(lambda: observer.problem() is None)
        item = workload()
        item["metadata"]["labels"] = {"huge": 1 << 60}
        await scene.create(item)
        await scene.kube.change(DEPLOYMENTS, "deployment-d", {"status": {"replicas": 1}}, "shop")
        await scene.create(workload(uid="e"))
        await until(lambda: len(scene.said) == 1)
        assert observer.counts().workloads == 1
