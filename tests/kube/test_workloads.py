"""What is watched, what the API server asks about, and the rights: the kinds of one table."""

from pathlib import Path

import pytest
import yaml

from trailgate.model.workload import WORKLOADS
from trailgate_kube import resources

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "install"
PLURALS = {(one.kind.group, one.plural) for one in WORKLOADS}


def test_the_resources_are_those_of_the_table():
    assert {(one.group, one.version, one.plural, one.kind) for one in resources.WORKLOADS} == {
        (one.kind.group, one.version, one.plural, one.kind.kind) for one in WORKLOADS
    }
    assert all(one.namespaced for one in resources.WORKLOADS)


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_the_configuration_on_the_page_asks_about_all_of_them(operation):
    (configuration,) = [
        one
        for one in yaml.safe_load_all((HOW_TO / "webhook.yaml").read_text())
        if one["kind"] == "ValidatingWebhookConfiguration"
    ]
    asked = {
        (group, resource)
        for webhook in configuration["webhooks"]
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
