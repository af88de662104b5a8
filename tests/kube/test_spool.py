"""The spool's doors, on the twin and on the real API server."""

import asyncio
import random
import uuid

import pytest

from tests.kube.batches import Chain
from tests.kube.conftest import World, change
from trailgate.ledger.spool import Batch, open_batch
from trailgate.ledger.spoolkeys import key_id
from trailgate.ledger.spoolwriter import (
    SpoolAmbiguousError,
    SpoolFullError,
    SpoolRefusedError,
    SpoolUnreachableError,
    Written,
)
from trailgate_kube import crd
from trailgate_kube.client import KubeClient
from trailgate_kube.errors import ConflictError, ForbiddenError, InvalidError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import ADMISSIONS, Resource
from trailgate_kube.spool import AdmissionReader, AdmissionWriter


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.cluster)])
async def spool(request):
    if request.param == "memory":
        yield World(MemoryKube(), "trailgate")
        return
    plane = request.getfixturevalue("control_plane")
    namespace = request.getfixturevalue("namespace")
    plane.install_crds(crd.admission())
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        yield World(client, namespace)


async def everything(reader, limit=50):
    return [stored async for page in reader.pages(limit) for stored in page]


async def test_a_batch_comes_back_as_it_was_and_opens(spool):
    chain = Chain()
    batch = chain.next()
    assert await AdmissionWriter(spool.kube, spool.namespace).write(batch) is Written.CREATED
    (stored,) = await everything(AdmissionReader(spool.kube, spool.kube, spool.namespace))
    assert stored.spec == batch.to_spec()
    assert stored.name == batch.name
    (claim,) = open_batch(
        Batch.from_spec(stored.spec),
        name=stored.name,
        recorder_keys=[chain.recorder],
        signer_keys={key_id(chain.signer.public_key()): chain.signer.public_key()},
    )
    assert claim["text"] == "x"


async def test_the_same_batch_again_is_there_already(spool):
    writer = AdmissionWriter(spool.kube, spool.namespace)
    batch = Chain().next()
    assert await writer.write(batch) is Written.CREATED
    assert await writer.write(batch) is Written.ALREADY_THERE
    reader = AdmissionReader(spool.kube, spool.kube, spool.namespace)
    assert len(await everything(reader)) == 1


async def test_it_is_read_in_the_order_of_boot_and_number(spool):
    chains = [Chain() for _ in range(3)]
    batches = [chain.next(str(number)) for chain in chains for number in range(11)]
    writer = AdmissionWriter(spool.kube, spool.namespace)
    for batch in random.sample(batches, len(batches)):
        await writer.write(batch)
    reader = AdmissionReader(spool.kube, spool.kube, spool.namespace)
    read = [(stored.spec["boot"], stored.spec["seq"]) for stored in await everything(reader, 7)]
    assert read == sorted((batch.link.boot, batch.link.seq) for batch in batches)
    assert len(read) == 33


async def test_remove_removes_exactly_that_object(spool):
    writer = AdmissionWriter(spool.kube, spool.namespace)
    reader = AdmissionReader(spool.kube, spool.kube, spool.namespace)
    batch = Chain().next()
    await writer.write(batch)
    (first,) = await everything(reader)
    assert await reader.remove(first)
    assert not await reader.remove(first)
    await writer.write(batch)
    (second,) = await everything(reader)
    assert second.uid != first.uid
    with pytest.raises(ConflictError):
        await reader.remove(first)
    assert await everything(reader) == [second]


# What only the real API server knows.


@pytest.mark.cluster
@pytest.mark.parametrize(
    "changes",
    [
        {"claims": 2},
        {"sealed": ""},
        {"kind": "ended"},
        {"objects": []},
    ],
)
async def test_a_specification_never_changes(control_plane, namespace, changes):
    control_plane.install_crds(crd.admission())
    batch = Chain().next()
    async with await KubeClient.open(control_plane.admin.kubeconfig) as client:
        await AdmissionWriter(client, namespace).write(batch)
        spec = batch.to_spec()
        with pytest.raises(InvalidError, match="never changes"):
            await change(client, ADMISSIONS, batch.name, namespace, spec=spec | changes)


@pytest.mark.cluster
async def test_a_name_that_is_not_the_batchs_own_is_refused(control_plane, namespace):
    control_plane.install_crds(crd.admission())
    spec = Chain().next().to_spec()
    body = {"apiVersion": ADMISSIONS.api_version, "kind": "Admission", "spec": spec}
    async with await KubeClient.open(control_plane.admin.kubeconfig) as client:
        for name in ("other", f"{spec['boot']}-0000000001", f"{spec['boot']}-0"):
            with pytest.raises(InvalidError, match="ten digits"):
                await client.create(ADMISSIONS, {**body, "metadata": {"name": name}}, namespace)
        good = {**body, "metadata": {"name": f"{spec['boot']}-0000000000"}}
        await client.create(ADMISSIONS, good, namespace)


@pytest.mark.cluster
@pytest.mark.parametrize("field", sorted(Chain().next().to_spec()))
async def test_every_field_is_in_the_schema_and_required(control_plane, namespace, field):
    control_plane.install_crds(crd.admission())
    batch = Chain().next()
    spec = {key: value for key, value in batch.to_spec().items() if key != field}
    body = {
        "apiVersion": ADMISSIONS.api_version,
        "kind": "Admission",
        "metadata": {"name": batch.name},
        "spec": spec,
    }
    async with await KubeClient.open(control_plane.admin.kubeconfig) as client:
        with pytest.raises(InvalidError, match=field):
            await client.create(ADMISSIONS, body, namespace)


@pytest.mark.cluster
async def test_kubectl_shows_the_columns(control_plane, namespace):
    control_plane.install_crds(crd.admission())
    batch = Chain().next()
    async with await KubeClient.open(control_plane.admin.kubeconfig) as client:
        await AdmissionWriter(client, namespace).write(batch)
    shown = control_plane.kubectl(control_plane.admin, "-n", namespace, "get", "trailgate")
    header, row = shown.stdout.strip().splitlines()
    assert header.split() == ["NAME", "BOOT", "SEQ", "KIND", "CLAIMS", "AGE"]
    assert row.split()[1:5] == [batch.link.boot, "0", "admitted", "1"]


@pytest.mark.cluster
async def test_rights_are_asked_for_and_the_writer_needs_only_create(control_plane, namespace):
    control_plane.install_crds(crd.admission())
    account = control_plane.service_account(namespace, "webhook")
    async with await KubeClient.open(account.kubeconfig) as client:
        writer = AdmissionWriter(client, namespace)
        with pytest.raises(SpoolRefusedError, match="cannot create"):
            await writer.write(Chain().next())
        rules = [{"apiGroups": ["trailgate.dev"], "resources": ["admissions"],
                  "verbs": ["create"]}]  # fmt: skip
        rbac = "rbac.authorization.k8s.io"
        control_plane.apply(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "Role",
                "metadata": {"name": "writer", "namespace": namespace},
                "rules": rules,
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "writer", "namespace": namespace},
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "writer"},
                "subjects": [{"kind": "ServiceAccount", "name": "webhook", "namespace": namespace}],
            },
        )
        assert await writer.write(Chain().next()) is Written.CREATED
        with pytest.raises(ForbiddenError):
            await everything(AdmissionReader(client, client, namespace))


@pytest.mark.cluster
async def test_no_such_namespace_is_a_refusal(control_plane):
    control_plane.install_crds(crd.admission())
    async with await KubeClient.open(control_plane.admin.kubeconfig) as client:
        with pytest.raises(SpoolRefusedError, match="not found"):
            await AdmissionWriter(client, "nowhere").write(Chain().next())


async def counted_quota(client, namespace, most):
    """Make a quota that counts.

    The quota controller looks for new kinds every 30 s, and a quota made before it knew
    the kind stays uncounted (and refuses everything) for minutes: make it anew.
    """
    quotas = Resource("", "v1", "resourcequotas", "ResourceQuota")
    body = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "spool"},
        "spec": {"hard": {"count/admissions.trailgate.dev": str(most)}},
    }
    async with asyncio.timeout(60):
        while True:
            await client.create(quotas, body, namespace)
            for _ in range(10):
                await asyncio.sleep(0.2)
                if (await client.get(quotas, "spool", namespace)).get("status", {}).get("used"):
                    return
            with pytest.raises(SpoolUnreachableError, match="status unknown"):
                await AdmissionWriter(client, namespace).write(Chain().next())
            await client.delete(quotas, "spool", namespace)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_full_quota_says_full_and_room_comes_back(control_plane_with_controllers):
    plane = control_plane_with_controllers
    plane.install_crds(crd.admission())
    namespace = f"quota-{uuid.uuid4().hex[:12]}"
    plane.namespace(namespace)
    chain = Chain()
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        await counted_quota(client, namespace, 3)
        writer = AdmissionWriter(client, namespace)
        reader = AdmissionReader(client, client, namespace)
        batches = [chain.next() for _ in range(4)]
        for batch in batches[:3]:
            assert await writer.write(batch) is Written.CREATED
        with pytest.raises(SpoolFullError):
            await writer.write(batches[3])
        with pytest.raises(SpoolFullError):  # not ALREADY_THERE: the quota is asked first
            await writer.write(batches[2])
        for stored in await everything(reader):
            await reader.remove(stored)
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await writer.write(batches[3]) is Written.CREATED
                    break
                except SpoolFullError:
                    await asyncio.sleep(0.1)


# What only the twin can be told to do.


async def test_a_full_twin_says_full():
    kube = MemoryKube(limits={("admissions", "trailgate"): 1})
    writer = AdmissionWriter(kube, "trailgate")
    chain = Chain()
    await writer.write(chain.next())
    with pytest.raises(SpoolFullError):
        await writer.write(chain.next())


async def test_a_request_that_was_never_sent_is_not_ambiguous():
    kube = MemoryKube()
    kube.fail("create", UnavailableError("refused", maybe_done=False))
    writer = AdmissionWriter(kube, "trailgate")
    batch = Chain().next()
    with pytest.raises(SpoolUnreachableError):
        await writer.write(batch)
    assert await writer.write(batch) is Written.CREATED


async def test_a_quota_that_others_counted_meanwhile_is_worth_another_try():
    kube = MemoryKube()
    kube.fail("create", ConflictError('409 Conflict resourcequotas "trailgate-spool" modified'))
    writer, batch = AdmissionWriter(kube, "trailgate"), Chain().next()
    with pytest.raises(SpoolUnreachableError, match="resourcequotas"):
        await writer.write(batch)
    assert await writer.write(batch) is Written.CREATED


@pytest.mark.parametrize("done", [True, False])
async def test_an_ambiguous_write_is_settled_by_the_same_batch_again(done):
    kube = MemoryKube()
    kube.fail("create", UnavailableError("timed out", maybe_done=True), after=done)
    writer = AdmissionWriter(kube, "trailgate")
    batch = Chain().next()
    with pytest.raises(SpoolAmbiguousError):
        await writer.write(batch)
    expected = Written.ALREADY_THERE if done else Written.CREATED
    assert await writer.write(batch) is expected


async def test_after_an_ambiguous_write_a_full_quota_settles_nothing():
    kube = MemoryKube(limits={("admissions", "trailgate"): 1})
    kube.fail("create", UnavailableError("timed out", maybe_done=True), after=True)
    writer = AdmissionWriter(kube, "trailgate")
    batch = Chain().next()
    with pytest.raises(SpoolAmbiguousError):
        await writer.write(batch)
    with pytest.raises(SpoolFullError):
        await writer.write(batch)
    reader = AdmissionReader(kube, kube, "trailgate")
    assert [stored.name for stored in await everything(reader)] == [batch.name]
