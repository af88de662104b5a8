"""The CustomResourceDefinitions that Trailgate brings, as plain JSON and as files.

``python -m trailgate_kube.crd DIRECTORY`` writes one file each; ``make generate``
keeps the chart's copies and ``make check`` holds them to the code. A DeployPolicy's
schema is its structs' (``trailgate.policy.crd``), a Disarm's is in ``disarms``; an
Admission's is here, and a test holds it to ``trailgate.ledger.spool``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from trailgate.ledger.spool import FORMAT, MAX_CLAIMS, BatchKind
from trailgate.policy import crd as policy_crd
from trailgate_kube import disarms
from trailgate_kube.conditions import status_schema
from trailgate_kube.resources import ADMISSIONS

_DIGEST = {"type": "string", "maxLength": 71, "pattern": "^sha256:[0-9a-f]{64}$"}
_TIME = {"type": "string", "maxLength": 27, "pattern": r"^[0-9T:.-]{26}Z$"}
_SHORT = {"type": "string", "maxLength": 253}
_MAX_SEALED = 1_500_000
_HEADER = "# Written by `make generate` from {source}; not by hand.\n"

# The name says what the specification says, so that lists sort by (boot, seq).
_NAME_RULE = (
    "size(self.metadata.name) == size(self.spec.boot) + 11"
    " && self.metadata.name.startsWith(self.spec.boot + '-')"
    " && self.metadata.name.matches('-[0-9]{10}$')"
    " && int(self.metadata.name.substring(size(self.spec.boot) + 1)) == self.spec.seq"
)
_MAX_NAME = 40 + 1 + 10


def definitions() -> tuple[dict[str, Any], ...]:
    """Build all of them."""
    return admission(), policy_crd.definition(_policy_status()), disarms.definition()


def _policy_status() -> dict[str, Any]:
    return status_schema("Ready: the gate uses the policy as it is written.")


def admission() -> dict[str, Any]:
    """Build the definition of Admission: the spool, namespaced, immutable."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{ADMISSIONS.plural}.{ADMISSIONS.group}"},
        "spec": {
            "group": ADMISSIONS.group,
            "names": {
                "categories": ["trailgate"],
                "kind": ADMISSIONS.kind,
                "listKind": f"{ADMISSIONS.kind}List",
                "plural": ADMISSIONS.plural,
                "singular": ADMISSIONS.kind.lower(),
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": ADMISSIONS.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _object()},
                    "additionalPrinterColumns": _columns(),
                }
            ],
        },
    }


def _object() -> dict[str, Any]:
    return {
        "type": "object",
        "description": (
            "A batch of decisions on its way from the gate to the ledger. Only the webhook "
            "creates it, only the recorder deletes it, nobody changes it."
        ),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": _MAX_NAME}},
            },
            "spec": _spec(),
        },
        "x-kubernetes-validations": [
            {"rule": _NAME_RULE, "message": "the name must be <boot>-<seq, ten digits>"}
        ],
    }


def _spec() -> dict[str, Any]:
    properties = _properties()
    return {
        "type": "object",
        "required": sorted(properties),
        "properties": properties,
        "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "an Admission never changes"}
        ],
    }


def _properties() -> dict[str, dict[str, Any]]:
    named = {"kind": _SHORT, "namespace": _SHORT, "name": _SHORT}
    return {
        "format": {"type": "string", "enum": [FORMAT], "maxLength": len(FORMAT)},
        "boot": {
            "type": "string",
            "maxLength": 40,
            "pattern": "^[a-z0-9]{8,40}$",
            "description": "The gate process that wrote it: its start in seconds, then chance.",
        },
        "seq": {
            "type": "integer",
            "format": "int64",
            "minimum": 0,
            "maximum": 9_999_999_999,
            "description": "Its number among that process's batches, without holes.",
        },
        "prev": {**_DIGEST, "description": "Of the specification of the batch before it."},
        "kind": {"type": "string", "enum": [str(kind.value) for kind in BatchKind]},
        "claims": {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_CLAIMS,
            "description": "How many decisions are sealed in it.",
        },
        "decidedFrom": _TIME,
        "decidedTo": _TIME,
        "objects": {
            "type": "array",
            "maxItems": 8,
            "description": "Some of what was decided on.",
            "items": {"type": "object", "required": sorted(named), "properties": named},
        },
        "recorderKey": {**_DIGEST, "description": "The recorder's key that it is sealed to."},
        "signerKey": {**_DIGEST, "description": "The writing process's signing key."},
        "sealed": {
            "type": "string",
            "maxLength": _MAX_SEALED,
            "description": "The decisions, readable by the recorder alone (HPKE), base64.",
        },
        "signature": {"type": "string", "maxLength": 88, "description": "Ed25519, base64."},
    }


def _columns() -> list[dict[str, Any]]:
    return [
        {"name": "Boot", "type": "string", "jsonPath": ".spec.boot"},
        {"name": "Seq", "type": "integer", "jsonPath": ".spec.seq"},
        {"name": "Kind", "type": "string", "jsonPath": ".spec.kind"},
        {"name": "Claims", "type": "integer", "jsonPath": ".spec.claims"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]


def write(directory: Path) -> list[Path]:
    """Write each definition into a file of its own; returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    sources = (
        "kube/trailgate_kube/crd.py",
        "core/trailgate/policy/schema.py",
        "kube/trailgate_kube/disarms.py",
    )
    written = []
    for definition, source in zip(definitions(), sources, strict=True):
        path = directory / f"{definition['metadata']['name']}.yaml"
        text = yaml.dump(definition, Dumper=_Plain, sort_keys=False, width=100)
        path.write_text(_HEADER.format(source=source) + text)
        written.append(path)
    return written


class _Plain(yaml.SafeDumper):
    """YAML without anchors: a shared part is written out each time."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Never refer to another place."""
        return True


if __name__ == "__main__":
    for file in write(Path(sys.argv[1])):
        sys.stdout.write(f"{file}\n")
