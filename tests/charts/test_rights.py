"""The chart's rights are those of docs/how-to/install/rights.yaml, each with its reason."""

import re
from pathlib import Path

import yaml

from tests.charts.rendering import (
    NAMESPACE,
    at,
    find,
    hook,
    render,
    rules_without_a_reason,
    templates,
)
from tests.operator import rights as operator_rights
from tests.webhook import rights
from trailgate_operator.certificates_state import AUTHORITY, SERVING
from trailgate_operator.keyring import GATE, LOG, RECORDER

ROOT = Path(__file__).parents[2]
#: What prepare and the certificates' loop do; the names are theirs.
KEYS = {(NAMESPACE, "secrets", None, "create")} | {
    (NAMESPACE, "secrets", name, verb)
    for name in (AUTHORITY, SERVING, GATE, RECORDER, LOG)
    for verb in ("get", "update")
}
BY_HAND = list(yaml.safe_load_all((ROOT / "docs/how-to/install/rights.yaml").read_text()))


def granted(objects, account):
    """What an account may: {(namespace or None, resource, name or None, verb)}."""
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one["rules"]
        for one in objects
        if one["kind"] in ("Role", "ClusterRole")
    }
    found = set()
    for one in objects:
        if one["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        if account not in [subject["name"] for subject in one["subjects"]]:
            continue
        place = one["metadata"].get("namespace")
        kind, name = one["roleRef"]["kind"], one["roleRef"]["name"]
        for rule in roles[kind, place if kind == "Role" else None, name]:
            found |= {
                (place, f"{resource}.{group}".rstrip("."), name, verb)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", [None])
                for verb in rule["verbs"]
            }
    return found


def test_every_rule_has_its_reason():
    found = {path.name: rules_without_a_reason(path.read_text()) for path in templates()}
    assert {name: rules for name, rules in found.items() if rules} == {}
    assert rules_without_a_reason('rules:\n  - apiGroups: [""]\n') == [(2, '  - apiGroups: [""]')]


def test_the_gate_has_the_rights_of_the_page_and_no_more(helm):
    assert granted(render(helm), "trailgate-webhook") == granted(BY_HAND, "trailgate-webhook")
    pairs = {
        (resource, verb) for _, resource, _, verb in granted(render(helm), "trailgate-webhook")
    }
    assert pairs == rights.pairs()


def test_the_operator_has_the_rights_that_its_tests_live_on_and_its_keys(helm):
    given = granted(render(helm), "trailgate-operator")
    tested = granted(list(operator_rights.manifests("trailgate-operator", NAMESPACE)), "trailgate-operator")  # fmt: skip
    assert given >= granted(BY_HAND, "trailgate-operator")
    assert given == tested | KEYS


def test_no_account_has_a_wildcard_or_reads_secrets_of_the_cluster(helm):
    objects = render(helm)
    for account in ("webhook", "operator", "uninstall", "test"):
        for place, resource, name, verb in granted(objects, f"trailgate-{account}"):
            assert "*" not in (resource, verb)
            if resource == "secrets":
                assert place == NAMESPACE
                assert name is not None or verb == "create"
            assert verb not in ("escalate", "bind", "impersonate", "patch", "deletecollection")
            assert resource not in ("serviceaccounts/token", "pods/exec")


def test_webhook_configurations_are_written_by_name(helm):
    for account in ("operator", "uninstall"):
        mine = {
            (name, verb)
            for _, resource, name, verb in granted(render(helm), f"trailgate-{account}")
            if resource == "validatingwebhookconfigurations.admissionregistration.k8s.io"
        }
        assert mine
        assert {verb for name, verb in mine if name is None} <= {"create"}
        assert {name for name, _ in mine} <= {"trailgate", None}


def test_pull_secrets_are_read_each_by_name(helm):
    secrets = [("shop", "pull"), ("shop", "other"), ("bank", "pull"), ("shop", "pull2")]
    values = at(
        "registry.imagePullSecrets",
        [{"namespace": namespace, "name": name} for namespace, name in secrets],
    )
    more = granted(render(helm, values), "trailgate-webhook") - granted(render(helm), "trailgate-webhook")  # fmt: skip
    assert more == {(namespace, "secrets", name, "get") for namespace, name in secrets}


def test_the_log_key_survives_the_uninstallation(helm):
    rights_of_it = granted(render(helm), "trailgate-uninstall")
    deleted = {name for _, resource, name, verb in rights_of_it if (resource, verb) == ("secrets", "delete")}  # fmt: skip
    assert "trailgate-log" not in deleted
    assert deleted == {AUTHORITY, GATE, RECORDER, SERVING}
    for one in render(helm):
        if one["metadata"]["name"] == "trailgate-uninstall":
            assert hook(one) == "pre-delete"


def test_everybody_who_may_look_sees_policies_and_nothing_of_the_spool(helm):
    role = find(render(helm), "ClusterRole", "trailgate-view")
    assert role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"deploypolicies", "disarms"}  # fmt: skip


def test_the_page_tells_the_same_roles_and_guards():
    page = (ROOT / "docs/reference/chart.md").read_text()
    kinds = "(?:(?:Cluster)?Role|ValidatingAdmissionPolicy)"
    names = set()
    for path in templates():
        text = path.read_text()
        names |= set(re.findall(rf"kind: {kinds}\nmetadata:\n  name: ([a-z-]+)", text))
        names |= set(
            re.findall(r"authorizer\.group\('trailgate\.dev'\)\.resource\('([a-z]+)'\)", text)
        )
    assert len(names) == 8 + 5 + 2 - 1  # one name is both
    assert {name for name in names if f"`{name}`" not in page and f"`{name}.trailgate.dev`" not in page} == set()  # fmt: skip
