"""The images of this checkout, built once. Left out unless asked for: they take minutes.

``make e2e-parts`` and ``pytest -m images`` ask for them; a test that uses them is marked by itself.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.images import BuiltImage, build
from e2e.images.__main__ import _say
from e2e.images.inside import USER, Unpacked

_BUILD_SECONDS = 1500


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if "images" in getattr(item, "fixturenames", ()):
            item.add_marker("images")
            item.add_marker("slow")
            item.add_marker(pytest.mark.timeout(_BUILD_SECONDS))
    if "images" in config.option.markexpr:
        return
    heavy = [item for item in items if item.get_closest_marker("images")]
    items[:] = [item for item in items if not item.get_closest_marker("images")]
    config.hook.pytest_deselected(items=heavy)


@dataclass(frozen=True)
class Image:
    """An image, and its file system, which a strict pod's process is run in."""

    name: str
    built: BuiltImage
    unpacked: Unpacked
    mounted: Path

    @property
    def site(self):
        (site,) = self.unpacked.rootfs.glob("opt/trailgate/lib/python3*/site-packages")
        return site

    def words(self, *arguments):
        return self.unpacked.command(self.mounted, *map(str, arguments))

    def run(self, *arguments):
        """Run to the end in a pod's place; returns what came of it."""
        return subprocess.run(
            self.words(*arguments),
            env=self.unpacked.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    out = tmp_path_factory.mktemp("images")
    found = {}
    for name, built in build(out, _say).items():
        mounted = out / f"{name}-mounted"
        mounted.mkdir()
        unpacked = Unpacked.of(built.archive, out / name)
        found[name] = Image(name, built, unpacked, mounted)
    return found


@pytest.fixture(params=["webhook", "operator"])
def image(request, images):
    return images[request.param]


@pytest.fixture
def owned():
    """Give a folder to the user that the images run as."""

    def give(folder):
        subprocess.run(["chown", "-R", f"{USER}:{USER}", folder], check=True)
        return folder

    return give
