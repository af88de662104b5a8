"""Build the container images of webhook and operator, by docker or buildah."""

from e2e.images.build import BuiltImage, build

__all__ = ["BuiltImage", "build"]
