"""Build the images of this checkout: the same inputs give the same digests."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane import cache
from e2e.images.archive import Archive, rewrite
from e2e.images.context import Source, stage
from e2e.images.engine import Engine, Order, choose
from e2e.images.wheels import wheels

COMPONENTS = ("webhook", "operator")
_OURS = 2
"""Layers that an image has above its base: requirements, and this checkout."""

_KEPT = 3
"""Images of a component that stay in the cache."""


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image in a file."""

    archive: Path
    """For ``ctr -n k8s.io images import``, ``kind load image-archive`` or ``docker load``."""
    reference: str
    """Such as ``localhost/trailgate-webhook:e2e``."""
    digest: str
    """Of its manifest: what a registry and ``kubectl get pod`` name it by."""
    added: int
    """Bytes that are transferred beside the base."""
    unpacked: int
    """Bytes that they take on a node."""


def build(
    out: Path,
    say: cache.Say,
    *,
    tag: str = "e2e",
    base: str | None = None,
    fresh: bool = False,
) -> dict[str, BuiltImage]:
    """Build the images of webhook and operator into ``out``, by docker or buildah.

    ``base`` names a base image to be pulled; without it the engine takes the best one to be
    had. An image of the very same inputs is taken from the cache, unless ``fresh`` asks for it
    to be built. The keys of the result are ``webhook`` and ``operator``. Raises ``ImageError``.
    """
    out.mkdir(parents=True, exist_ok=True)
    source = Source.read()
    with cache.lock(say), cache.scratch() as work:
        engine = choose(work / "storage", say)
        maker = _Maker(engine, engine.base(base, say), source, work, out.absolute(), tag)
        return {component: maker.make(component, say, fresh=fresh) for component in COMPONENTS}


@dataclass(frozen=True, slots=True)
class _Maker:
    engine: Engine
    base: str
    source: Source
    work: Path
    out: Path
    tag: str

    def make(self, component: str, say: cache.Say, *, fresh: bool) -> BuiltImage:
        order = self._order(component, say)
        name = f"trailgate-{component}"
        key, file = f"{name}-{fingerprint(order, self.engine.identity(self.base))}", f"{name}.tar"
        found = None if fresh else cache.lookup(key, file)
        if found is None:
            self.engine.build(order, say)
            rewrite(order.archive, self.work / file, order.reference)
            self._forget(name)
            found = cache.store(key, file, self.work / file)
        else:
            say(f"{order.reference} of the same inputs is in the cache")
        archive = self.out / file
        shutil.copyfile(found, archive)
        with Archive(archive) as built:
            digest, ours = built.manifest()[0], list(built.layers())[-_OURS:]
        added, unpacked = sum(x.size for x in ours), sum(x.unpacked for x in ours)
        return BuiltImage(archive, order.reference, digest, added, unpacked)

    def _order(self, component: str, say: cache.Say) -> Order:
        packages = wheels(component, self.engine.target(self.base), say)
        arguments = {
            "BASE_IMAGE": self.base,
            "SOURCE_DATE_EPOCH": str(self.source.epoch),
            "VERSION": self.source.version,
            "REVISION": self.source.revision,
        }
        return Order(
            dockerfile=f"images/{component}/Dockerfile",
            context=stage(packages, self.work / component),
            reference=f"localhost/trailgate-{component}:{self.tag}",
            arguments=arguments,
            archive=self.work / f"{component}-raw.tar",
        )

    @staticmethod
    def _forget(name: str) -> None:
        """Keep the newest images of a component: each commit makes others."""
        kept = sorted(
            (cache.root() / "bin").glob(f"{name}-*"), key=lambda path: path.stat().st_mtime
        )
        for old in kept[: -_KEPT + 1]:
            shutil.rmtree(old, ignore_errors=True)


def fingerprint(order: Order, base: str) -> str:
    """Everything that an image is made from, in 16 hexadecimal digits."""
    digest = hashlib.sha256(repr((base, order.reference, sorted(order.arguments.items()))).encode())
    for path in sorted(order.context.rglob("*")):
        if path.is_file():
            name, mode = path.relative_to(order.context), path.stat().st_mode
            digest.update(f"\0{name}\0{mode:o}\0{cache.checksum(path)}".encode())
    return digest.hexdigest()[:16]
