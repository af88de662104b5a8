from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.core.assess.support import (
    IMAGE,
    OTHER,
    OwnersTwin,
    edited,
    owned_by,
    real,
    recorded,
    workload,
)
from trailgate.assess import templates
from trailgate.assess.callers import CHILD_KIND
from trailgate.assess.classify import OwnerClaim, classify
from trailgate.assess.images import (
    CRON_JOB,
    DEPLOYMENT,
    JOB,
    POD,
    REPLICA_SET,
    STATEFUL_SET,
    find_images,
)
from trailgate.assess.owners import Owners, OwnerUnavailableError, OwnerUnverifiedError
from trailgate.model.admission import Kind
from trailgate.model.errors import MalformedError


def claim_of(owner: dict[str, Any], kind: Kind) -> OwnerClaim:
    metadata = owner["metadata"]
    return OwnerClaim(kind, "shop", metadata["name"], metadata["uid"])


def child_of(kind: Kind, item: dict[str, Any]) -> templates.Child:
    return templates.of_child(kind, item, find_images(kind, item))


CLAIMED = [
    item
    for item in recorded()
    if item.request.operation == "CREATE" and classify(item.request).claim is not None
]


def owners_before(until: Any) -> list[tuple[Kind, dict[str, Any]]]:
    """Every form of every possible owner that was recorded before a request."""
    forms = []
    for item in recorded():
        if item is until:
            break
        if item.request.kind in CHILD_KIND and item.request.object and not item.request.dry_run:
            forms.append((item.request.kind, item.request.object))
    return forms


@pytest.mark.parametrize("item", CLAIMED, ids=lambda r: f"{r.step}: {r.what}")
def test_real_children_match_their_real_owners(item):
    claim = classify(item.request).claim
    assert claim is not None
    forms = [
        form
        for kind, form in owners_before(item)
        if kind == claim.kind and form["metadata"]["uid"] == claim.uid
    ]
    assert forms, "the owner was recorded before"
    child = child_of(item.request.kind, item.request.object)
    assert any(templates.of_owner(claim.kind, form) == child.template for form in forms)


def test_all_seven_controllers_were_recorded():
    assert {classify(item.request).claim.kind for item in CLAIMED} == set(CHILD_KIND)


REPLICASET = real("create deployment", "CREATE replicasets deployment-controller").object
REAL_DEPLOYMENT = real("create deployment", "CREATE deployments deployer").object
REAL_JOB = real("cron", "CREATE jobs cronjob-controller").object
REAL_CRON = real("create cronjob", "CREATE cronjobs deployer").object


@pytest.mark.parametrize(
    "paths",
    [
        {"spec__template__spec__containers__0__env": [{"name": "A", "value": "b"}]},
        {"spec__template__spec__containers__0__command": ["sh"]},
        {"spec__template__spec__containers__0__image": OTHER},
        {"spec__template__spec__serviceAccountName": "admin"},
        {"spec__template__spec__hostNetwork": True},
        {"spec__template__spec__initContainers": ...},
        {"spec__template__metadata__labels__more": "x"},
        {"spec__template__metadata__annotations": {"sidecar.istio.io/inject": "true"}},
        {"spec__template__metadata__labels__app": ...},
    ],
    ids=str,
)
def test_a_replicaset_with_anything_else_in_it_is_not_its_deployments(paths):
    child = child_of(REPLICA_SET, edited(REPLICASET, **paths))
    assert child.template != templates.of_owner(DEPLOYMENT, REAL_DEPLOYMENT)


@pytest.mark.parametrize(
    "paths",
    [
        {"spec__template__spec__containers__0__command": ["sh"]},
        {"spec__template__spec__containers__0__image": OTHER},
        {"spec__template__metadata__labels__more": "x"},
        {"spec__parallelism": 50},
        {"spec__completions": 2},
        {"spec__suspend": True},
        {"spec__activeDeadlineSeconds": 5},
        {"spec__somethingNew": 1},
        {"spec__podReplacementPolicy": "Failed"},
        {"spec__manualSelector": True},
    ],
    ids=str,
)
def test_a_job_with_anything_else_in_it_is_not_its_cronjobs(paths):
    child = child_of(JOB, edited(REAL_JOB, **paths))
    assert child.template != templates.of_owner(CRON_JOB, REAL_CRON)


@pytest.mark.parametrize(
    ("in_cron", "in_job"),
    [
        ({"backoffLimitPerIndex": 1, "completionMode": "Indexed", "completions": 3},
         {"backoffLimitPerIndex": 1, "completionMode": "Indexed", "completions": 3,
          "backoffLimit": 2**31 - 1}),
        ({"podFailurePolicy": {"rules": []}},
         {"podFailurePolicy": {"rules": []}, "podReplacementPolicy": "Failed"}),
        ({"parallelism": 4}, {"parallelism": 4}),
    ],
)  # fmt: skip
def test_the_servers_defaults_of_a_job_are_known(in_cron, in_job):
    cron = edited(REAL_CRON)
    cron["spec"]["jobTemplate"]["spec"] |= in_cron
    job = edited(REAL_JOB)
    if "completions" not in in_job and "parallelism" in in_job:
        del job["spec"]["completions"]
    job["spec"] |= in_job
    if "podFailurePolicy" not in in_job:
        job["spec"]["podReplacementPolicy"] = "TerminatingOrFailed"
    assert child_of(JOB, job).template == templates.of_owner(CRON_JOB, cron)


def test_a_template_that_has_the_generated_label_already_still_matches():
    owner = edited(REAL_DEPLOYMENT)
    owner["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = "mine"
    child = child_of(REPLICA_SET, REPLICASET)
    assert child.template == templates.of_owner(DEPLOYMENT, owner)


def test_a_cronjob_without_a_job_template_is_malformed():
    for broken in ({}, {"jobTemplate": None}, {"jobTemplate": {"spec": {"template": 1}}}, None):
        with pytest.raises(MalformedError):
            templates.of_owner(CRON_JOB, REAL_CRON | {"spec": broken})


async def test_a_child_is_read_once_and_known_from_then_on():
    reader = OwnersTwin()
    owner = workload(DEPLOYMENT)
    reader.add(owner)
    owners = Owners(reader)
    child = child_of(REPLICA_SET, workload(REPLICA_SET))
    claim = claim_of(owner, DEPLOYMENT)
    assert owners.known(claim, child) is None
    assert await owners.inherited(claim, child) == {IMAGE}
    assert await owners.inherited(claim, child) == {IMAGE}
    assert owners.known(claim, child) == {IMAGE}
    assert len(reader.asked) == 1


async def test_an_admitted_owner_is_known_without_reading():
    reader = OwnersTwin()
    owner = workload(DEPLOYMENT)
    owners = Owners(reader)
    owners.remember(owner["metadata"]["uid"], templates.of_owner(DEPLOYMENT, owner))
    child = child_of(REPLICA_SET, workload(REPLICA_SET))
    assert await owners.inherited(claim_of(owner, DEPLOYMENT), child) == {IMAGE}
    assert reader.asked == []


async def test_an_owner_that_is_not_there_or_another_is_not_verified():
    reader = OwnersTwin()
    owner = workload(DEPLOYMENT)
    child = child_of(REPLICA_SET, workload(REPLICA_SET))
    with pytest.raises(OwnerUnverifiedError, match="uid-Deployment-web"):
        await Owners(reader).inherited(claim_of(owner, DEPLOYMENT), child)
    reader.add(edited(owner, metadata__uid="another"))
    with pytest.raises(OwnerUnverifiedError):
        await Owners(reader).inherited(claim_of(owner, DEPLOYMENT), child)


async def test_another_template_is_not_verified_and_a_later_one_is():
    reader = OwnersTwin()
    owner = workload(DEPLOYMENT)
    reader.add(owner)
    owners = Owners(reader)
    child = child_of(REPLICA_SET, workload(REPLICA_SET, OTHER))
    claim = claim_of(owner, DEPLOYMENT)
    with pytest.raises(OwnerUnverifiedError, match="template"):
        await owners.inherited(claim, child)
    reader.add(workload(DEPLOYMENT, OTHER))
    assert await owners.inherited(claim, child) == {OTHER}
    # The earlier one was the owner's too, and stays so: a controller may lag behind.
    first = child_of(REPLICA_SET, workload(REPLICA_SET))
    assert await owners.inherited(claim, first) == {IMAGE}


async def test_an_owner_that_cannot_be_read_is_unavailable_and_asked_again():
    reader = OwnersTwin(down=True)
    owner = workload(DEPLOYMENT)
    reader.add(owner)
    owners = Owners(reader)
    child = child_of(REPLICA_SET, workload(REPLICA_SET))
    with pytest.raises(OwnerUnavailableError):
        await owners.inherited(claim_of(owner, DEPLOYMENT), child)
    reader.down = False
    assert await owners.inherited(claim_of(owner, DEPLOYMENT), child) == {IMAGE}


class TestPod:
    owner = workload(REPLICA_SET, IMAGE, OTHER, name="owner")
    claim = claim_of(owner, REPLICA_SET)

    async def inherited(self, *images: str, rename: bool = False) -> frozenset[str]:
        reader = OwnersTwin()
        reader.add(self.owner)
        pod = workload(POD, *images)
        if rename:
            pod["spec"]["containers"][0]["name"] = "else"
        return await Owners(reader).inherited(self.claim, child_of(POD, pod))

    async def test_has_what_its_owner_has(self):
        assert await self.inherited(IMAGE, OTHER) == {IMAGE, OTHER}

    async def test_does_not_inherit_what_was_injected(self):
        assert await self.inherited(IMAGE, OTHER, "injected") == {IMAGE, OTHER}

    async def test_does_not_inherit_what_was_replaced(self):
        assert await self.inherited(IMAGE, "replaced") == {IMAGE}

    async def test_does_not_inherit_an_image_in_another_place(self):
        assert await self.inherited(OTHER, IMAGE) == frozenset()
        assert await self.inherited(IMAGE, OTHER, rename=True) == {OTHER}

    async def test_inherits_from_an_earlier_template_as_a_whole(self):
        reader = OwnersTwin()
        reader.add(self.owner)
        owners = Owners(reader)
        earlier = workload(REPLICA_SET, "old1", "old2")
        owners.remember(self.claim.uid, templates.of_owner(REPLICA_SET, earlier))
        whole = child_of(POD, workload(POD, "old1", "old2"))
        assert await owners.inherited(self.claim, whole) == {"old1", "old2"}
        mixed = child_of(POD, workload(POD, "old1", OTHER))
        assert await owners.inherited(self.claim, mixed) == {OTHER}


async def test_many_children_at_once_read_their_owner_once():
    reader = OwnersTwin()
    owner = workload(STATEFUL_SET)
    reader.add(owner)
    owners = Owners(reader)
    child = child_of(POD, workload(POD))
    claim = claim_of(owner, STATEFUL_SET)
    found = await asyncio.gather(*(owners.inherited(claim, child) for _ in range(50)))
    assert set(found) == {frozenset({IMAGE})}
    assert len(reader.asked) == 1


async def test_a_read_that_began_before_the_owner_changed_is_repeated():
    owner = workload(DEPLOYMENT)
    gate, began = asyncio.Event(), asyncio.Event()

    class Slow(OwnersTwin):
        async def owner(self, kind: Kind, namespace: str, name: str):
            found = await super().owner(kind, namespace, name)
            began.set()
            await gate.wait()
            return found

    reader = Slow()
    reader.add(owner)
    owners = Owners(reader)
    claim = claim_of(owner, DEPLOYMENT)
    early = asyncio.create_task(
        owners.inherited(claim, child_of(REPLICA_SET, workload(REPLICA_SET)))
    )
    await began.wait()
    reader.add(workload(DEPLOYMENT, OTHER))
    late = asyncio.create_task(
        owners.inherited(claim, child_of(REPLICA_SET, workload(REPLICA_SET, OTHER)))
    )
    await asyncio.sleep(0)
    gate.set()
    assert await early == {IMAGE}
    assert await late == {OTHER}
    assert len(reader.asked) == 2


async def test_what_is_remembered_is_bounded():
    owners = Owners(OwnersTwin(), limit=3)
    template = templates.of_owner(DEPLOYMENT, workload(DEPLOYMENT))
    for number in range(5):
        owners.remember(f"uid-{number}", template)
    child = child_of(REPLICA_SET, workload(REPLICA_SET))

    def known(uid: str) -> bool:
        return owners.known(OwnerClaim(DEPLOYMENT, "shop", "web", uid), child) is not None

    assert [known(f"uid-{number}") for number in range(5)] == [False, False, True, True, True]
    for number in range(20):
        owners.remember("uid-4", bytes([number]))
    assert not known("uid-4")


def test_ownership_is_by_the_real_references():
    pod = real("create deployment", "CREATE pods replicaset-controller")
    owner = real("create deployment", "CREATE replicasets deployment-controller").object
    claim = classify(pod).claim
    assert claim == claim_of(owner, REPLICA_SET)
    assert owned_by(owner)[0]["uid"] == claim.uid
