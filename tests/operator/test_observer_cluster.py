"""The observer on a real API server with its controllers: real reviews, real generations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from tests.core.assess.recording import (
    IMAGE,
    NEXT,
    Play,
    logging_webhook,
    replicated,
    spec,
    template,
    wait_for,
    workload,
)
from tests.core.ledger import example_records as ex
from tests.operator.observing import CLUSTER, brief, verdict
from tests.operator.waiting import until
from trailgate.assess.classify import classify
from trailgate.assess.facts import change_facts
from trailgate.assess.images import WORKLOADS, find_images
from trailgate.ledger import record as rec
from trailgate.model.assessment import Assessment, ChangeClass
from trailgate.model.decision import Decision
from trailgate_kube.client import KubeClient
from trailgate_operator.metrics import Metrics
from trailgate_operator.observer import Observer, Parts
from trailgate_operator.observer_past import Past
from trailgate_operator.observer_track import Rules
from trailgate_webhook.review import read

pytestmark = pytest.mark.timeout(240)

RECORDED = (ChangeClass.ROOT, ChangeClass.DELETE, ChangeClass.SCALE, ChangeClass.MIRROR)


def claim_of(review):
    """What the gate would have claimed of a review; None: nothing."""
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": review}
    request = read(json.dumps(body).encode())
    classified = classify(request)
    if request.dry_run or classified.change_class not in RECORDED:
        return None
    images = ()
    if request.object is not None and request.kind in WORKLOADS:
        images = find_images(request.kind, request.object)
    facts = change_facts(request, classified, images)
    assessment = Assessment(
        request,
        classified.change_class,
        Decision(True, (), tuple(verdict(use.image) for use in images), {}, ()),
        datetime.now(UTC),
        spec_digest=facts.spec_digest,
        previous=facts.previous,
        delta=facts.delta,
    )
    told = rec.admitted(assessment, ex.CONTEXT)
    record, _ = rec.commit(told, rec.Vault(), recorded_at=ex.NOW, position=None)
    return record


class Scene:
    """An observer of one namespace's objects, and a gate that admits what it is shown."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace
        self.said, self.claims, self.taken = [], [], 0
        self.log = None

    async def tell(self, statements):
        self.said += [one for one in statements if self._is_here(one.claim)]
        return frozenset(one.key for one in statements)

    def _is_here(self, told):
        return told.get("object", {}).get("namespace") == self.namespace

    def told(self, kind):
        return [brief(one)[1:] for one in self.said if one.claim["kind"] == kind]

    def waiting(self):
        """Whether a claim of this namespace has no answer yet."""
        answered = {one.claim.get("changeId") for one in self.said}
        return [one for one in self.claims if one["changeId"] not in answered]

    def admit(self, observer):
        """Let the ledger have what was reviewed since the last time."""
        for review in self.log.seen[self.taken :]:
            self.taken += 1
            record = claim_of(review["request"])
            if record is not None:
                self.claims.append(record)
                observer.appended(len(self.claims) - 1, rec.encode(record))

    @contextlib.asynccontextmanager
    async def watching(self):
        async with await KubeClient.open(self.cluster.admin.kubeconfig) as kube:
            parts = Parts(
                kube=kube,
                tell=self.tell,
                context=ex.CONTEXT,
                metrics=Metrics().loops,
                past=Past(CLUSTER, baseline=True),
                recorded=lambda: self.recorded,
                armed=lambda: True,
            )
            self.recorded = None
            observer = Observer(parts, rules=Rules(settle=timedelta(seconds=1)))
            stop = asyncio.Event()
            task = asyncio.create_task(observer.run(stop))
            try:
                await until(lambda: observer.problem() is None)
                yield observer
            finally:
                stop.set()
                await asyncio.wait_for(task, 10)


@pytest.fixture
def scene(control_plane_with_controllers):
    namespace = f"observed-{uuid.uuid4().hex[:8]}"
    control_plane_with_controllers.namespace(namespace)
    return Scene(control_plane_with_controllers, namespace)


async def test_each_admission_of_real_commands_is_found_again(scene):
    """Also where the API server changes an object between admission and storage."""
    with logging_webhook(scene.cluster, scene.namespace) as log:
        scene.log = log
        play = Play(scene.cluster, scene.namespace, log)
        async with scene.watching() as observer:
            for act in (play.deployment, partial(others, play)):
                await asyncio.to_thread(act)
                scene.admit(observer)
            await asyncio.to_thread(play.quiet)
            scene.admit(observer)
            scene.recorded = datetime.now(UTC)
            observer._routine.wake()
            with contextlib.suppress(AssertionError):  # what is missing is told below
                await until(lambda: not scene.waiting(), seconds=20)
    changes = {record["changeId"] for record in scene.claims}
    found = {
        one.claim["changeId"]: one.claim for one in scene.said if one.claim["kind"] == "persisted"
    }
    lost = [record for record in scene.claims if record["changeId"] not in found]
    assert not lost, "\n".join(str(_brief(record)) for record in lost) + str(
        scene.told("not-persisted")
    )
    assert set(found) == changes
    assert len(changes) > 12
    assert {record["object"]["kind"] for record in scene.claims} >= {
        "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Pod",
        "Job", "CronJob",
    }  # fmt: skip
    assert scene.told("discrepancy") == []
    assert scene.told("not-persisted") == []
    unseen = [one for one in found.values() if one["seen"] != "observed"]
    assert all(one["operation"] == "UPDATE" for one in unseen)


def _brief(record):
    thing = record["object"]
    return (
        record["operation"], thing["kind"], thing["name"], thing["generation"],
        record["requestClass"], record["subresource"], record["delta"][:3],
    )  # fmt: skip


def others(play):
    """All kinds but Deployments: made, changed, scaled, deleted."""
    play.step("others")
    for kind, more in (
        ("StatefulSet", {"serviceName": "x"}),
        ("DaemonSet", {}),
        ("ReplicaSet", {}),
    ):
        play.apply(replicated(kind, kind.lower(), **more))
    old = workload("v1", "ReplicationController", "old", {"replicas": 1})
    old["spec"] |= {"selector": {"app": "old"}, "template": template({"app": "old"})}
    play.apply(old)
    play.apply(workload("v1", "Pod", "lone", spec()))
    body = {"template": template({"app": "job"}, restartPolicy="Never")}
    play.apply(workload("batch/v1", "Job", "job", body))
    cron = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": body}}
    play.apply(workload("batch/v1", "CronJob", "cron", cron))
    play.kubectl("create", "job", "manual", "--from=cronjob/cron")
    play.kubectl("set", "image", "daemonset/daemonset", f"web={NEXT}")
    play.kubectl("set", "image", "pod/lone", f"web={NEXT}")
    play.kubectl("scale", "replicaset/replicaset", "--replicas=2")
    play.kubectl("scale", "statefulset/statefulset", "--replicas=3")
    play.patch("/apis/batch/v1/{ns}/cronjobs/cron", {"spec": {"suspend": True}})
    for thing in ("job/manual", "daemonset/daemonset", "pod/lone", "statefulset/statefulset"):
        play.kubectl("delete", thing, "--wait=false")
    play.quiet()


async def test_a_rollout_is_seen_as_running_and_what_nobody_admitted_as_a_discrepancy(scene):
    web = replicated("Deployment", "web", replicas=2)
    with logging_webhook(scene.cluster, scene.namespace) as log:
        scene.log = log
        play = Play(scene.cluster, scene.namespace, log)
        async with scene.watching() as observer:
            await asyncio.to_thread(play.apply, web)
            await until(lambda: log.seen)
            scene.admit(observer)
            await asyncio.to_thread(run_pods, play, "web-", 2)
            await until(lambda: scene.told("running"), seconds=30)
            assert len(scene.told("persisted")) == 1
            (told,) = [one.claim for one in scene.said if one.claim["kind"] == "running"]
            assert (told["desired"], told["ready"]) == (2, 2)
            assert told["images"][0]["match"] == "pinned"
            # Now somebody who got past the gate.
            await asyncio.to_thread(play.kubectl, "set", "env", "deployment/web", "A=b")
            await asyncio.to_thread(play.quiet)
            scene.recorded = datetime.now(UTC)
            observer._routine.wake()
            await until(lambda: scene.told("discrepancy"), seconds=30)
            assert scene.told("ended") == [(told["object"]["uid"], 1, "superseded")]
            (strange,) = [one.claim for one in scene.said if one.claim["kind"] == "discrepancy"]
            assert strange["object"]["name"] == "web"
            assert strange["object"]["generation"] == 2


def run_pods(play, prefix, count):
    """Be the kubelet: say that each pod runs what its specification pins."""
    for name in wait_for_pods(play, prefix, count):
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {
                    "name": "web", "image": IMAGE, "imageID": IMAGE, "ready": True,
                    "restartCount": 0, "started": True,
                    "state": {"running": {"startedAt": "2026-11-23T13:00:00Z"}},
                }
            ],
        }  # fmt: skip
        path = f"/api/v1/namespaces/{play.namespace}/pods/{name}/status"
        play.cluster.api(
            "PATCH", path, {"status": status}, content_type="application/merge-patch+json"
        )


def wait_for_pods(play, prefix, count):
    return wait_for(
        lambda: (found := play.pods(prefix)) and len(found) == count and found, "the pods"
    )
