"""One suite, two API servers: the twin in memory and the real one."""

import uuid
from dataclasses import dataclass

import pytest

from trailgate.model.admission import Kind
from trailgate_kube.api import Kube
from trailgate_kube.client import KubeClient
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import Resource

THINGS = Resource("e2e.trailgate.dev", "v1", "things", "Thing")
THINGS_KIND = Kind(THINGS.group, THINGS.kind)

_SCHEMA = {
    "type": "object",
    "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
THINGS_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.e2e.trailgate.dev"},
    "spec": {
        "group": THINGS.group,
        "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": _SCHEMA},
                "subresources": {"status": {}},
            }
        ],
    },
}


async def change(kube, resource, name, namespace=None, **fields):
    """Set fields of an object (None removes one) as somebody else would: our doors can't."""
    if isinstance(kube, MemoryKube):
        await kube.change(resource, name, fields, namespace)
        return
    path = resource.path(namespace, name)
    body = await kube.get(resource, name, namespace) | fields
    status = fields.keys() == {"status"}
    await kube.raw("PUT", f"{path}/status" if status else path, body)


@dataclass
class World:
    """A Kube to try things on, and a namespace in it that nobody else uses."""

    kube: Kube
    namespace: str

    def thing(self, name, **spec):
        return {
            "apiVersion": THINGS.api_version,
            "kind": THINGS.kind,
            "metadata": {"name": name},
            "spec": spec,
        }

    async def create(self, name, **spec):
        return await self.kube.create(THINGS, self.thing(name, **spec), self.namespace)


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.cluster)])
async def world(request):
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    if request.param == "memory":
        twin = MemoryKube()
        twin.kinds[THINGS_KIND] = THINGS
        yield World(twin, namespace)
        return
    plane = request.getfixturevalue("control_plane")
    plane.install_crds(THINGS_CRD)
    plane.namespace(namespace)
    async with await KubeClient.open(plane.admin.kubeconfig) as client:
        yield World(client, namespace)
