"""The cluster's policies as the gate sees them: when it is ready, and what it says later."""

import pytest

from tests.webhook.conftest import until
from tests.webhook.world import policy
from trailgate_kube.api import Page
from trailgate_kube.memory import MemoryKube
from trailgate_kube.policies import Policies
from trailgate_kube.resources import DEPLOY_POLICIES
from trailgate_webhook import policies
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.policies import ClusterPolicies


def broken(name="broken"):
    document = policy(name=name)
    document["spec"]["requireEverything"] = True
    return document


@pytest.fixture
async def cluster():
    """(kube, source, metrics), not started."""
    kube, metrics = MemoryKube(), Metrics()
    source = ClusterPolicies(Policies(kube))
    policies.show(source, metrics)
    yield kube, source, metrics
    await source.stop()


def stale(metrics):
    return metrics.registry.get_sample_value("trailgate_policies_stale")


async def test_not_ready_before_the_first_whole_list(cluster):
    kube, source, _ = cluster
    assert source.problem() == "not read from the cluster yet"
    await kube.create(DEPLOY_POLICIES, policy())
    await source.start()
    await until(lambda: source.problem() is None)
    assert [item.name for item in source.policies()] == ["production"]
    assert source.stale() is None


async def test_no_policy_at_all_is_a_set_too(cluster):
    _, source, metrics = cluster
    await source.start()
    await until(lambda: source.problem() is None)
    assert metrics.registry.get_sample_value("trailgate_policies") == 0


async def test_a_policy_that_was_never_readable_keeps_a_new_process_from_being_ready(cluster):
    kube, source, metrics = cluster
    await kube.create(DEPLOY_POLICIES, policy())
    await kube.create(DEPLOY_POLICIES, broken())
    await source.start()
    await until(source.policies)
    assert source.problem() == "can't be read: broken"
    assert stale(metrics) == 1
    await kube.delete(DEPLOY_POLICIES, "broken")
    await until(lambda: source.problem() is None)
    assert stale(metrics) == 0


async def test_one_that_comes_later_is_told_and_the_gate_stays_ready(cluster):
    kube, source, metrics = cluster
    await kube.create(DEPLOY_POLICIES, policy())
    await source.start()
    await until(lambda: source.problem() is None)
    await kube.create(DEPLOY_POLICIES, broken())
    await until(lambda: source.stale() is not None)
    assert source.problem() is None
    assert source.stale() == "can't be read: broken"
    assert stale(metrics) == 1
    assert [item.name for item in source.policies()] == ["production"]


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ((), False),
        (("Audit",), False),
        (("Warn",), False),
        (("Enforce",), True),
        (("Audit", "Enforce"), True),
    ],
)
async def test_one_enforcing_policy_is_enough(cluster, modes, expected):
    kube, source, _ = cluster
    for mode in modes:
        await kube.create(DEPLOY_POLICIES, policy(name=mode.lower(), mode=mode))
    await kube.create(DEPLOY_POLICIES, policy(name="other", namespace="elsewhere"))
    await source.start()
    await until(lambda: source.problem() is None)
    assert policies.enforcing(source, "guarded") is expected
    assert policies.enforcing(source, "elsewhere") is True


class Garbled(MemoryKube):
    """An API server whose list holds something that is no object."""

    async def page(self, *args, **kwargs):
        return Page((None,), "1", "")


async def test_following_that_ends_by_what_nobody_foresaw_is_broken_and_told(caplog):
    source = ClusterPolicies(Policies(Garbled()))
    assert source.broken is False
    await source.start()
    await until(lambda: source.broken)
    assert "must restart" in source.stale()
    assert "policies: no longer followed" in caplog.text
    await source.stop()


async def test_following_that_was_stopped_is_not_broken(cluster):
    _, source, _ = cluster
    await source.start()
    await until(lambda: source.problem() is None)
    await source.stop()
    assert source.broken is False


async def test_a_silent_api_server_is_told(cluster, monkeypatch):
    _, source, _ = cluster
    await source.start()
    await until(lambda: source.problem() is None)
    monkeypatch.setattr(policies, "SILENCE", -1)
    assert "nothing heard from the API server" in source.stale()
    assert source.problem() is None
