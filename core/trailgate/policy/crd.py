"""The DeployPolicy CustomResourceDefinition, written from ``schema``.

``trailgate_kube.crd`` writes it to a file; ``make generate`` keeps the chart's copy. The
schema is structural, so the API server prunes or refuses unknown fields, applies the
defaults and checks the rules; what it cannot check (that a key is a key) ``parse`` does,
and the operator says so in the object's conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import NODEFAULT, inspect

from trailgate.policy import schema

_GROUP, _, _VERSION = schema.API_VERSION.partition("/")
_NEEDS_PROVENANCE = ("review", "deploymentApproval", "tests")
#: What one field demands of another (``parse`` checks the same), by the struct's name.
_RULES: dict[str, list[dict[str, str]]] = {
    "Rule": [
        {
            "rule": "has(self.signature) || has(self.provenance)",
            "message": "a rule needs signature or provenance",
        },
        {
            "rule": "has(self.provenance) == has(self.source)",
            "message": "provenance and source go together",
        },
        *(
            {
                "rule": f"!has(self.{field}) || has(self.provenance)",
                "message": f"{field} needs provenance: it names the commit",
            }
            for field in _NEEDS_PROVENANCE
        ),
    ],
    "Callers": [
        {
            "rule": " || ".join(
                f"(has(self.{field}) && size(self.{field}) > 0)"
                for field in ("users", "groups", "serviceAccounts")
            ),
            "message": "callers needs at least one user, group or service account",
        }
    ],
}


def definition(status: Mapping[str, Any]) -> dict[str, Any]:
    """Build the CustomResourceDefinition as plain JSON; ``status`` is that part's schema."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"deploypolicies.{_GROUP}"},
        "spec": {
            "group": _GROUP,
            "names": {
                "categories": ["trailgate"],
                "kind": schema.KIND,
                "listKind": f"{schema.KIND}List",
                "plural": "deploypolicies",
                "shortNames": ["dpol"],
                "singular": "deploypolicy",
            },
            "scope": "Cluster",
            "versions": [_version(status)],
        },
    }


def spec_schema() -> dict[str, Any]:
    """Build the structural schema of ``spec``."""
    return _of(inspect.type_info(schema.Spec))


def _version(status: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": _VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            _column("Mode", ".spec.mode", "What a negative verdict does."),
            _column(
                "Ready",
                '.status.conditions[?(@.type=="Ready")].status',
                "Whether the gate uses the policy as it is written.",
            ),
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "schema": {
            "openAPIV3Schema": {
                "description": "What may run in which namespaces, and who may change it.",
                "type": "object",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": spec_schema(),
                    "status": status,
                },
            }
        },
    }


def _column(name: str, path: str, description: str) -> dict[str, Any]:
    return {"name": name, "type": "string", "jsonPath": path, "description": description}


def _of(kind: inspect.Type) -> dict[str, Any]:  # noqa: PLR0911
    match kind:
        case inspect.Metadata():
            return _of(kind.type) | (kind.extra_json_schema or {})
        case inspect.StructType():
            return _struct(kind)
        case inspect.ListType():
            limits = {"minItems": kind.min_length, "maxItems": kind.max_length}
            return {"type": "array", "items": _of(kind.item_type)} | _given(limits)
        case inspect.StrType():
            limits = {"minLength": kind.min_length, "maxLength": kind.max_length}
            return {"type": "string"} | _given(limits)
        case inspect.IntType():
            return {"type": "integer", "format": "int32"} | _given(
                {"minimum": kind.ge, "maximum": kind.le}
            )
        case inspect.EnumType():
            return {"type": "string", "enum": [member.value for member in kind.cls]}
        case inspect.DateTimeType():
            return {"type": "string", "format": "date-time"}
        case inspect.BoolType():
            return {"type": "boolean"}
        case _:
            raise TypeError(f"got {type(kind).__name__} in a policy, expected a kind the CRD has")


def _struct(kind: inspect.StructType) -> dict[str, Any]:
    """Describe an object; a default stands in it only where absence and default are one."""
    properties = {}
    for field in kind.fields:
        described = _of(field.type)
        if field.default is not NODEFAULT:
            described["default"] = getattr(field.default, "value", field.default)
        properties[field.encode_name] = described
    result: dict[str, Any] = {
        "type": "object",
        "description": (kind.cls.__doc__ or "").strip(),
        "properties": properties,
    }
    required = [field.encode_name for field in kind.fields if field.required]
    if required:
        result["required"] = required
    rules = _RULES.get(kind.cls.__name__)
    if rules:
        result["x-kubernetes-validations"] = rules
    return result


def _given(limits: dict[str, int | None]) -> dict[str, Any]:
    return {name: limit for name, limit in limits.items() if limit is not None}
