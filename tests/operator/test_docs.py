"""The reference pages name every option, series, path and right there is, and none that isn't."""

import re

import yaml

from tests.operator import rights
from tests.webhook.conftest import ROOT
from trailgate_kube.resources import SYSTEM_NAMESPACE
from trailgate_kube.webhooks import ARMING_ROLE
from trailgate_operator import probes
from trailgate_operator.main import command
from trailgate_operator.metrics import Metrics
from trailgate_operator.sentinel_probe import PROBE

REFERENCE = ROOT / "docs" / "reference"


def section(page, heading):
    text = (REFERENCE / page).read_text()
    assert text.count(f"\n## {heading}\n") == 1
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def cells(text, column):
    rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in text.splitlines() if row.startswith("| `")]
    return [row[column].strip() for row in rows]


def test_every_option_is_described_and_every_described_option_is_there():
    options = {
        name
        for parameter in command.params
        for name in parameter.opts
        if name not in ("--help", "--version")
    }
    described = re.findall(r"--[a-z-]+", "\n".join(cells(section("operator.md", "Options"), 0)))
    assert sorted(described) == sorted(options)


def test_what_is_required_and_what_the_defaults_are():
    text = section("operator.md", "Options")
    parameters = {parameter.opts[0]: parameter for parameter in command.params}
    for names, default in zip(cells(text, 0), cells(text, 1), strict=True):
        for name in re.findall(r"--[a-z-]+", names):
            parameter = parameters[name]
            assert (default == "required") == parameter.required, name
            if default.startswith("`"):
                assert default == f"`{parameter.default}`", name


def test_every_series_is_described_and_every_described_series_is_there():
    there = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in Metrics().registry.collect()
        if family.name.startswith("trailgate_")
    }
    text = section("metrics.md", "trailgate-operator")
    names = [cell.strip("`") for cell in cells(text, 0)]
    assert len(names) == len(set(names))
    assert dict(zip(names, cells(text, 1), strict=True)) == there
    assert set(re.findall(r"trailgate_[a-z_]+", text.partition("Worth an alert")[2])) <= set(names)


def test_the_labels_on_the_page_are_those_of_the_series():
    metrics = Metrics()
    text = section("metrics.md", "trailgate-operator")
    for name, labels in zip(cells(text, 0), cells(text, 2), strict=True):
        collector = metrics.registry._names_to_collectors[name.strip("`")]
        described = re.findall(r"`([a-z]+)`(?=:|$)", labels)
        assert tuple(described) == collector._labelnames, name


def test_every_path_is_described():
    routes = probes.application(probes.Health(), Metrics()).router.resources()
    described = [cell.strip("`") for cell in cells(section("operator.md", "Paths"), 0)]
    assert sorted(described) == sorted(route.canonical for route in routes)


def bound(objects):
    """What the operator's account may: {(role, namespace, resource, name, verb)}."""
    found, roles = set(), {}
    for one in objects:
        place = one["metadata"].get("namespace")
        if one["kind"] in ("Role", "ClusterRole"):
            roles[one["kind"], place, one["metadata"]["name"]] = one["rules"]
        elif one["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            if one["subjects"][0]["name"] != "trailgate-operator":
                continue
            role = one["roleRef"]["kind"], place, one["roleRef"]["name"]
            found |= {
                (role[2], place, f"{resource}.{group}".rstrip("."), name, verb)
                for rule in roles[role]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", [None])
                for verb in rule["verbs"]
            }
    return found


def by_hand():
    return list(yaml.safe_load_all((ROOT / "docs/how-to/install/rights.yaml").read_text()))


def test_the_manifests_give_what_its_tests_live_on_and_nothing_else():
    tested = list(rights.manifests("trailgate-operator", SYSTEM_NAMESPACE))
    assert bound(by_hand()) == bound(tested)
    assert {role for role, *_ in bound(by_hand())} == {
        "trailgate-operator", ARMING_ROLE, PROBE,
    }  # fmt: skip


def test_the_recorders_rights_of_the_page_are_among_those_of_the_manifests():
    given = {}
    for _, place, resource, name, verb in bound(by_hand()):
        given.setdefault((resource, (place, (name,) if name else ())), set()).add(verb)
    text = section("operator.md", "Rights")
    verbs = r"\b(?:create|list|watch|get|update|patch|delete)\b"
    described = {
        re.match(r"`([a-z.]+)`", resource)[1]: set(re.findall(verbs, said))
        for resource, said in zip(cells(text, 0), cells(text, 1), strict=True)
    }
    assert described == {
        "admissions.trailgate.dev": given["admissions.trailgate.dev", (SYSTEM_NAMESPACE, ())],
        "namespaces": given["namespaces", (None, ("kube-system",))],
    }


def test_the_rights_of_arming_are_those_that_its_tests_live_on():
    wanted = {
        (f"{rule['resources'][0]}.{rule['apiGroups'][0]}".rstrip("."), frozenset(rule["verbs"]),
         tuple(rule.get("resourceNames", ())))
        for rule in (*rights.CLUSTER, *rights.ARMING, *rights.OURS, *rights.PROBING)
    }  # fmt: skip
    text = section("operator.md", "More rights with `--arm`")
    described = set()
    for resource, verbs, where in zip(*(cells(text, column) for column in range(3)), strict=True):
        only = re.search(r"((?:`[a-z.-]+`(?:, )?)+) alone", where)
        names = tuple(re.findall(r"`([a-z.-]+)`", only[1])) if only else ()
        described.add((resource.strip("`"), frozenset(verbs.split(", ")), names))
    recorder = {one for one in wanted if one[0] in ("namespaces", "admissions.trailgate.dev")}
    assert described == wanted - recorder
