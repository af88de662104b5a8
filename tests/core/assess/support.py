"""Requests, real and made up, and in-memory twins of what the assessor asks."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from tests.core.assess.recording import REVIEWS
from tests.core.policy import builders
from trailgate.assess.assessor import Assessor
from trailgate.assess.images import CRON_JOB, POD
from trailgate.assess.owners import OwnerUnavailableError
from trailgate.model.admission import AdmissionRequest, Caller, Kind, Operation
from trailgate.model.evidence import Evidence, Gathered, PublicKey, Unavailable, UnresolvedTag
from trailgate.model.image import ImageReference

IMAGE = builders.IMAGE
OTHER = f"{builders.REPOSITORY}@{builders.OTHER_DIGEST}"
DEPLOYER = builders.DEPLOYER
LAPTOP = Caller(
    "jo@example.test",
    groups=("system:authenticated",),
    extra={"authentication.kubernetes.io/credential-id": ("X509SHA256=" + "12" * 32,)},
)
RESOURCES = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "ReplicaSet": "replicasets",
    "Job": "jobs",
    "CronJob": "cronjobs",
    "ReplicationController": "replicationcontrollers",
    "Pod": "pods",
}


def controller(name: str, *, credential: bool = True) -> Caller:
    value = "JTI=11cd475e-7a62-4fef-a60c-b63d020ae85d"
    extra = {"authentication.kubernetes.io/credential-id": (value,)} if credential else {}
    return Caller(f"system:serviceaccount:kube-system:{name}", extra=extra)


@dataclass(frozen=True)
class Recorded:
    step: str
    request: AdmissionRequest

    @property
    def what(self) -> str:
        """``OP resource/subresource user``, the user without its namespace."""
        request = self.request
        sub = f"/{request.subresource}" if request.subresource else ""
        user = request.caller.username.rpartition(":")[2]
        return f"{request.operation.value} {request.resource}{sub} {user}"


def request_of(raw: Mapping[str, Any]) -> AdmissionRequest:
    user = raw["userInfo"]
    return AdmissionRequest(
        uid=raw["uid"],
        operation=Operation(raw["operation"]),
        kind=Kind(raw["kind"]["group"], raw["kind"]["kind"]),
        resource=raw["resource"]["resource"],
        subresource=raw.get("subResource", ""),
        namespace=raw.get("namespace", ""),
        name=raw.get("name", ""),
        caller=Caller(
            user["username"],
            user.get("uid"),
            tuple(user.get("groups", ())),
            {key: tuple(values) for key, values in user.get("extra", {}).items()},
        ),
        dry_run=raw.get("dryRun", False),
        object=raw.get("object"),
        old_object=raw.get("oldObject"),
    )


@cache
def recorded() -> tuple[Recorded, ...]:
    return tuple(
        Recorded(review["step"], request_of(review["request"]))
        for review in json.loads(REVIEWS.read_text())
    )


def real(step: str, what: str) -> AdmissionRequest:
    """The first recorded request of a step that is ``OP resource user``."""
    return next(r.request for r in recorded() if (r.step, r.what) == (step, what))


def pod_spec(*images: str) -> dict[str, Any]:
    chosen = images or (IMAGE,)
    names = ("web", "second", "third")
    return {
        "containers": [
            {"name": names[index] if index < 3 else f"c{index}", "image": image}
            for index, image in enumerate(chosen)
        ]
    }


def workload(kind: Kind, *images: str, name: str = "web", **metadata: Any) -> dict[str, Any]:
    """A small object of one of the eight kinds."""
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod_spec(*images)}
    spec: dict[str, Any] = {"replicas": 1, "template": template}
    if kind == POD:
        spec = pod_spec(*images)
    elif kind == CRON_JOB:
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}
    elif kind.group == "batch":
        spec = {"template": template}
    return {
        "apiVersion": f"{kind.group}/v1" if kind.group else "v1",
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{kind.kind}-{name}",
            "generation": 1,
            **metadata,
        },
        "spec": spec,
    }


def owned_by(owner: Mapping[str, Any], **changes: Any) -> list[dict[str, Any]]:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    return [reference | changes]


def request(
    item: Mapping[str, Any] | None,
    old: Mapping[str, Any] | None = None,
    *,
    caller: Caller = DEPLOYER,
    operation: Operation | None = None,
    **changes: Any,
) -> AdmissionRequest:
    shown = item or old or {}
    group, slash, _ = shown.get("apiVersion", "").partition("/")
    kind = shown.get("kind", "")
    value = AdmissionRequest(
        uid="7c0e1a2b-0000-4000-8000-000000000000",
        operation=operation or (Operation.UPDATE if old is not None else Operation.CREATE),
        kind=Kind(group if slash else "", kind),
        resource=RESOURCES.get(kind, kind.lower() + "s"),
        subresource="",
        namespace="shop",
        name=shown.get("metadata", {}).get("name", ""),
        caller=caller,
        dry_run=False,
        object=item,
        old_object=old,
    )
    return replace(value, **changes)


def edited(item: Mapping[str, Any], **paths: Any) -> dict[str, Any]:
    """A deep copy with values set at ``a__b__0__c``; ``...`` deletes."""
    made: Any = copy.deepcopy(item)
    for path, value in paths.items():
        place = made
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("__")]
        for step in steps:
            place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return made


@dataclass
class FactsTwin:
    """An ``EvidenceSource`` that has what it is told."""

    facts: dict[str, Gathered] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failure: BaseException | None = None

    async def gather(
        self, image: ImageReference, keys: tuple[PublicKey, ...], secrets: Any = None
    ) -> Gathered:
        self.asked.append(str(image))
        if self.failure is not None:
            raise self.failure
        if image.digest is None:
            return self.facts.get(str(image), UnresolvedTag(image))
        return self.facts.get(str(image), Unavailable(image, "the twin has nothing"))


@dataclass
class OwnersTwin:
    """An ``OwnerReader`` that has what it is told."""

    objects: dict[tuple[Kind, str, str], Mapping[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    down: bool = False

    def add(self, item: Mapping[str, Any]) -> None:
        group, slash, _ = item["apiVersion"].partition("/")
        kind = Kind(group if slash else "", item["kind"])
        metadata = item["metadata"]
        self.objects[kind, metadata["namespace"], metadata["name"]] = item

    async def owner(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any] | None:
        self.asked.append(f"{kind.kind} {namespace}/{name}")
        if self.down:
            raise OwnerUnavailableError(f"{kind} {namespace}/{name}: no connection")
        return self.objects.get((kind, namespace, name))


def good(text: str = IMAGE, **changes: Any) -> Evidence:
    """Evidence that the policy of ``builders`` is content with, for an image."""
    image = ImageReference.parse(text)
    assert image.digest is not None
    return replace(builders.evidence(**changes), image=image.with_digest(image.digest))


def assessor(
    *policies: Any,
    facts: Any = None,
    owners: OwnersTwin | None = None,
    **more: Any,
) -> Assessor:
    loaded = policies or (builders.policy(),)
    source = facts or FactsTwin({IMAGE: good(), OTHER: good(OTHER)})
    return Assessor(
        lambda: loaded, source, owners or OwnersTwin(), "c1", lambda: builders.NOW, **more
    )


def codes(assessment: Any) -> list[str]:
    return [finding.reason.value for finding in assessment.decision.findings]
