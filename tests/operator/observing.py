"""Workloads, admissions and moments for the observer's tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.core.ledger import example_records as ex
from trailgate.assess.images import WORKLOADS
from trailgate.ledger import record as rec
from trailgate.model.admission import ContainerClass, ContainerImage, Kind, Operation
from trailgate.model.assessment import ChangeClass
from trailgate.model.canonical import fingerprint
from trailgate.model.image import ImageReference
from trailgate_operator.observer_join import Join
from trailgate_operator.observer_past import Past, admitted
from trailgate_operator.observer_seen import seen
from trailgate_operator.observer_track import Moment

NOW = ex.NOW
DEPLOYMENT, REPLICA_SET, POD = (
    Kind("apps", "Deployment"),
    Kind("apps", "ReplicaSet"),
    Kind("", "Pod"),
)
CLUSTER = ex.CONTEXT.cluster.uid
AMD64 = "web {} amd64"


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def image(release):
    return ex.image_of("web", release)


def workload(
    kind=DEPLOYMENT, generation=1, release="1.0", *, replicas=2, uid="d", owner=None, **more
):
    """Build an object of a kind; ``status``, ``annotations`` and ``spec`` go in as they are."""
    pod_spec = {"containers": [{"name": "web", "image": image(release)}]}
    spec = {"template": {"spec": pod_spec}} if kind != POD else pod_spec
    if kind.kind == "CronJob":
        spec = {"schedule": "@daily", "jobTemplate": {"spec": spec}}
    if kind.kind in ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"):
        spec |= {"replicas": replicas}
    metadata = {
        "name": f"{kind.kind.lower()}-{uid}",
        "namespace": "shop",
        "uid": uid,
        "generation": generation,
        "creationTimestamp": "2026-11-23T13:00:00Z",
        "annotations": more.get("annotations", {}),
    }
    if owner is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": api_version(owner[0]), "kind": owner[0].kind, "name": "o",
             "uid": owner[1], "controller": True}
        ]  # fmt: skip
    if more.get("leaving"):
        metadata["deletionTimestamp"] = "2026-11-23T13:00:00Z"
    return {
        "apiVersion": api_version(kind),
        "kind": kind.kind,
        "metadata": metadata,
        "spec": spec | more.get("spec", {}),
        "status": more.get("status", {}),
    }


def api_version(kind):
    return f"{kind.group}/v1" if kind.group else "v1"


def rolled(generation, replicas=2, **changes):
    """The status of a Deployment that is rolled out."""
    return {
        "observedGeneration": generation,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": replicas,
    } | changes


def pod(uid, owner, release="1.0", *, running=None, phase="Running", **more):
    """Build a pod whose node says what runs."""
    reference = image(release) if running is None else running
    status = {
        "phase": phase,
        "conditions": [{"type": "Ready", "status": "True" if phase == "Running" else "False"}],
        "containerStatuses": [{"name": "web", "imageID": reference}],
    }
    return workload(POD, 1, release, uid=uid, owner=owner, status=status, **more)


def verdict(reference):
    """What the gate found of an image: itself, and two platforms."""
    parsed = ImageReference.parse(reference)
    found = ex.verdict("web", "1.0")
    containers = (ContainerImage("web", ContainerClass.CONTAINER, reference),)
    platforms = (ex.sha(f"{parsed.digest} amd64"),) if parsed.digest else ()
    return replace(found, containers=containers, image=parsed, platforms=platforms, statements=())


def claim(index, old, new, *, scale=None, seconds=0, **changes):
    """The admission of an update, creation or deletion, as the ledger has it."""
    item = new or old
    kind = Kind(item["apiVersion"].rpartition("/")[0], item["kind"])
    operation = Operation.DELETE if new is None else Operation.UPDATE if old else Operation.CREATE
    base = ex.configuration_only()
    request = replace(
        base.request,
        operation=operation,
        kind=kind,
        resource=f"{kind.kind.lower()}s",
        namespace="shop",
        name=item["metadata"]["name"],
        object=new,
        old_object=old,
    )
    verdicts = tuple(verdict(use["image"]) for use in _containers(item)) if new else ()
    made = replace(
        base,
        request=request,
        change_class=ChangeClass.DELETE if new is None else ChangeClass.ROOT,
        decision=replace(base.decision, images=verdicts),
        spec_digest=None if new is None else fingerprint(new["spec"]),
        previous=None,
        decided_at=at(seconds),
    )
    if scale is not None:
        made = _scaled(made, item, scale)
    told = rec.admitted(replace(made, **changes), ex.CONTEXT)
    record, _ = rec.commit(told, rec.Vault(), recorded_at=at(seconds), position=None)
    return index, record


def _scaled(made, item, replicas):
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": item["metadata"]["name"],
            "namespace": "shop",
            "uid": item["metadata"]["uid"],
            "resourceVersion": str(replicas),
        },
        "spec": {"replicas": replicas},
    }
    request = replace(
        made.request, kind=Kind("autoscaling", "Scale"), subresource="scale", object=scale,
        old_object=scale,
    )  # fmt: skip
    return replace(
        made,
        request=request,
        change_class=ChangeClass.SCALE,
        decision=replace(made.decision, images=()),
        spec_digest=fingerprint(scale["spec"]),
    )


def _containers(item):
    spec = item["spec"]
    for step in ("jobTemplate", "spec", "template", "spec"):
        spec = spec.get(step, spec)
    return spec["containers"]


class Watch:
    """A join with a clock, and what it has said."""

    def __init__(self, past=None, *, armed=True, began=True):
        past = past or Past(CLUSTER, baseline=began)
        self.join = Join(ex.CONTEXT, past)
        self.armed, self.said, self.time = armed, [], 0

    def see(self, item, **more):
        kind = Kind(item["apiVersion"].rpartition("/")[0], item["kind"])
        self.join.see(seen(kind, item), at(self.time), armed=more.get("armed", self.armed))

    def leave(self, uid):
        self.join.leave(uid, at(self.time))

    def claim(self, told):
        found = admitted(*told, CLUSTER)
        self.join.claim(found, at(self.time))
        return found

    def due(self, **changes):
        """Look at what is due; returns what is new."""
        now = at(self.time)
        moment = Moment(
            now=now,
            recorded=now,
            heard=dict.fromkeys(WORKLOADS, now),
            watching=at(-1000),
            armed=self.armed,
        )
        new = self.join.due(replace(moment, **changes))
        self.said += new
        return [brief(one) for one in new]

    def later(self, seconds=20, **changes):
        """The same, some time later: by then everything has settled."""
        self.time += seconds
        return self.due(**changes)


def brief(statement):
    """What a statement says, in a few words."""
    told = statement.claim
    detail = {
        "persisted": "seen",
        "ended": "cause",
        "not-persisted": "cause",
        "discrepancy": "why",
        "gap": "cause",
    }.get(told["kind"])
    name = told["object"]["uid"] if "object" in told else None
    generation = told["object"]["generation"] if "object" in told else None
    return (told["kind"], name, generation, *([told[detail]] if detail else []))
