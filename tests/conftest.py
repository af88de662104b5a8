"""What every test may ask for: the real parts of e2e/controlplane and e2e/cluster."""

from hypothesis import HealthCheck, settings

from e2e.cluster.fixtures import node_cluster
from e2e.controlplane.fixtures import (
    control_plane,
    control_plane_with_controllers,
    cosign,
    helm,
    namespace,
    pytest_collection_finish,
    pytest_collection_modifyitems,
    registry,
    registry_without_referrers,
    start_control_plane,
)

# How fast a shared machine is just now says nothing about the code.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

__all__ = [
    "control_plane",
    "control_plane_with_controllers",
    "cosign",
    "helm",
    "namespace",
    "node_cluster",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "registry",
    "registry_without_referrers",
    "start_control_plane",
]
