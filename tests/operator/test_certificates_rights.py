"""With exactly the rights of the page, and no other, prepare, operator and uninstall do their work."""

import re
import uuid

import pytest

from e2e.controlplane.start import Options
from tests.operator.certificates_world import World
from tests.operator.test_certificates_docs import part
from tests.operator.test_prepare import Installation
from tests.operator.test_uninstall import Installed
from trailgate_kube.client import KubeClient
from trailgate_kube.crd import definitions
from trailgate_operator.uninstall import Waits

FIVE = (
    "trailgate-gate",
    "trailgate-recorder",
    "trailgate-log",
    "trailgate-authority",
    "trailgate-webhook-tls",
)
WORDS = {
    "the five above, by name": FIVE,
    "four of the five: not `trailgate-log`": [name for name in FIVE if name != "trailgate-log"],
}


def rules(who):
    """(rules in the namespace, rules in the cluster) that the page gives somebody."""
    found = [], []
    for line in part("Rights").splitlines():
        if not line.startswith(("| operator", "| uninstall")) or who not in line.split("|")[1]:
            continue
        resource, verbs, on = (cell.strip() for cell in line.split("|")[2:5])
        plural, _, group = resource.strip("`").partition(".")
        names = WORDS.get(on) or re.findall(r"`([^`]+)`", on)
        rule = {"apiGroups": [group], "resources": [plural], "verbs": verbs.split(", ")}
        found["*cluster*" in on].append(rule | ({"resourceNames": list(names)} if names else {}))
    return found


def give(plane, user, namespace, who):
    """Bind the rights of the page to a service account."""
    rbac, name = "rbac.authorization.k8s.io", f"{who}-{uuid.uuid4().hex[:8]}"
    _, account = user.name.rsplit(":", 1)
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    for given, kind, place in zip(
        rules(who), ("Role", "ClusterRole"), ({"namespace": namespace}, {}), strict=True
    ):
        head = {"apiVersion": f"{rbac}/v1", "metadata": {"name": name, **place}}
        role = {"apiGroup": rbac, "kind": kind, "name": name}
        plane.apply(
            head | {"kind": kind, "rules": given},
            head | {"kind": f"{kind}Binding", "roleRef": role, "subjects": [subject]},
        )


async def test_prepare_and_the_certificates_need_no_more(control_plane, namespace, tmp_path):
    account = control_plane.service_account(namespace, "trailgate-operator")
    give(control_plane, account, namespace, "operator")
    async with await KubeClient.open(account.kubeconfig) as client:
        installation = Installation(client, namespace, tmp_path)
        assert await installation.prepare() == await installation.whole()
        world = World(client, namespace)
        assert await world.look() is None
        async with await KubeClient.open(control_plane.admin.kubeconfig) as admin:
            await World(admin, namespace).annotate("leaf")
        first = await world.leaf()
        assert await world.look() is None
        assert await world.leaf() != first
        assert (await world.authority())[1] == {}


@pytest.mark.timeout(120)
async def test_the_uninstall_needs_no_more(start_control_plane, tmp_path):
    plane = start_control_plane(Options(unsafe_no_fsync=True))
    plane.install_crds(*definitions())
    account = plane.service_account("trailgate-system", "trailgate-uninstall")
    give(plane, account, "trailgate-system", "uninstall")
    async with (
        await KubeClient.open(plane.admin.kubeconfig) as admin,
        await KubeClient.open(account.kubeconfig) as client,
    ):
        installed = Installed(admin, "trailgate-system")
        await installed.install(tmp_path)
        for _ in range(2):
            said = await installed.uninstall(Waits(1, 5, 5, 0.05), kube=client)
            assert "could not" not in said
            assert "made no Disarm" not in said
            assert "left Secret" not in said
            await installed.left()
