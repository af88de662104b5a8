"""The pytest fixture for a cluster whose pods run; ``tests/conftest.py`` brings it in.

Tests of the cluster itself carry the marker ``node``: left out of ``make test``, run by
``make e2e-parts``. The stories (``make e2e``) ask for it without one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster import provider


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[provider.Cluster]:
    """Yield the one cluster of this run. Keep to namespaces of your own."""
    with provider.cluster() as cluster:
        yield cluster
