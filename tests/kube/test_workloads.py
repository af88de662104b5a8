"""What is watched, what the API server asks about, and the rights: the kinds of one table."""

import pytest

from trailgate.model.workload import WORKLOADS
from trailgate_kube import resources
from trailgate_kube.webhooks import DELETE, ENFORCE, OBSERVE, Address, FailClosed, configuration

PLURALS = {(one.kind.group, one.plural) for one in WORKLOADS}


def test_the_resources_are_those_of_the_table():
    assert {(one.group, one.version, one.plural, one.kind) for one in resources.WORKLOADS} == {
        (one.kind.group, one.version, one.plural, one.kind.kind) for one in WORKLOADS
    }
    assert all(one.namespaced for one in resources.WORKLOADS)


@pytest.mark.parametrize(
    ("entry", "operation"),
    [(ENFORCE, "CREATE"), (ENFORCE, "UPDATE"), (OBSERVE, "CREATE"), (OBSERVE, "UPDATE"),
     (DELETE, "DELETE")],
)  # fmt: skip
def test_the_configuration_asks_about_all_of_them(entry, operation):
    built = configuration(Address(), b"PEM", FailClosed.of(["shop"]), "uid")
    asked = {
        (group, resource)
        for webhook in built["webhooks"]
        if webhook["name"] == entry
        for rule in webhook["rules"]
        if operation in rule["operations"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert asked >= PLURALS
    if operation == "UPDATE":
        scaled = {(one.kind.group, f"{one.plural}/scale") for one in WORKLOADS if one.scaled}
        assert asked >= scaled
        names = {name for _, name in asked if name.endswith("/scale")}
        assert names == {name for _, name in scaled}
