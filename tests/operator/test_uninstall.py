"""Leaving a cluster: in order, whoever is dead, interrupted anywhere; twin and real API server."""

import asyncio
import contextlib
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from e2e.controlplane.start import Options
from tests.operator.test_prepare import ENVIRONMENT, ORIGIN, Killed, Killing
from trailgate_kube.client import KubeClient
from trailgate_kube.crd import definitions
from trailgate_kube.errors import ForbiddenError, NotFoundError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import (
    ADMISSIONS,
    CLUSTER_ROLES,
    DISARMS,
    SECRETS,
    VALIDATING_WEBHOOKS,
    WORKLOADS,
)
from trailgate_operator.keyring_secret import Secret, SecretBox
from trailgate_operator.prepare import Preparation
from trailgate_operator.prepare_places import Places
from trailgate_operator.uninstall import Uninstall, UninstallError, Waits

PODS, DEPLOYMENTS = WORKLOADS[0], WORKLOADS[2]
OURS = ("trailgate-webhook-tls", "trailgate-authority", "trailgate-gate", "trailgate-recorder")
QUICK = Waits(disarm=0.05, stop=0.05, drain=0.05, pause=0.01)
PATIENT = Waits(disarm=20, stop=20, drain=20, pause=0.02)


class Twin(MemoryKube):
    """Scaling down takes the pods away, as controllers and kubelets do."""

    obeys = True

    async def replace(self, resource, body, namespace=None, *, subresource="", seconds=None):
        if subresource != "scale":
            return await super().replace(resource, body, namespace, subresource=subresource)
        name = body["metadata"]["name"]
        await self.change(resource, name, {"spec": {"replicas": 0}}, namespace)
        if self.obeys:
            with contextlib.suppress(NotFoundError):
                await self.delete(PODS, f"{name}-1", namespace)
        return body


def plain(resource, name, **parts):
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}}
    return body | parts


def deployment(name):
    container = {"name": "it", "image": "example.com/it@sha256:" + "0" * 64}
    labels = {"app": name}
    return plain(
        DEPLOYMENTS,
        name,
        spec={
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    )


def admission(number):
    digest = "sha256:" + "0" * 64
    return plain(ADMISSIONS, f"{'ab' * 16}-{number:010}", spec={"any": digest})


class Installed:
    """What the chart and the operator left in a cluster, and an operator that may be alive."""

    def __init__(self, kube, namespace):
        self.kube, self.namespace, self.said = kube, namespace, []
        self.box = SecretBox(kube, namespace)

    async def install(self, tmp_path):
        places = Places(tmp_path / "keys", tmp_path / "ledger.db")
        await Preparation(self.box, places, ORIGIN).run(5)
        for name in OURS[:2]:
            await self.box.create(Secret(name, {"ca.crt": b"x"}))
        role = await self.create(plain(CLUSTER_ROLES, "trailgate-arming", rules=[]))
        self.role = role["metadata"]["uid"]
        await self.create(plain(VALIDATING_WEBHOOKS, "trailgate", webhooks=[]))
        for name in ("trailgate-webhook", "trailgate-operator"):
            await self.create(deployment(name), self.namespace)
            if isinstance(self.kube, MemoryKube):
                await self.create(
                    plain(PODS, f"{name}-1", spec={"serviceAccountName": name}), self.namespace
                )

    async def create(self, body, namespace=None):
        kinds = (CLUSTER_ROLES, VALIDATING_WEBHOOKS, DEPLOYMENTS, PODS, ADMISSIONS)
        resource = next(one for one in kinds if one.kind == body["kind"])
        return await self.kube.create(resource, body, namespace)

    async def there(self, resource, name, namespace=None):
        try:
            return await self.kube.get(resource, name, namespace)
        except NotFoundError:
            return None

    async def operator(self):
        """Disarm, record what is in the spool, keep the Secrets: while it isn't scaled down."""
        while True:
            await asyncio.sleep(0.005)
            scaled = await self.there(DEPLOYMENTS, "trailgate-operator", self.namespace)
            if scaled is None or scaled["spec"]["replicas"] == 0:
                return
            disarmed = await self.there(DISARMS, "trailgate-uninstall") is not None
            armed = await self.there(VALIDATING_WEBHOOKS, "trailgate") is not None
            if disarmed and armed:
                await self.kube.delete(VALIDATING_WEBHOOKS, "trailgate")
            for item in (await self.kube.page(ADMISSIONS, self.namespace)).items:
                await self.kube.delete(ADMISSIONS, item["metadata"]["name"], self.namespace)
            if await self.box.get("trailgate-authority") is None:
                await self.box.create(Secret("trailgate-authority", {"ca.crt": b"again"}))

    async def uninstall(self, waits=QUICK, kube=None):
        await Uninstall(kube or self.kube, self.namespace, self.said.append, waits).run()
        return "\n".join(self.said)

    async def secrets(self):
        names = (*OURS, "trailgate-log")
        return {name for name in names if await self.box.get(name) is not None}

    async def left(self):
        """Assert that nothing is there but what is kept on purpose."""
        assert await self.secrets() == {"trailgate-log"}
        assert await self.there(VALIDATING_WEBHOOKS, "trailgate") is None
        for name in ("trailgate-webhook", "trailgate-operator"):
            found = await self.there(DEPLOYMENTS, name, self.namespace)
            assert found["spec"]["replicas"] == 0


@pytest.fixture
async def twin(tmp_path):
    made = Installed(Twin(), "test")
    await made.install(tmp_path)
    return made


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.cluster)])
async def installed(request, tmp_path):
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    if request.param == "memory":
        made = Installed(Twin(), namespace)
        await made.install(tmp_path)
        yield made
        return
    plane = request.getfixturevalue("start_control_plane")(Options(unsafe_no_fsync=True))
    plane.install_crds(*definitions())
    plane.namespace(namespace)
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        made = Installed(client, namespace)
        await made.install(tmp_path)
        yield made


async def test_with_a_living_operator_everything_goes_in_order(installed):
    alive = asyncio.create_task(installed.operator())
    if isinstance(installed.kube, MemoryKube):
        await installed.create(admission(1), installed.namespace)
    said = await installed.uninstall(PATIENT)
    await asyncio.wait_for(alive, 10)
    await installed.left()
    made = await installed.kube.get(DISARMS, "trailgate-uninstall")
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("ClusterRole", "trailgate-arming")
    assert owner["uid"] == installed.role
    assert made["spec"]["reason"] == "helm uninstall"
    left = datetime.fromisoformat(made["spec"]["until"]) - datetime.now(UTC)
    assert timedelta(minutes=55) < left <= timedelta(hours=1)
    assert said.index("made Disarm") < said.index("is gone") < said.index("-webhook is stopped")
    assert said.index("spool is empty") < said.index("-operator is stopped")
    assert said.index("-operator is stopped") < said.index("deleted Secret")
    assert "left on purpose: Secret trailgate-log" in said


async def test_with_a_dead_operator_the_configuration_goes_all_the_same(installed):
    said = await installed.uninstall(QUICK)
    await installed.left()
    assert "deleted ValidatingWebhookConfiguration trailgate: the operator didn't" in said


async def test_again_there_is_nothing_to_do_and_nothing_to_complain_about(installed):
    await installed.uninstall()
    installed.said.clear()
    said = await installed.uninstall()
    assert "deleted" not in said
    assert "Disarm trailgate-uninstall is there already" in said
    await installed.left()


async def test_what_helm_test_left_is_taken_along(twin):
    await twin.create(plain(PODS, "trailgate-test", spec={}), "test")
    assert "deleted Pod trailgate-test" in await twin.uninstall()
    assert await twin.there(PODS, "trailgate-test", "test") is None


async def test_of_an_empty_cluster_it_says_only_what_it_keeps():
    empty = Installed(Twin(), "test")
    said = await empty.uninstall()
    assert "deleted" not in said
    assert "left Secret" not in said


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", range(1, 10))
async def test_interrupted_at_any_write_the_next_run_ends_well(twin, write, after):
    with contextlib.suppress(Killed):
        await twin.uninstall(kube=Killing(twin.kube, write, after=after))
    await twin.uninstall()
    await twin.left()


async def test_there_are_nine_writes(twin):
    killing = Killing(twin.kube, 10, after=False)
    await twin.uninstall(kube=killing)
    assert killing.left == 1


async def test_while_admissions_are_left_the_keys_to_them_are_too(twin):
    await twin.create(admission(1), "test")
    said = await twin.uninstall()
    assert await twin.secrets() == {"trailgate-gate", "trailgate-recorder", "trailgate-log"}
    assert "Admissions are left in the spool after" in said
    assert "left Secret trailgate-gate: Admissions are left" in said
    await twin.kube.delete(ADMISSIONS, admission(1)["metadata"]["name"], "test")
    await twin.uninstall()
    await twin.left()


async def test_while_the_gate_may_still_write_its_keys_stay(twin):
    twin.kube.obeys = False
    said = await twin.uninstall()
    assert {"trailgate-gate", "trailgate-recorder"} <= await twin.secrets()
    assert "Deployment trailgate-webhook still has pods" in said
    assert "left Secret trailgate-recorder: trailgate-webhook may still write" in said


async def test_without_the_right_to_stop_the_gate_its_keys_stay(twin):
    for_webhook = Killing(twin.kube, 100, after=False)

    async def no_scale(*arguments, **options):
        raise ForbiddenError("403 no")

    for_webhook.replace = no_scale
    said = await twin.uninstall(kube=for_webhook)
    assert "could not stop Deployment trailgate-webhook: 403 no" in said
    assert {"trailgate-gate", "trailgate-recorder"} <= await twin.secrets()


async def test_without_the_right_to_delete_the_configuration_it_does_not_end_well(twin):
    twin.kube.fail("delete", ForbiddenError("403 no"))
    with pytest.raises(UninstallError, match="kubectl delete validatingwebhookconfiguration"):
        await twin.uninstall()
    assert await twin.secrets() == {*OURS, "trailgate-log"}


async def test_a_configuration_that_comes_back_is_not_left_behind_unsaid(twin):
    real = twin.kube.delete

    killing = Killing(twin.kube, 100, after=False)

    async def delete(resource, name, namespace=None, *, uid=None):
        await real(resource, name, namespace, uid=uid)
        if resource is VALIDATING_WEBHOOKS:
            await twin.create(plain(VALIDATING_WEBHOOKS, "trailgate", webhooks=[]))

    killing.delete = delete
    with pytest.raises(UninstallError, match="still there"):
        await twin.uninstall(kube=killing)


async def test_for_an_owner_that_is_being_deleted_the_disarm_is_nobodys(twin):
    """Owned by it, the Disarm would be collected before anybody saw it."""
    role = await twin.kube.get(CLUSTER_ROLES, "trailgate-arming")
    going = role["metadata"] | {"deletionTimestamp": "2026-11-23T12:00:00Z"}
    await twin.kube.change(CLUSTER_ROLES, "trailgate-arming", {"metadata": going})
    await twin.uninstall()
    made = await twin.kube.get(DISARMS, "trailgate-uninstall")
    assert "ownerReferences" not in made["metadata"]


async def test_a_disarm_that_is_about_to_end_is_made_anew(twin):
    until = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await twin.kube.create(DISARMS, plain(DISARMS, "trailgate-uninstall", spec={"until": until}))
    await twin.uninstall()
    made = await twin.kube.get(DISARMS, "trailgate-uninstall")
    assert made["spec"]["until"] != until


@pytest.mark.parametrize("error", [NotFoundError("no kind"), ForbiddenError("403 no")])
async def test_without_a_disarm_it_goes_on(twin, error):
    twin.kube.fail("create", error)
    said = await twin.uninstall()
    assert "made no Disarm" in said
    await twin.left()


async def test_a_secret_that_somebody_else_made_is_left(twin):
    found = await twin.box.get("trailgate-webhook-tls")
    metadata = found.read["metadata"] | {"labels": {}}
    await twin.kube.change(SECRETS, found.name, {"metadata": metadata}, "test")
    said = await twin.uninstall()
    assert "left Secret trailgate-webhook-tls: the operator did not make it" in said
    assert "trailgate-webhook-tls" in await twin.secrets()


async def test_an_api_server_that_hiccups_is_asked_again_and_one_that_is_down_is_an_error(twin):
    killing = Killing(twin.kube, 100, after=False)
    real, left = twin.kube.get, [3]

    async def get(resource, name, namespace=None, *, seconds=None):
        if resource is VALIDATING_WEBHOOKS and left[0]:
            left[0] -= 1
            raise UnavailableError("down", maybe_done=False)
        return await real(resource, name, namespace)

    killing.get = get
    await twin.uninstall(kube=killing)
    await twin.left()
    left[0] = 10_000
    with pytest.raises(UnavailableError):
        await twin.uninstall(kube=killing)


def test_the_command_says_what_it_cannot_use():
    code = "from trailgate_operator.uninstall_command import main; main()"
    for arguments, text in ((["--kubeconfig", "/nowhere"], "/nowhere"), (["--wait-drain", "x"], "'x'")):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, text=True, timeout=30, check=False, env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 2
        assert text in done.stderr
        assert "Traceback" not in done.stderr
