"""The set of policies follows the cluster, through edits, errors and restarts."""

import asyncio
import contextlib
import copy

import pytest

from e2e.controlplane.start import Options
from tests.core.policy.builders import document, rule
from tests.kube.conftest import change
from trailgate_kube import crd
from trailgate_kube.client import KubeClient
from trailgate_kube.errors import InvalidError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.policies import Policies
from trailgate_kube.resources import DEPLOY_POLICIES


def policy(name="production", **changes):
    value = document(**changes)
    value["metadata"]["name"] = name
    return value


@contextlib.asynccontextmanager
async def running(kube):
    policies = Policies(kube)
    task = policies.task()
    try:
        async with asyncio.timeout(20):
            await policies.synced()
        yield policies
    finally:
        task.cancel()


async def until(condition, seconds=20):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it watches somebody else's state
            await asyncio.sleep(0.02)


def modes(policies):
    return {item.name: item.mode.value for item in policies.current}


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.cluster)])
async def kube(request):
    if request.param == "memory":
        yield MemoryKube()
        return
    plane = request.getfixturevalue("start_control_plane")(Options(unsafe_no_fsync=True))
    plane.install_crds(crd.definitions()[1])
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        yield client


async def test_policies_are_followed_from_the_first_list_on(kube):
    await kube.create(DEPLOY_POLICIES, policy("a", mode="Audit"))
    async with running(kube) as policies:
        assert modes(policies) == {"a": "Audit"}
        assert policies.current[0].reference.generation == 1
        await kube.create(DEPLOY_POLICIES, policy("b", mode="Warn"))
        await until(lambda: modes(policies) == {"a": "Audit", "b": "Warn"})
        await change(kube, DEPLOY_POLICIES, "a", spec=policy("a", mode="Enforce")["spec"])
        await until(lambda: modes(policies) == {"a": "Enforce", "b": "Warn"})
        assert policies.current[0].reference.generation == 2
        await kube.delete(DEPLOY_POLICIES, "b")
        await until(lambda: modes(policies) == {"a": "Enforce"})
        assert policies.silence < 20


async def test_a_status_patch_changes_nothing(kube):
    await kube.create(DEPLOY_POLICIES, policy("a"))
    async with running(kube) as policies:
        before = policies.current
        await change(kube, DEPLOY_POLICIES, "a", status={"conditions": []})
        await kube.create(DEPLOY_POLICIES, policy("b"))
        await until(lambda: len(policies.current) == 2)
        assert policies.current[0] is before[0]


async def test_the_last_good_form_stays_while_the_present_one_is_broken(kube):
    """A key that is none passes the API server's schema; only parsing finds it."""
    good = policy("a")
    await kube.create(DEPLOY_POLICIES, good)
    broken = copy.deepcopy(good["spec"]["rules"])
    broken[0]["signature"]["signers"][0]["key"] = (
        "-----BEGIN PUBLIC KEY-----\nTm90IGEga2V5\n-----END PUBLIC KEY-----\n"
    )
    async with running(kube) as policies:
        before = policies.current
        await change(kube, DEPLOY_POLICIES, "a", spec=good["spec"] | {"rules": broken})
        await until(lambda: policies.problems)
        assert policies.current == before
        assert policies.problems.keys() == {"a"}
        await change(kube, DEPLOY_POLICIES, "a", spec=good["spec"] | {"mode": "Warn"})
        await until(lambda: modes(policies) == {"a": "Warn"})
        assert policies.problems == {}


async def test_a_broken_policy_without_a_good_form_is_a_problem_until_deleted(kube):
    broken = policy("a")
    broken["spec"]["rules"][0]["signature"]["signers"][0]["key"] = (
        "-----BEGIN PUBLIC KEY-----\nTm90IGEga2V5\n-----END PUBLIC KEY-----\n"
    )
    await kube.create(DEPLOY_POLICIES, broken)
    async with running(kube) as policies:
        assert policies.current == ()
        assert policies.problems.keys() == {"a"}
        await kube.delete(DEPLOY_POLICIES, "a")
        await until(lambda: not policies.problems)


@pytest.mark.cluster
async def test_the_definition_refuses_what_no_policy_may_say(start_control_plane):
    plane = start_control_plane(Options(unsafe_no_fsync=True))
    plane.install_crds(crd.definitions()[1])
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        with pytest.raises(InvalidError, match="mode"):
            await client.create(DEPLOY_POLICIES, policy(mode="Sometimes"))
        lax = rule(signature=None, provenance=None, source=None, review=None, tests=None,
                   deploymentApproval=None)  # fmt: skip
        with pytest.raises(InvalidError, match="needs signature or provenance"):
            await client.create(DEPLOY_POLICIES, policy(rules=[lax]))


@pytest.mark.cluster
@pytest.mark.parametrize("kill", [True, False])
async def test_policies_stay_and_follow_on_through_an_api_server_restart(
    start_control_plane, caplog, kill
):
    plane = start_control_plane(Options(unsafe_no_fsync=True))
    plane.install_crds(crd.definitions()[1])
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        await client.create(DEPLOY_POLICIES, policy("a"))
        async with running(client) as policies:
            before = policies.current
            await asyncio.to_thread(plane.stop_apiserver, kill=kill)
            await until(lambda: "trying again" in caplog.text)
            assert policies.current == before
            await asyncio.to_thread(plane.start_apiserver)
            await client.create(DEPLOY_POLICIES, policy("b"))
            await until(lambda: modes(policies) == {"a": "Enforce", "b": "Enforce"}, 30)
            assert policies.silence < 30


# What only the twin can be told to do.


async def test_history_that_was_forgotten_is_listed_again():
    kube = MemoryKube()
    await kube.create(DEPLOY_POLICIES, policy("a"))
    await kube.create(DEPLOY_POLICIES, policy("b"))
    async with running(kube) as policies:
        kube.fail("watch", UnavailableError("cut", maybe_done=False))
        await kube.create(DEPLOY_POLICIES, policy("c"))
        await kube.delete(DEPLOY_POLICIES, "a")
        kube.compact()
        await until(lambda: modes(policies).keys() == {"b", "c"})


async def test_an_api_server_that_is_down_at_the_start_is_waited_for():
    kube = MemoryKube()
    await kube.create(DEPLOY_POLICIES, policy("a"))
    kube.fail("page", UnavailableError("refused", maybe_done=False))
    kube.fail("page", UnavailableError("refused", maybe_done=False))
    async with running(kube) as policies:
        assert modes(policies) == {"a": "Enforce"}
