"""A service account that asks the API server for cheap things, as often as it is let."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from e2e.cluster.provider import Cluster
from trailgate.model.errors import TrailgateError
from trailgate_kube.client import KubeClient

_CALLERS = 64
_NAMESPACE = "crowd"
_PATH = f"/api/v1/namespaces/{_NAMESPACE}/configmaps"


@dataclass
class Asked:
    """What came of it."""

    answered: int = 0
    """Requests that got an answer, whichever."""


@contextmanager
def crowd(cluster: Cluster, directory: Path) -> Iterator[Asked]:
    """Ask beside the block."""
    cluster.kubectl("create", "namespace", _NAMESPACE)
    over, asked = threading.Event(), Asked()
    try:
        kubeconfig = _account(cluster, directory)
        thread = threading.Thread(target=lambda: asyncio.run(_press(kubeconfig, over, asked)))
        thread.start()
        try:
            yield asked
        finally:
            over.set()
            thread.join()
    finally:
        cluster.kubectl("delete", "namespace", _NAMESPACE, "--wait=false")


def _account(cluster: Cluster, directory: Path) -> Path:
    """Write a kubeconfig of an account that may look at its own namespace."""
    for words in (
        ("create", "serviceaccount", "crowd"),
        ("create", "rolebinding", "crowd", "--clusterrole=view",
         f"--serviceaccount={_NAMESPACE}:crowd"),
    ):  # fmt: skip
        cluster.kubectl(*words, "-n", _NAMESPACE)
    token = cluster.kubectl("create", "token", "crowd", "-n", _NAMESPACE).stdout.strip()
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": "crowd", "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = "crowd"
    file = directory / "crowd.kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
    return file


async def _press(kubeconfig: Path, over: threading.Event, asked: Asked) -> None:
    async with await KubeClient.open(kubeconfig) as kube, asyncio.TaskGroup() as group:
        for _ in range(_CALLERS):
            group.create_task(_ask(kube, over, asked))


async def _ask(kube: KubeClient, over: threading.Event, asked: Asked) -> None:
    while not over.is_set():
        try:
            await kube.raw("GET", _PATH)
            asked.answered += 1
        except TrailgateError:  # turned away for now
            await asyncio.sleep(0.05)
