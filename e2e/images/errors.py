"""What can go wrong while building images."""

from e2e.controlplane.errors import ControlPlaneError


class ImageError(ControlPlaneError):
    """An image could not be built; the text is for a person to read."""
