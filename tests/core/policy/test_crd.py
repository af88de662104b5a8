"""The CRD says what the schema says, and a real API server takes it."""

import copy
import json
import uuid

import pytest
from jsonschema import Draft202012Validator
from msgspec import inspect

from e2e.controlplane.cluster import ApiError
from tests.core.policy import builders as b
from tests.core.policy.test_parse import complete, third_party
from trailgate.policy import crd, schema
from trailgate.policy.parse import parse_policy

PATH = "/apis/trailgate.dev/v1alpha1/deploypolicies"


def walk(kind, node, path="spec"):
    match kind:
        case inspect.Metadata():
            yield from walk(kind.type, node, path)
        case inspect.ListType():
            yield from walk(kind.item_type, node["items"], f"{path}[]")
        case inspect.StructType():
            yield path, kind, node
            for field in kind.fields:
                yield from walk(
                    field.type, node["properties"][field.encode_name], f"{path}.{field.encode_name}"
                )
        case _:
            yield path, kind, node


NODES = list(walk(inspect.type_info(schema.Spec), crd.spec_schema()))


@pytest.mark.parametrize(
    ("kind", "node"),
    [pytest.param(k, n, id=p) for p, k, n in NODES if isinstance(k, inspect.StructType)],
)
def test_every_field_is_in_the_schema_and_nothing_else(kind, node):
    assert list(node["properties"]) == [field.encode_name for field in kind.fields]
    assert node.get("required", []) == [f.encode_name for f in kind.fields if f.required]
    for name, child in node["properties"].items():
        assert child.get("description"), f"{name} has no description"


def test_the_schema_is_structural():
    for path, _, node in NODES:
        assert "type" in node, path
        assert not {"$ref", "anyOf", "oneOf", "allOf", "additionalProperties"} & set(node), path


def test_defaults_in_the_cluster_are_the_defaults_in_files():
    defaults = {
        f"{path}.{field.encode_name}": getattr(field.default, "value", field.default)
        for path, kind, _ in NODES
        if isinstance(kind, inspect.StructType)
        for field in kind.fields
        if field.default is not inspect.NODEFAULT
    }
    written = {
        f"{path}.{name}": child["default"]
        for path, kind, node in NODES
        if isinstance(kind, inspect.StructType)
        for name, child in node["properties"].items()
        if "default" in child
    }
    assert written == defaults
    assert written["spec.mode"] == "Audit"
    assert written["spec.rules[].review.selfAsserted"] == "Deny"
    assert written["spec.rules[].deploymentApproval.notCommitter"] is True


@pytest.mark.parametrize("value", [b.document(), complete()])
def test_what_parses_fits_the_schema(value):
    parse_policy(value)
    Draft202012Validator(crd.spec_schema()).validate(value["spec"])


# --- the real API server ----------------------------------------------------------


@pytest.fixture(scope="module", name="cluster")
def _cluster(control_plane):
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    control_plane.apply(crd.definition(status))
    control_plane.kubectl(
        control_plane.admin,
        "wait",
        "--for=condition=Established",
        "crd/deploypolicies.trailgate.dev",
        "--timeout=30s",
    )
    return control_plane


def created(cluster, value):
    """What the API server makes of an object, without keeping it."""
    value = copy.deepcopy(value)
    value["metadata"]["name"] = f"test-{uuid.uuid4().hex[:12]}"
    strict = f"{PATH}?dryRun=All&fieldValidation=Strict"
    return cluster.api("POST", strict, value)


def refused(cluster, value) -> str:
    with pytest.raises(ApiError) as caught:
        created(cluster, value)
    assert caught.value.status in (400, 422)
    return json.dumps(caught.value.body)


@pytest.mark.cluster
def test_the_api_server_takes_policies_and_changes_nothing_in_them(cluster):
    for value in (b.document(mode=None), complete()):
        kept = created(cluster, value)
        parsed = parse_policy(kept)
        assert parsed.reference.generation == 1
        assert parsed.reference.digest == parse_policy(value).reference.digest


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rules": [{"images": [b.REPOSITORY]}]}, "a rule needs signature or provenance"),
        ({"rules": [b.rule(source=None)]}, "provenance and source go together"),
        (
            {"rules": [b.rule(provenance=None, source=None, deploymentApproval=None, tests=None)]},
            "review needs provenance",
        ),
        (
            {"rules": [b.rule(provenance=None, source=None, review=None, tests=None)]},
            "deploymentApproval needs provenance",
        ),
        (
            {"rules": [b.rule(provenance=None, source=None, review=None, deploymentApproval=None)]},
            "tests needs provenance",
        ),
        ({"callers": {"delete": "Deny"}}, "at least one user, group or service account"),
        ({"callers": {"users": []}}, "at least one user, group or service account"),
        ({"mode": "Off"}, "Unsupported value"),
        ({"namespaces": []}, "should have at least 1 items"),
        ({"namespaces": ["Shop"]}, "should match"),
        ({"namespaces": ["shop", "shop"]}, "Duplicate"),
        ({"rules": [b.rule(images=["web"])]}, "should match"),
        ({"thirdParty": [third_party(expiry="never")]}, "date-time"),
        ({"unheardOf": 1}, "unknown field"),
    ],
)
def test_the_api_server_refuses_what_parse_refuses(cluster, changes, says):
    value = b.document(**changes)
    with pytest.raises(ValueError, match="got"):
        parse_policy(value)
    assert says in refused(cluster, value)


@pytest.mark.cluster
def test_the_short_name_the_category_and_the_columns(cluster):
    value = b.document()
    value["metadata"]["name"] = name = f"test-{uuid.uuid4().hex[:12]}"
    cluster.apply(value)
    try:
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Loaded",
            "message": "",
            "lastTransitionTime": "2026-11-23T12:00:00Z",
        }
        cluster.api(
            "PATCH",
            f"{PATH}/{name}/status",
            {"status": {"observedGeneration": 1, "conditions": [ready]}},
            content_type="application/merge-patch+json",
        )
        table = cluster.kubectl(cluster.admin, "get", "dpol", name).stdout.split("\n")
        assert table[0].split() == ["NAME", "MODE", "READY", "AGE"]
        assert table[1].split()[:3] == [name, "Enforce", "True"]
        assert name in cluster.kubectl(cluster.admin, "get", "trailgate", "-o", "name").stdout
    finally:
        cluster.api("DELETE", f"{PATH}/{name}")
