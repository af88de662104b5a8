"""The guards that the sentinel looks at are all that the chart makes."""

import pytest

from tests.charts.rendering import at, render
from trailgate_operator.sentinel_guards import GUARDS

pytestmark = pytest.mark.helm


def test_every_guard_of_the_chart_is_looked_at_and_no_other(helm):
    made = {
        (one["kind"], one["metadata"]["name"])
        for one in render(helm, at("guards.kubeSystem.action", "Deny"))
        if one["kind"].startswith("ValidatingAdmissionPolicy")
    }
    assert made == {(resource.kind, name) for resource, name in GUARDS}
