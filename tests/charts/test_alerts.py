"""Each alert is about series that there are, and has a page that says what to do."""

import re
from pathlib import Path

import pytest
import yaml

from e2e.controlplane.helm import CHART
from tests.charts.rendering import MONITORING, at, find, render

ROOT = Path(__file__).parents[2]
ALERTS = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["alerts"]
PAGE = (ROOT / "docs/how-to/alerts.md").read_text()
SERIES = (ROOT / "docs/reference/metrics.md").read_text()


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_its_series_are_described_and_its_label_values_are_there(alert):
    names = re.findall(r"trailgate_[a-z_]+", alert["expr"])
    assert names
    for name in names:
        (row,) = re.findall(rf"^\| `{name}` .*$", SERIES, re.MULTILINE)
        for label, _ in re.findall(r'(\w+)="(\w+)"', alert["expr"]):
            assert f"`{label}`" in row


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_it_has_a_heading_that_says_what_to_do(alert):
    section = PAGE.partition(f"\n## {alert['alert']}\n")[2].partition("\n## ")[0]
    assert len(section.split()) > 10
    assert alert["severity"] in ("warning", "critical")
    assert len(alert["summary"]) < 100


def test_the_page_has_no_other_alert():
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == [one["alert"] for one in ALERTS]


def test_each_rule_links_to_its_heading(helm):
    rules = find(render(helm, MONITORING), "PrometheusRule", "trailgate")["spec"]["groups"][0][
        "rules"
    ]
    assert [rule["alert"] for rule in rules] == [one["alert"] for one in ALERTS]
    for rule, alert in zip(rules, ALERTS, strict=True):
        assert rule["expr"] == alert["expr"]
        assert (
            rule["annotations"]["runbook_url"]
            == f"https://docs.example/alerts#{alert['alert'].lower()}"
        )
    values = at("metrics.prometheusRule.enabled", True)
    rule = find(render(helm, values), "PrometheusRule", "trailgate")["spec"]["groups"][0]["rules"][
        0
    ]
    assert rule["annotations"]["runbook_url"] == "docs/how-to/alerts.md#trailgateunarmed"


def test_what_is_scraped_is_there(helm):
    objects = render(helm, MONITORING)
    monitor = find(objects, "ServiceMonitor", "trailgate")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    wanted = monitor["spec"]["selector"]["matchLabels"]
    chosen = [
        o
        for o in objects
        if o["kind"] == "Service" and wanted.items() <= o["metadata"]["labels"].items()
    ]
    assert {one["metadata"]["name"] for one in chosen} == {"trailgate-webhook-metrics", "trailgate-operator-metrics"}  # fmt: skip
    for one in chosen:
        assert one["spec"]["clusterIP"] == "None"
        (port,) = one["spec"]["ports"]
        assert port["name"] == monitor["spec"]["endpoints"][0]["port"]
