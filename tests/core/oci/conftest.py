"""Registries to hold the contract against: the twin, and real processes on loopback."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.controlplane import ports
from e2e.controlplane.process import Process
from tests.core.oci.logins import listens
from tests.core.oci.support import Place, client_for
from trailgate.oci.memory import MemoryRegistry

_NUMBERS = itertools.count()
_KINDS = ["memory", "memory-without-referrers", "memory-unconditional"]
_REAL = ["go", "go-without-referrers", "distribution-2"]


@dataclass(frozen=True)
class _Address:
    address: str


@pytest.fixture(scope="session")
def distribution_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Address]:
    """CNCF Distribution 2.8 as Debian packages it: no referrers API, checks what it is given."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry isn't installed (Debian: apt-get install docker-registry)")
    folder = tmp_path_factory.mktemp("distribution")
    (port,) = ports.free(1)
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    process = Process.start(
        "docker-registry", [Path(program), "serve", str(config)], folder / "log"
    )
    try:
        process.wait_ready(lambda: listens(port), 20)
        yield _Address(f"127.0.0.1:{port}")
    finally:
        process.stop()


@pytest.fixture(
    params=[*_KINDS, *(pytest.param(kind, marks=pytest.mark.registry) for kind in _REAL)]
)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A registry and a repository of its own in it."""
    kind: str = request.param
    repository = f"acme/web{next(_NUMBERS)}"
    if kind.startswith("memory"):
        referrers = kind != "memory-without-referrers"
        twin = MemoryRegistry(referrers_api=referrers, conditional=kind != "memory-unconditional")
        yield Place(twin, "registry.example", repository, referrers)
        return
    name = {
        "go": "registry",
        "go-without-referrers": "registry_without_referrers",
        "distribution-2": "distribution_registry",
    }[kind]
    host = request.getfixturevalue(name).address
    async with client_for(host) as client:
        yield Place(client, host, repository, kind == "go")
