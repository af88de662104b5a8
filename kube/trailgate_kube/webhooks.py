"""What the API server is told to ask the gate: the webhook configuration, built from plain values.

Four entries. ``enforce`` fails closed: where a policy enforces, nothing changes without
the gate's answer. ``observe`` has everything else and fails open, so that a mode that
only looks never blocks. ``delete`` and ``own`` fail open too: deletions and changes of
our own objects are recorded. Which namespaces ``enforce`` has is decided by their name, in
CEL: a new namespace that a policy's glob covers is covered from its first request on.

Everything the API server would fill in is written out, so that what is stored can be
compared with what was built.
Kubernetes: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trailgate.policy.syntax import namespace_pattern
from trailgate_kube import owner
from trailgate_kube.resources import (
    DEPLOY_POLICIES,
    DISARMS,
    GROUP,
    SYSTEM_NAMESPACE,
    VALIDATING_WEBHOOKS,
    VERSION,
    WORKLOADS,
)

CONFIGURATION = "trailgate"
"""The configuration's name: one installation per cluster."""
ARMING_ROLE = owner.ROLE
"""The ClusterRole that owns the configuration: what uninstalls it removes both."""
ENFORCE, OBSERVE, DELETE, OWN = (
    f"{name}.{GROUP}" for name in ("enforce", "observe", "delete", "own")
)
EXEMPT = ("kube-system", "kube-node-lease", "kube-public")
"""Namespaces that are never asked about, with our own and those of the installation."""
MAX_EXPRESSION = 65_536
"""Characters; what is longer fails closed everywhere. See ``FailClosed``."""

_SCALED = (
    ("apps", ("deployments", "statefulsets", "replicasets")),
    ("", ("replicationcontrollers",)),
)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API server reaches the gate: a Service in the cluster, or a URL."""

    namespace: str = SYSTEM_NAMESPACE
    name: str = "trailgate-webhook"
    port: int = 443
    url: str | None = None
    """``https://host:port/path``; in the Service's place."""
    token: str | None = field(default=None, repr=False)
    """The secret last part of the path (``reviewtoken``); None: there is none."""

    @property
    def server_name(self) -> str:
        """The name that a Service's certificate must have."""
        return f"{self.name}.{self.namespace}.svc"

    @property
    def path(self) -> str:
        """The path of a Service. Secret where it ends with a token: not for any log."""
        return "/validate" if self.token is None else f"/validate/{self.token}"

    @property
    def whole_url(self) -> str | None:
        """``url`` with the token, if there is one. Secret, too."""
        if self.url is None or self.token is None:
            return self.url
        return f"{self.url.rstrip('/')}/{self.token}"

    def client_configuration(self, bundle: bytes) -> dict[str, Any]:
        """Build ``clientConfig``; ``bundle`` is PEM."""
        authority = {"caBundle": base64.b64encode(bundle).decode()}
        if self.url is not None:
            return {"url": self.whole_url, **authority}
        service = {"namespace": self.namespace, "name": self.name, "path": self.path}
        return {"service": {**service, "port": self.port}, **authority}


@dataclass(frozen=True, slots=True)
class FailClosed:
    """The namespaces in which no workload changes without the gate's answer."""

    patterns: tuple[str, ...] = ()
    """Names and globs (``policy.match.Names``), sorted, each once."""
    everywhere: bool = False
    """All of them: a pattern that isn't understood, or more of them than an expression holds."""

    @classmethod
    def of(cls, patterns: Iterable[str]) -> FailClosed:
        """Take patterns as policies have them. What can't be said exactly is said broader."""
        known = tuple(sorted(set(patterns)))
        if any(namespace_pattern(text) is not None for text in known):
            return cls(everywhere=True)
        made = cls(known)
        return cls(everywhere=True) if len(made.expression) > MAX_EXPRESSION else made

    @property
    def expression(self) -> str:
        """The CEL expression that is true where it fails closed."""
        if self.everywhere:
            return "true"
        # Patterns have no character but letters, digits, "-" and the two wildcards, so none
        # means anything else in RE2, and JSON's strings are CEL's.
        globs = [text for text in self.patterns if "*" in text or "?" in text]
        names = sorted(set(self.patterns) - set(globs))
        parts = []
        if names:
            parts.append(f"request.namespace in {json.dumps(names, separators=(',', ':'))}")
        if globs:
            one = "|".join(text.replace("?", "[^/]").replace("*", "[^/]*") for text in globs)
            parts.append(f"request.namespace.matches({json.dumps(f'^(?:{one})$')})")
        return " || ".join(parts) or "false"

    def narrower_than(self, other: FailClosed) -> bool:
        """Whether some namespace may be fail-closed in ``other`` and not in this one."""
        if self.everywhere:
            return False
        return other.everywhere or not set(other.patterns) <= set(self.patterns)


def configuration(
    address: Address,
    bundle: bytes,
    closed: FailClosed,
    owner_uid: str,
    *,
    namespace: str = SYSTEM_NAMESPACE,
    exempt: Sequence[str] = (),
) -> dict[str, Any]:
    """Build the whole object. ``owner_uid``: of the ClusterRole ``trailgate-arming``."""
    left_out = sorted({*EXEMPT, namespace, *exempt})
    client = address.client_configuration(bundle)
    scope = _by_name(left_out)
    change, condition = _change_rules(), closed.expression
    return {
        "apiVersion": VALIDATING_WEBHOOKS.api_version,
        "kind": VALIDATING_WEBHOOKS.kind,
        "metadata": {
            "name": CONFIGURATION,
            "labels": {"app.kubernetes.io/managed-by": "trailgate-operator"},
            "ownerReferences": [owner.reference(owner_uid)],
        },
        "webhooks": [
            _entry(ENFORCE, client, "Fail", change, scope=scope, condition=condition),
            _entry(OBSERVE, client, "Ignore", change, scope=scope, condition=f"!({condition})"),
            _entry(DELETE, client, "Ignore", _delete_rules(), scope=scope),
            _entry(OWN, client, "Ignore", _own_rules(), scope={}),
        ],
    }


def bundle_of(body: Mapping[str, Any]) -> bytes:
    """Return the authorities (PEM) that all entries of a stored configuration trust."""
    entries = [
        _certificates((one.get("clientConfig") or {}).get("caBundle"))
        for one in body.get("webhooks") or ()
    ]
    first, *others = entries or [()]
    return b"".join(one for one in first if all(one in other for other in others))


def _certificates(bundle: object) -> tuple[bytes, ...]:
    try:
        pem = base64.b64decode(str(bundle or ""), validate=True)
    except ValueError:
        return ()
    return tuple(one.strip() + b"\n" for one in _PEM.findall(pem))


def _entry(
    name: str,
    client: dict[str, Any],
    failure: str,
    rules: list[dict[str, Any]],
    *,
    scope: dict[str, Any],
    condition: str | None = None,
) -> dict[str, Any]:
    entry = {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "clientConfig": client,
        "failurePolicy": failure,
        "matchPolicy": "Equivalent",
        "namespaceSelector": scope,
        "objectSelector": {},
        "rules": rules,
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": 10,
    }
    if condition is not None:
        entry["matchConditions"] = [{"name": "by-namespace", "expression": condition}]
    return entry


def _by_name(left_out: Sequence[str]) -> dict[str, Any]:
    # The API server itself sets this label, and lets nobody change it.
    expression = {"key": _NAME_LABEL, "operator": "NotIn", "values": list(left_out)}
    return {"matchExpressions": [expression]}


def _change_rules() -> list[dict[str, Any]]:
    operations = ["CREATE", "UPDATE"]
    rules = _workload_rules(operations)
    rules.append(_rule("", "v1", ["pods/ephemeralcontainers"], operations))
    for group, plurals in _SCALED:
        rules.append(_rule(group, "v1", [f"{plural}/scale" for plural in plurals], operations))
    return rules


def _delete_rules() -> list[dict[str, Any]]:
    return _workload_rules(["DELETE"])


def _workload_rules(operations: list[str]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for kind in WORKLOADS:
        groups.setdefault((kind.group, kind.version), []).append(kind.plural)
    return [
        _rule(group, version, plurals, operations) for (group, version), plurals in groups.items()
    ]


def _own_rules() -> list[dict[str, Any]]:
    plurals = [DEPLOY_POLICIES.plural, DISARMS.plural]
    return [_rule(GROUP, VERSION, plurals, ["CREATE", "UPDATE", "DELETE"], scope="Cluster")]


def _rule(
    group: str,
    version: str,
    plurals: list[str],
    operations: list[str],
    *,
    scope: str = "Namespaced",
) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": [version],
        "operations": operations,
        "resources": plurals,
        "scope": scope,
    }
