"""What `helm test` runs, with the chart's own objects, through a real API server and a real gate."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from tests.charts.rendering import NAMESPACE, arguments, find, hook, render
from tests.operator.armed import ROOT, SYSTEM, Site, start_plane

pytestmark = [pytest.mark.cluster, pytest.mark.helm, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    plane = start_plane(tmp_path_factory.mktemp("trial") / "control-plane")
    yield plane
    plane.stop()


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    from e2e.controlplane.helm import Helm

    assert SYSTEM == NAMESPACE
    return [one for one in render(Helm.get("helm4", tmp_path_factory.mktemp("helm"))) if hook(one) == "test"]  # fmt: skip


@pytest.fixture
async def site(plane, tmp_path):
    site = Site(plane, tmp_path)
    site.gate.start()
    await site.start()
    yield site
    await site.stop()
    site.clear()


class Pod:
    """The test's pod as a process: its program, its arguments, its account."""

    def __init__(self, plane, objects):
        self.plane = plane
        self.objects = [o for o in objects if o["kind"] not in ("Pod", "DeployPolicy")]
        self.policy = find(objects, "DeployPolicy", "trailgate-test")
        (container,) = find(objects, "Pod", "trailgate-test")["spec"]["containers"]
        assert container["command"] == ["trailgate-operator-test"]
        self.arguments = container["args"]
        self.namespace = dict(arguments(container))["--namespace"]

    def apply(self, *more):
        self.plane.kubectl(self.plane.admin, "apply", "-f", "-", stdin=json.dumps(_list([*self.objects, *more])))  # fmt: skip

    def run(self, *arguments):
        account = self.plane.service_account(NAMESPACE, "trailgate-test")
        path = os.pathsep.join(str(ROOT / part) for part in ("core", "kube", "operator", "."))
        return subprocess.run(
            [sys.executable, "-m", "trailgate_operator.trial_command", *self.arguments,
             f"--kubeconfig={account.kubeconfig}", *arguments],
            env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip


def _list(objects):
    return {"apiVersion": "v1", "kind": "List", "items": objects}


@pytest.fixture
def pod(plane, objects):
    pod = Pod(plane, objects)
    pod.apply()
    return pod


async def test_one_refusal_and_one_admission_are_seen(site, pod):
    await asyncio.to_thread(pod.apply, pod.policy)
    done = await asyncio.to_thread(pod.run, "--wait=40")
    assert done.returncode == 0, done.stderr
    refused, _, admitted = done.stdout.partition("admitted: ")
    assert 'denied by DeployPolicy "trailgate-test"' in refused
    assert "DigestRequired" in refused
    assert admitted.startswith("trailgate.invalid/test@sha256:")
    left = await site.api("GET", f"/api/v1/namespaces/{pod.namespace}/pods")
    assert left["items"] == []


async def test_a_gate_that_refuses_nothing_fails_it(site, pod):
    await site.armed()
    done = await asyncio.to_thread(pod.run, "--wait=1")
    assert done.returncode == 1
    assert "let in, expected a refusal: the gate isn't armed for trailgate-test" in done.stderr


async def test_a_gate_that_refuses_everything_fails_it(site, pod):
    policy = json.loads(json.dumps(pod.policy))
    policy["spec"]["thirdParty"][0]["expiry"] = "2020-01-01T00:00:00Z"
    await asyncio.to_thread(pod.apply, policy)
    await site.enforces(pod.namespace)
    done = await asyncio.to_thread(pod.run, "--wait=5")
    assert done.returncode == 1
    assert "refused, expected it let in" in done.stderr


async def test_a_refusal_by_somebody_else_is_not_the_gates(plane, pod):
    done = await asyncio.to_thread(pod.run, "--wait=0", "--namespace=default")
    assert done.returncode == 1
    assert "a refusal that isn't the gate's" in done.stderr
