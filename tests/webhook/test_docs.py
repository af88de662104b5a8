"""The reference pages name every option, series and path there is, and none that isn't."""

import re

from e2e.demo import manifests
from tests.webhook import rights
from tests.webhook.conftest import ROOT
from trailgate_webhook.main import command
from trailgate_webhook.metrics import Metrics

REFERENCE = ROOT / "docs" / "reference"


def text(name):
    return (REFERENCE / name).read_text()


def test_every_option_is_described_and_every_described_option_is_there():
    options = {
        name
        for parameter in command.params
        for name in parameter.opts
        if name not in ("--help", "--version")
    }
    section = text("webhook.md").partition("## Options")[2].partition("\n## ")[0]
    rows = "\n".join(row.split("|")[1] for row in section.splitlines() if row.startswith("| `"))
    assert set(re.findall(r"--[a-z-]+", rows)) == options


def borrowed():
    """Series that the process takes from elsewhere."""
    source = (ROOT / "webhook/trailgate_webhook/evidence.py").read_text()
    return re.findall(r'"(evidence_[a-z_]+)":', source)


def test_every_series_is_described_and_every_described_series_is_there():
    metrics = Metrics()
    metrics.read_from(lambda: dict.fromkeys(borrowed(), 0))
    there = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        if family.name.startswith("trailgate_")
    }
    section = text("metrics.md").partition("## trailgate-webhook")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(trailgate_[a-z_]+)`", section, re.MULTILINE)
    assert set(rows) == there
    assert len(rows) == len(set(rows))


def test_the_rights_of_the_page_are_those_that_the_cluster_test_gives():
    section = text("webhook.md").partition("## Rights")[2].partition("\n## ")[0]
    found = set()
    for row in re.findall(r"^\| (`.*?) \| ([a-z, ]+).*\|$", section, re.MULTILINE):
        for resource in re.findall(r"`([a-z.]+)`", row[0]):
            found |= {(resource, verb.strip()) for verb in row[1].split(",")}
    assert found == rights.pairs()


def test_the_manifests_give_the_gate_what_it_needs_and_nothing_else():
    given = rights.expanded(
        rule
        for document in manifests.rights()
        if document["metadata"]["name"] == "trailgate-webhook"
        for rule in document.get("rules", ())
    )
    assert given == rights.pairs()
