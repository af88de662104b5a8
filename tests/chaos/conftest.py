"""A control plane for the tests that kill things, a signed image, and stages on it."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from e2e.controlplane.start import ControlPlane, Options
from e2e.demo.pipeline import trailgate
from tests.chaos.stage import Stage
from trailgate.model.image import ImageReference
from trailgate_kube.crd import definitions


@pytest.fixture(scope="session")
def chaos_plane(tmp_path_factory):
    """A control plane of our own, with an audit log: its API server is killed, too."""
    directory = tmp_path_factory.mktemp("chaos-plane")
    with ControlPlane.start(directory, Options(audit=True, unsafe_no_fsync=True)) as plane:
        plane.install_crds(*definitions())
        yield plane


@pytest.fixture(scope="session")
def signed(tmp_path_factory, registry):
    """(image with digest, public key): pushed and signed once."""
    directory = tmp_path_factory.mktemp("signed")
    (directory / "app.py").write_text("print('hello')\n")
    return asyncio.run(_push(registry.address, directory))


async def _push(address, directory):
    from e2e.demo.image import push
    from trailgate.oci.client import RegistryClient
    from trailgate.oci.guard import Guard

    reference = ImageReference.parse(f"{address}/chaos/web:v1")
    guard = Guard(lambda: {address}, insecure=frozenset({address}))
    async with RegistryClient(guard) as client:
        image = str(reference.with_digest(await push(client, reference, directory, "v1")))
    key = directory / "release"
    await asyncio.to_thread(trailgate, "key", "generate", "--out", key, passphrase="chaos only")
    await asyncio.to_thread(
        trailgate, "sign", "--key", key.with_suffix(".key"), "--allow-insecure-registry", address,
        image, passphrase="chaos only",
    )  # fmt: skip
    return image, key.with_suffix(".pub").read_text()


@pytest.fixture
async def stage(chaos_plane, signed, tmp_path):
    async with Stage(chaos_plane, *signed, tmp_path / "stage") as made:
        yield made


@pytest.fixture
async def stage_with_controllers(control_plane_with_controllers, signed, tmp_path):
    plane = control_plane_with_controllers
    await asyncio.to_thread(plane.install_crds, *definitions())
    async with Stage(plane, *signed, tmp_path / "stage") as made:
        yield made


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB, in memory."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount a small file system: {done.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)
