"""What builds images: docker where a daemon answers, else buildah.

Both read the same Dockerfiles and leave an OCI archive. Neither needs a registry, nor a
network once the base is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2e.controlplane.cache import Say
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.progress import run
from e2e.images import debian, tools
from e2e.images.errors import ImageError
from e2e.images.target import PROBE, Target

DEFAULT_BASE = "python:3.13-slim"
_ASK_SECONDS = 30.0
_PULL_SECONDS = 300.0
_BUILD_SECONDS = 1200.0


@dataclass(frozen=True, slots=True)
class Order:
    """One image to be built."""

    dockerfile: str
    """Relative to the context."""
    context: Path
    reference: str
    arguments: Mapping[str, str]
    """Of the build; with ``BASE_IMAGE`` and ``SOURCE_DATE_EPOCH``."""
    archive: Path
    """Where the result is put."""

    def options(self) -> list[str]:
        """What both engines are told."""
        words = ["--file", str(self.context / self.dockerfile), "--tag", self.reference]
        for name, value in sorted(self.arguments.items()):
            words += ["--build-arg", f"{name}={value}"]
        return words


class Engine(Protocol):
    """docker or buildah."""

    def base(self, wanted: str | None, say: Say) -> str:
        """Have a base ready (``None``: the best one to be had); returns how to name it."""

    def identity(self, base: str) -> str:
        """Return which tool builds on which state of the base: a tag may have moved."""

    def target(self, base: str) -> Target:
        """Ask the base's Python what it is."""

    def build(self, order: Order, say: Say) -> None:
        """Build, and write an OCI archive."""


def choose(storage: Path, say: Say) -> Engine:
    """Return docker's engine where its daemon answers, else buildah's; may install that.

    ``storage`` is a folder for what must not outlive the build. Raises ``ImageError`` where
    neither is to be had.
    """
    docker = shutil.which("docker")
    if docker is not None:
        try:
            tools.output([docker, "version", "--format", "{{.Server.Version}}"], _ASK_SECONDS)
            tools.output([docker, "buildx", "version"], _ASK_SECONDS)
        except ImageError:
            say("docker is on PATH, but no daemon answers it, or it has no buildx")
        else:
            return Docker(Path(docker))
    return Buildah.start(tools.require("buildah", "buildah", say), storage, say)


@dataclass(frozen=True, slots=True)
class Buildah:
    """buildah, in a storage of its own."""

    program: Path
    storage: Path
    driver: str

    @classmethod
    def start(cls, program: Path, storage: Path, say: Say) -> Buildah:
        """Take overlay where it works; vfs needs nothing of the kernel, but copies a lot."""
        fast = cls(program, storage, "overlay")
        try:
            tools.output(fast._words("info"), _ASK_SECONDS)
        except ImageError:
            say("no overlay file system here, so buildah copies each layer (vfs): this is slower")
            return cls(program, storage.with_name("storage-vfs"), "vfs")
        return fast

    def base(self, wanted: str | None, say: Say) -> str:
        """Pull what was asked for; without a wish, make a base of Debian's packages."""
        if wanted is not None:
            self._run(f"pulling {wanted}", ["pull", wanted], say, _PULL_SECONDS)
            return wanted
        archive, name = debian.base(say), debian.reference()
        self._run("loading the base image", ["pull", f"oci-archive:{archive}"], say, _PULL_SECONDS)
        return name

    def identity(self, base: str) -> str:
        """Return buildah's version and the base's digest."""
        words = self._words("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", base)
        version = tools.output([self.program, "--version"], _ASK_SECONDS)
        return version.strip() + tools.output(words, _ASK_SECONDS).strip()

    def target(self, base: str) -> Target:
        """Run its Python in a container that is thrown away with the storage."""
        container = tools.output(self._words("from", "--pull=never", base), _ASK_SECONDS).strip()
        command = self._words("run", "--isolation", "chroot", container, "--", "python3", "-c")
        return Target.parse(tools.output([*command, PROBE], _ASK_SECONDS))

    def build(self, order: Order, say: Say) -> None:
        """Build without a cache, layer by layer, with all times set to the source's."""
        options = [
            "build", "--format", "oci", "--isolation", "chroot", "--no-cache",
            "--pull=never", "--timestamp", order.arguments["SOURCE_DATE_EPOCH"],
        ]  # fmt: skip
        words = [*options, *order.options(), str(order.context)]
        self._run(f"building {order.reference}", words, say, _BUILD_SECONDS)
        target = f"oci-archive:{order.archive}:{order.reference}"
        words = ["push", "--quiet", order.reference, target]
        self._run(f"writing {order.reference}", words, say, _BUILD_SECONDS)

    def _words(self, *arguments: str) -> list[str]:
        storage = ["--root", str(self.storage / "root"), "--runroot", str(self.storage / "run")]
        return [str(self.program), *storage, "--storage-driver", self.driver, *arguments]

    def _run(self, what: str, arguments: Sequence[str], say: Say, seconds: float) -> None:
        _run(what, self._words(*arguments), say, seconds)


@dataclass(frozen=True, slots=True)
class Docker:
    """docker with BuildKit (23 or later)."""

    program: Path

    def base(self, wanted: str | None, say: Say) -> str:
        """Pull what was asked for; without a wish, the default, else make Debian's."""
        name = wanted or DEFAULT_BASE
        if self._has(name):
            return name
        try:
            _run(f"pulling {name}", self._words("pull", "--quiet", name), say, _PULL_SECONDS)
        except ImageError as error:
            if wanted is not None:
                raise
            say(f"{name} can't be pulled, so a base of Debian's packages stands in: {error}")
            name = debian.reference()
            if not self._has(name):
                load = self._words("load", "--quiet", "--input", str(debian.base(say)))
                _run("loading the base image", load, say, _PULL_SECONDS)
        return name

    def identity(self, base: str) -> str:
        """Return the server's version and the base's id."""
        version = tools.output(
            self._words("version", "--format", "{{.Server.Version}}"), _ASK_SECONDS
        )
        return version.strip() + tools.output(self._inspect(base), _ASK_SECONDS).strip()

    def target(self, base: str) -> Target:
        """Run its Python in a container without a network."""
        command = self._words("run", "--rm", "--network", "none", "--entrypoint", "python3", base)
        return Target.parse(tools.output([*command, "-c", PROBE], _PULL_SECONDS))

    def build(self, order: Order, say: Say) -> None:
        """Build by BuildKit; where the daemon's store can't export, save what it tagged."""
        common = ["--network", "none", "--no-cache", "--provenance=false", "--sbom=false"]
        words = ["buildx", "build", *common, *order.options(), str(order.context)]
        export = f"type=oci,dest={order.archive},rewrite-timestamp=true"
        try:
            _run(f"building {order.reference}", self._words(*words, "--output", export),
                 say, _BUILD_SECONDS)  # fmt: skip
        except ImageError as error:
            if "exporter" not in str(error):
                raise
            say("this docker has no OCI exporter, so the image is saved from its store")
            _run(f"building {order.reference}", self._words(*words), say, _BUILD_SECONDS)
            save = self._words("save", "--output", str(order.archive), order.reference)
            _run(f"writing {order.reference}", save, say, _BUILD_SECONDS)

    def _has(self, name: str) -> bool:
        try:
            tools.output(self._inspect(name), _ASK_SECONDS)
        except ImageError:
            return False
        return True

    def _inspect(self, name: str) -> list[str]:
        return self._words("image", "inspect", "--format", "{{.Id}}", name)

    def _words(self, *arguments: str) -> list[str]:
        return [str(self.program), *arguments]


def _run(what: str, command: Sequence[str], say: Say, seconds: float) -> None:
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    try:
        run(what, command, say, seconds, env=environment)
    except ControlPlaneError as error:
        raise ImageError(str(error)) from error
