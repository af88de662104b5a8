"""What every test may ask for: the real parts of e2e/controlplane."""

from e2e.controlplane.fixtures import (
    control_plane,
    control_plane_with_controllers,
    cosign,
    namespace,
    pytest_collection_finish,
    pytest_collection_modifyitems,
    registry,
    registry_without_referrers,
    start_control_plane,
)

__all__ = [
    "control_plane",
    "control_plane_with_controllers",
    "cosign",
    "namespace",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "registry",
    "registry_without_referrers",
    "start_control_plane",
]
