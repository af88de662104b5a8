"""pytest fixtures for real parts; ``tests/conftest.py`` brings them into every test.

A test that asks for one of them gets its marker by itself, so ``-m "not cluster"``
and the like can't be wrong. Programs are built before the first test runs, outside
the tests' own time-outs. Under xdist all workers share one control plane.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.controlplane import shared
from e2e.controlplane.binaries import CONTROL_PLANE, ensure
from e2e.controlplane.cluster import Cluster
from e2e.controlplane.cosign import Cosign
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.helm import MAJORS, Helm
from e2e.controlplane.progress import to_stderr
from e2e.controlplane.registry import RegistryProcess
from e2e.controlplane.start import ControlPlane, Options

_CONTROLLERS = (*CONTROL_PLANE, "kube-controller-manager")
_NEEDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "control_plane": ("cluster", CONTROL_PLANE),
    "control_plane_with_controllers": ("cluster", _CONTROLLERS),
    "start_control_plane": ("cluster", CONTROL_PLANE),
    "registry": ("registry", ("registry",)),
    "registry_without_referrers": ("registry", ("registry",)),
    "cosign": ("cosign", ("cosign",)),
    "helm": ("helm", MAJORS),
}

_NEEDS_BY_MARKER = {"cluster": CONTROL_PLANE, "registry": ("registry",), "cosign": ("cosign",)}

StartControlPlane = Callable[[Options], ControlPlane]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the real parts that it asks for."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in _NEEDS:
                item.add_marker(_NEEDS[fixture][0])


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the chosen tests need, before any of them starts its clock."""
    if session.config.option.collectonly:
        return
    wanted: set[str] = set()
    for item in session.items:
        for fixture in getattr(item, "fixturenames", ()):
            wanted.update(_NEEDS.get(fixture, ("", ()))[1])
        for marker in item.iter_markers():  # for those that ask by request.getfixturevalue
            wanted.update(_NEEDS_BY_MARKER.get(marker.name, ()))
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        try:
            ensure(sorted(wanted))
        except ControlPlaneError as error:  # those that need it fail, and say why
            to_stderr(str(error))


def _shared(factory: pytest.TempPathFactory, name: str, *, controllers: bool) -> Iterator[Cluster]:
    base = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        owner = os.getppid()  # the process that started the workers
        yield shared.attach_or_serve(base.parent / name, owner, controllers=controllers)
        return
    options = Options(controllers=controllers, unsafe_no_fsync=True)
    with ControlPlane.start(base / name, options) as plane:
        yield plane


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield the shared API server, without controllers. Keep to a namespace of your own."""
    yield from _shared(tmp_path_factory, "control-plane", controllers=False)


@pytest.fixture(scope="session")
def control_plane_with_controllers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """Yield the shared API server with kube-controller-manager beside it."""
    yield from _shared(tmp_path_factory, "control-plane-controllers", controllers=True)


@pytest.fixture
def start_control_plane(tmp_path: Path) -> Iterator[StartControlPlane]:
    """Yield a function that starts one for this test alone: to be killed and restarted."""
    started: list[ControlPlane] = []

    def start(options: Options) -> ControlPlane:
        plane = ControlPlane.start(tmp_path / f"control-plane-{len(started)}", options)
        started.append(plane)
        return plane

    yield start
    for plane in started:
        plane.stop()


@pytest.fixture
def namespace(control_plane: Cluster) -> str:
    """Return a fresh namespace of the shared control plane."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    control_plane.namespace(name)
    return name


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """Yield a registry with the referrers API. Use a repository of your own."""
    with RegistryProcess.start(tmp_path_factory.mktemp("registry"), referrers=True) as process:
        yield process


@pytest.fixture(scope="session")
def registry_without_referrers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RegistryProcess]:
    """Yield a registry without the referrers API. Use a repository of your own."""
    with RegistryProcess.start(tmp_path_factory.mktemp("registry"), referrers=False) as process:
        yield process


@pytest.fixture(scope="session")
def cosign(tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    """Return the real cosign, offline."""
    return Cosign.get(tmp_path_factory.mktemp("cosign"))


@pytest.fixture(scope="session", params=MAJORS)
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return the real Helm, once of each major version."""
    return Helm.get(request.param, tmp_path_factory.mktemp(request.param))
