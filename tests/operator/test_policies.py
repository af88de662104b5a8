"""The status of DeployPolicies: what the gate's own parser says, and nothing else is written."""

import copy
from datetime import UTC, datetime, timedelta

import pytest

from tests.webhook.world import policy
from trailgate_kube.errors import ConflictError, ForbiddenError, NotFoundError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.policies import Policies
from trailgate_kube.resources import DEPLOY_POLICIES
from trailgate_operator.loops import WaitingError
from trailgate_operator.metrics import Metrics
from trailgate_operator.policies import SILENCE, PolicyStatus, ready

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BAD_KEY = "-----BEGIN PUBLIC KEY-----\nnone\n-----END PUBLIC KEY-----"


def broken(name="production"):
    document = policy(name=name)
    document["spec"]["rules"][0]["signature"]["signers"][0]["key"] = BAD_KEY
    document["spec"]["mode"] = "Sometimes"
    return document


class Desk:
    """The loop on the twin, one pass at a time."""

    def __init__(self):
        self.kube, self.now, self.written = MemoryKube(), NOW, []
        original = self.kube.replace

        async def replace(resource, body, namespace=None, *, subresource=""):
            self.written.append((resource.plural, body["metadata"]["name"], subresource))
            return await original(resource, body, namespace, subresource=subresource)

        door = MemoryDoor(self.kube, replace)
        self.policies = Policies(self.kube)
        self.loop = PolicyStatus(door, self.policies, Metrics(), clock=lambda: self.now)

    async def look(self):
        await self.policies._mirror._list()
        await self.loop.look()

    async def get(self, name="production"):
        return await self.kube.get(DEPLOY_POLICIES, name)


class MemoryDoor:
    """The twin, with what is written heard."""

    def __init__(self, kube, replace):
        self._kube, self.replace = kube, replace

    def __getattr__(self, name):
        return getattr(self._kube, name)


@pytest.fixture
def desk():
    return Desk()


def test_a_policy_that_the_gate_reads_is_in_force():
    condition = ready(policy(mode="Audit"))
    assert (condition.type, condition.status, condition.reason) == ("Ready", True, "InUse")
    assert "in mode Audit" in condition.message


def test_one_that_it_cannot_read_is_told_every_mistake():
    condition = ready(broken())
    assert (condition.status, condition.reason) == (False, "Unreadable")
    assert "spec.mode: got 'Sometimes', expected one of Audit, Warn, Enforce" in condition.message
    assert "signers[0].key: got" in condition.message
    assert "last good form" in condition.message


async def test_only_the_status_is_written_and_only_where_it_differs(desk):
    made = await desk.kube.create(DEPLOY_POLICIES, policy())
    await desk.look()
    await desk.look()
    assert desk.written == [("deploypolicies", "production", "status")]
    found = await desk.get()
    assert found["spec"] == made["spec"]
    (condition,) = found["status"]["conditions"]
    assert (condition["status"], condition["observedGeneration"]) == ("True", 1)


async def test_it_follows_each_edit(desk):
    await desk.kube.create(DEPLOY_POLICIES, policy())
    await desk.look()
    desk.now += timedelta(hours=1)
    await desk.kube.change(DEPLOY_POLICIES, "production", {"spec": broken()["spec"]})
    await desk.look()
    status = (await desk.get())["status"]
    assert status["observedGeneration"] == 2
    assert status["conditions"][0]["status"] == "False"
    assert status["conditions"][0]["lastTransitionTime"] == "2026-11-23T13:00:00Z"
    desk.now += timedelta(hours=1)
    edited = copy.deepcopy(broken()["spec"]) | {"mode": "Audit"}
    await desk.kube.change(DEPLOY_POLICIES, "production", {"spec": edited})
    await desk.look()
    status = (await desk.get())["status"]
    assert status["observedGeneration"] == 3
    assert status["conditions"][0]["lastTransitionTime"] == "2026-11-23T13:00:00Z"


@pytest.mark.parametrize("error", [ConflictError("changed"), NotFoundError("gone")])
async def test_one_that_changes_meanwhile_keeps_no_other_from_its_status(desk, error):
    for name in ("a", "b"):
        await desk.kube.create(DEPLOY_POLICIES, policy(name=name))
    desk.kube.fail("replace", error)
    await desk.look()
    assert "status" not in await desk.get("a")
    assert "status" in await desk.get("b")
    await desk.look()
    assert "status" in await desk.get("a")


async def test_without_the_right_it_waits(desk):
    await desk.kube.create(DEPLOY_POLICIES, policy())
    desk.kube.fail("replace", ForbiddenError("no right on deploypolicies/status"))
    with pytest.raises(ForbiddenError):
        await desk.look()


async def test_a_silent_api_server_is_a_problem_and_one_that_speaks_again_is_none(desk):
    await desk.kube.create(DEPLOY_POLICIES, policy())
    await desk.look()
    desk.policies._mirror._contact -= SILENCE + 1
    with pytest.raises(WaitingError, match=r"heard nothing of policies for 30[0-9] s"):
        await desk.loop.look()
    await desk.look()


async def test_while_no_policies_are_heard_of_the_last_ones_keep_their_status(desk):
    await desk.kube.create(DEPLOY_POLICIES, policy())
    await desk.policies._mirror._list()
    desk.policies._mirror._contact -= SILENCE + 1
    with pytest.raises(WaitingError):
        await desk.loop.look()
    assert desk.written == [("deploypolicies", "production", "status")]


async def test_nothing_is_written_before_they_were_read(desk):
    with pytest.raises(WaitingError):
        await desk.loop.look()
