"""What `helm test` runs, with the chart's own objects, through a real API server and a real gate."""

import asyncio
import os
import subprocess
import sys

import pytest

from e2e.controlplane.cluster import ApiError
from e2e.controlplane.helm import Helm
from tests.charts.rendering import NAMESPACE, find, render
from tests.operator.armed import ROOT, SYSTEM, Site, start_plane, until
from trailgate_operator.sentinel_policy import body
from trailgate_operator.sentinel_probe import ADMITTED, PROBE, pod

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """With what the chart makes for it: the namespace, the account and its right."""
    objects = render(Helm.get("helm4", tmp_path_factory.mktemp("helm")))
    (container,) = find(objects, "Pod", "trailgate-test")["spec"]["containers"]
    assert container["command"] == ["trailgate-operator-test"]
    assert "args" not in container
    assert SYSTEM == NAMESPACE
    plane = start_plane(tmp_path_factory.mktemp("trial") / "control-plane")
    plane.apply(find(objects, "Namespace", PROBE))
    plane.apply(find(objects, "Role", PROBE))
    plane.apply(
        *(find(objects, kind, "trailgate-test") for kind in ("ServiceAccount", "RoleBinding"))
    )
    yield plane
    plane.stop()


@pytest.fixture
async def site(plane, tmp_path):
    site = Site(plane, tmp_path)
    site.gate.start()
    await site.start()
    yield site
    await site.stop()
    site.clear()


def ask(plane, *arguments):
    """The test's pod as a process: its program, its account."""
    account = plane.service_account(NAMESPACE, "trailgate-test")
    path = os.pathsep.join(str(ROOT / part) for part in ("core", "kube", "operator", "."))
    return subprocess.run(
        [sys.executable, "-m", "trailgate_operator.trial_command",
         f"--kubeconfig={account.kubeconfig}", *arguments],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


async def test_one_refusal_and_one_admission_are_seen(site):
    await asyncio.to_thread(site.apply, body("not-the-owner"))
    done = await asyncio.to_thread(ask, site.plane, "--wait=40")
    assert done.returncode == 0, done.stderr
    refused, _, admitted = done.stdout.partition("admission of ")
    assert 'denied by DeployPolicy "trailgate-probe"' in refused
    assert "DigestRequired" in refused
    assert admitted.startswith("trailgate.invalid/probe@sha256:")
    left = await site.api("GET", f"/api/v1/namespaces/{PROBE}/pods")
    assert left["items"] == []


async def test_a_gate_that_refuses_nothing_fails_it(site):
    await site.armed()
    done = await asyncio.to_thread(ask, site.plane, "--wait=1")
    assert done.returncode == 1
    assert (
        "refusal of trailgate.invalid/probe:refused in trailgate-probe: got allowed" in done.stderr
    )


async def test_a_gate_that_refuses_everything_fails_it(site):
    other = site.policy("everything", "Enforce", PROBE)
    await asyncio.to_thread(site.apply, body("not-the-owner"), other)

    async def refused():
        path = f"/api/v1/namespaces/{PROBE}/pods?dryRun=All"
        try:
            await site.api("POST", path, pod(ADMITTED))
        except ApiError as error:
            return other["metadata"]["name"] in str(error)
        return False

    await until(refused, 40)
    done = await asyncio.to_thread(ask, site.plane, "--wait=1")
    assert done.returncode == 1
    assert "admission of trailgate.invalid/probe@sha256" in done.stderr
    assert f'denied by DeployPolicy "{other["metadata"]["name"]}"' in done.stderr


async def test_a_refusal_by_somebody_else_is_not_the_gates(plane):
    rbac = (
        "/apis/rbac.authorization.k8s.io/v1/namespaces/trailgate-probe/rolebindings/trailgate-test"
    )
    binding = await asyncio.to_thread(plane.api, "GET", rbac)
    await asyncio.to_thread(plane.api, "DELETE", rbac)
    try:
        done = await asyncio.to_thread(ask, plane, "--wait=0")
    finally:
        del binding["metadata"]["resourceVersion"], binding["metadata"]["uid"]
        await asyncio.to_thread(plane.api, "POST", rbac.rpartition("/")[0], binding)
    assert done.returncode == 1
    assert "got no answer of the gate" in done.stderr
