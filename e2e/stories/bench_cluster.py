"""Measured on a cluster whose pods run: what the gate costs, through the API server.

Not collected by `make e2e`: `make bench-cluster` runs it. It prints figures, and only a
request that failed fails it.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.provider import Cluster
from e2e.demo import manifests
from e2e.stories.installation import NAMESPACE
from e2e.stories.say import say
from e2e.stories.shop import deployment
from e2e.stories.stand import Stand
from trailgate_kube.client import KubeClient
from trailgate_kube.resources import WORKLOADS

_DEPLOYMENTS = next(one for one in WORKLOADS if one.kind == "Deployment")
_FREE = "free"
_SECONDS = 10.0
_IDLE_SECONDS = 30.0
_CALLERS = (1, 16)


@dataclass(frozen=True)
class Usage:
    """Of our containers, as the kubelet counts it."""

    cpu: dict[str, float]
    """Seconds since each pod's start."""
    memory: dict[str, float]
    """MiB of the working set."""


@pytest.fixture(scope="module")
def free(stand: Stand) -> Iterator[str]:
    """A namespace that the gate is asked about and no policy covers."""
    for words in (
        ("create", "namespace", _FREE),
        ("create", "rolebinding", "deployer", "-n", _FREE, "--clusterrole=edit",
         f"--serviceaccount={manifests.CI}:{manifests.DEPLOYER}"),
    ):  # fmt: skip
        stand.cluster.kubectl(*words)
    yield _FREE
    stand.cluster.kubectl("delete", "namespace", _FREE, "--timeout=90s")


def test_what_it_needs_when_nothing_happens(stand: Stand) -> None:
    before, began = _usage(stand.cluster), time.monotonic()
    time.sleep(_IDLE_SECONDS)
    _tell("idle", before, _usage(stand.cluster), time.monotonic() - began)


@pytest.mark.parametrize("callers", _CALLERS)
def test_dry_runs(stand: Stand, free: str, callers: int) -> None:
    """Decided, not recorded: enforced with warm evidence, not covered, and without a gate."""
    enforced = deployment(stand.good, name="measured", replicas=0)
    open_ = _in(deployment(stand.good, name="measured", replicas=0), free)

    def dry(made: dict[str, Any]) -> Callable[[KubeClient, int], Awaitable[object]]:
        namespace = made["metadata"]["namespace"]
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"

        async def ask(kube: KubeClient, number: int) -> object:
            body = {**made, "metadata": {**made["metadata"], "name": f"measured-{number}"}}
            return await kube.raw("POST", path, body, query={"dryRun": "All"})

        return ask

    _measure(stand, f"dry run, enforced, {callers} callers", dry(enforced), callers)
    _measure(stand, f"dry run, no policy, {callers} callers", dry(open_), callers)
    with _disarmed(stand):
        _measure(stand, f"dry run, no gate, {callers} callers", dry(enforced), callers)


@pytest.mark.parametrize("callers", _CALLERS)
def test_recorded_changes(stand: Stand, callers: int) -> None:
    """Real changes, each with its evidence written before the answer."""
    names = [f"recorded-{number}" for number in range(callers)]
    for name in names:
        stand.deployer.apply(deployment(stand.good, name=name, replicas=0))

    def change() -> Callable[[KubeClient, int], Awaitable[object]]:
        async def ask(kube: KubeClient, number: int) -> object:
            name = names[number % callers]
            path = f"/apis/apps/v1/namespaces/{manifests.SHOP}/deployments/{name}"
            made = deployment(stand.good, name=name, replicas=0, env={"N": str(time.time_ns())})
            return await kube.raw("PUT", path, made)

        return ask

    _measure(stand, f"recorded change, {callers} callers", change(), callers)
    stand.release.wait_until_recorded(180)
    with _disarmed(stand):
        _measure(stand, f"the same without a gate, {callers} callers", change(), callers)
    stand.deployer.kubectl("delete", "deployment", "-n", manifests.SHOP, *names)


class _disarmed:  # noqa: N801 - used as a with-statement's word
    """No gate within the block."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand

    def __enter__(self) -> None:
        self._stand.disarm("measuring without the gate")

    def __exit__(self, *_: object) -> None:
        self._stand.arm()


def _in(made: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {**made, "metadata": {**made["metadata"], "namespace": namespace}}


def _measure(
    stand: Stand, what: str, ask: Callable[[KubeClient, int], Awaitable[object]], callers: int
) -> None:
    before, began = _usage(stand.cluster), time.monotonic()
    took = sorted(asyncio.run(_load(stand.deployer.kubeconfig, ask, callers)))
    seconds = time.monotonic() - began
    p50, p99 = statistics.median(took), took[min(len(took) - 1, int(len(took) * 0.99))]
    say(
        f"{what}: {len(took) / seconds:.0f}/s, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms "
        f"({len(took)} requests)"
    )
    _tell(f"  during it ({what})", before, _usage(stand.cluster), seconds)


async def _load(
    kubeconfig: Path, ask: Callable[[KubeClient, int], Awaitable[object]], callers: int
) -> list[float]:
    took: list[float] = []
    async with await KubeClient.open(kubeconfig) as kube:
        for number in range(callers):  # connections, and warm evidence
            await ask(kube, number)
        end = time.monotonic() + _SECONDS

        async def call(number: int) -> None:
            while time.monotonic() < end:
                started = time.monotonic()
                await ask(kube, number)
                took.append(time.monotonic() - started)

        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(call(number))
    return took


def _usage(cluster: Cluster) -> Usage:
    (node, *_) = cluster.kubectl("get", "nodes", "-o", "name").stdout.split()
    name = node.partition("/")[2]
    summary = json.loads(
        cluster.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/stats/summary").stdout
    )
    cpu: dict[str, float] = {}
    memory: dict[str, float] = {}
    for pod in summary["pods"]:
        if pod["podRef"]["namespace"] != NAMESPACE:
            continue
        for container in pod["containers"]:
            label = f"{container['name']} {pod['podRef']['name'][-5:]}"
            cpu[label] = container["cpu"]["usageCoreNanoSeconds"] / 1e9
            memory[label] = container["memory"]["workingSetBytes"] / (1 << 20)
    return Usage(cpu, memory)


def _tell(what: str, before: Usage, after: Usage, seconds: float) -> None:
    """Tell each container's part of a core, and its memory.

    The kubelet counts every 10 to 20 s: over a shorter time the CPU is only roughly so.
    """
    parts = [
        f"{name} {(after.cpu[name] - before.cpu.get(name, 0.0)) / seconds * 1000:.0f} mCPU "
        f"{after.memory[name]:.0f} MiB"
        for name in sorted(after.cpu)
    ]
    say(f"{what}: {'; '.join(parts)}")
