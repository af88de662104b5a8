"""Owners and the cluster's identity, on the twin and on the real API server."""

import pytest

from tests.kube.conftest import THINGS_KIND
from trailgate.assess.owners import OwnerUnavailableError
from trailgate.model.admission import Kind
from trailgate_kube.cluster import cluster_uid
from trailgate_kube.errors import UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.owners import KubeOwners
from trailgate_kube.resources import BUILT_IN, NAMESPACES

REPLICA_SET = Kind("apps", "ReplicaSet")


def replica_set(name):
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": "example.test/web:1"}]},
            },
        },
    }


async def test_an_owner_is_read_as_it_is(world):
    created = await world.kube.create(BUILT_IN[REPLICA_SET], replica_set("web"), world.namespace)
    owner = await KubeOwners(world.kube).owner(REPLICA_SET, world.namespace, "web")
    assert owner["metadata"]["uid"] == created["metadata"]["uid"]
    assert owner["spec"]["template"]["spec"]["containers"][0]["image"] == "example.test/web:1"


async def test_a_custom_owner_is_found_by_discovery(world):
    await world.create("rollout", replicas=3)
    owner = await KubeOwners(world.kube).owner(THINGS_KIND, world.namespace, "rollout")
    assert owner["spec"] == {"replicas": 3}


@pytest.mark.parametrize(
    "kind", [REPLICA_SET, Kind("nowhere.example", "Rollout"), Kind("", "Nothing")]
)
async def test_an_owner_that_is_not_there_is_none(world, kind):
    assert await KubeOwners(world.kube).owner(kind, world.namespace, "web") is None


@pytest.mark.parametrize("method", ["get", "discover"])
async def test_an_owner_that_cannot_be_read_is_never_taken_for_absent(method):
    kube = MemoryKube()
    kube.fail(method, UnavailableError("timed out", maybe_done=True))
    with pytest.raises(OwnerUnavailableError, match="timed out"):
        await KubeOwners(kube).owner(REPLICA_SET, "shop", "web")


async def test_a_name_cannot_lead_to_another_path(world):
    assert await KubeOwners(world.kube).owner(REPLICA_SET, world.namespace, "../web?x=1") is None


async def test_the_cluster_is_the_uid_of_kube_system(world):
    if isinstance(world.kube, MemoryKube):
        await world.kube.create(NAMESPACES, {"metadata": {"name": "kube-system"}})
    uid = await cluster_uid(world.kube)
    assert uid == (await world.kube.get(NAMESPACES, "kube-system"))["metadata"]["uid"]
    assert len(uid) == 36
