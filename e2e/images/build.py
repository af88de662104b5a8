"""Build the images of this checkout: the same inputs give the same digests."""

from __future__ import annotations

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
    out: Path, say: cache.Say, *, tag: str = "e2e", base: str | None = None
) -> dict[str, BuiltImage]:
    """Build the images of webhook and operator into ``out``, by docker or buildah.

    ``base`` names a base image to be pulled; without it the engine takes the best one to be
    had. The keys of the result are ``webhook`` and ``operator``. Raises ``ImageError``.
    """
    out.mkdir(parents=True, exist_ok=True)
    source = Source.read()
    with cache.lock(say), cache.scratch() as work:
        engine = choose(work / "storage", say)
        name = engine.base(base, say)
        maker = _Maker(engine, name, source, work, out.absolute(), tag)
        return {component: maker.make(component, say) for component in COMPONENTS}


@dataclass(frozen=True, slots=True)
class _Maker:
    engine: Engine
    base: str
    source: Source
    work: Path
    out: Path
    tag: str

    def make(self, component: str, say: cache.Say) -> BuiltImage:
        packages = wheels(component, self.engine.target(self.base), say)
        context = stage(packages, self.work / component)
        name = f"trailgate-{component}"
        arguments = {
            "BASE_IMAGE": self.base,
            "SOURCE_DATE_EPOCH": str(self.source.epoch),
            "VERSION": self.source.version,
            "REVISION": self.source.revision,
        }
        reference = f"localhost/{name}:{self.tag}"
        raw = self.work / f"{name}.tar"
        dockerfile = f"images/{component}/Dockerfile"
        self.engine.build(Order(dockerfile, context, reference, arguments, raw), say)
        archive = self.out / f"{name}.tar"
        digest = rewrite(raw, archive, reference)
        with Archive(archive) as built:
            ours = list(built.layers())[-_OURS:]
        added, unpacked = sum(x.size for x in ours), sum(x.unpacked for x in ours)
        return BuiltImage(archive, reference, digest, added, unpacked)
