"""A control plane of the chart's own: what it installs is cluster-wide, and guards are felt by all."""

import pytest

from e2e.controlplane.start import ControlPlane, Options
from tests.charts.installing import Installation


@pytest.fixture(scope="session")
def installation(tmp_path_factory):
    """Helm, and a control plane with controllers that nobody else uses. Nothing is installed."""
    options = Options(controllers=True, unsafe_no_fsync=True)
    with ControlPlane.start(tmp_path_factory.mktemp("chart-plane"), options) as plane:
        yield Installation(plane, tmp_path_factory.mktemp("helm"))
