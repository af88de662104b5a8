"""The Kubernetes objects of the demo, as plain data."""

from __future__ import annotations

from typing import Any

SYSTEM = "trailgate-system"
SHOP = "shop"
CI = "ci"
DEPLOYER = "deployer"
POLICY = "production"
VERIFIER = "https://review.shop.example/change-record"
BUILDER = "https://ci.shop.example/builder/v1"

_WORKLOADS = [
    {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["pods", "pods/ephemeralcontainers", "replicationcontrollers"],
    },
    {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "resources": ["deployments", "statefulsets", "daemonsets", "replicasets"],
    },
    {"apiGroups": ["batch"], "apiVersions": ["v1"], "resources": ["jobs", "cronjobs"]},
    {
        "apiGroups": ["apps", ""],
        "apiVersions": ["v1"],
        "resources": [
            "deployments/scale", "statefulsets/scale", "replicasets/scale",
            "replicationcontrollers/scale",
        ],
    },
]  # fmt: skip


def webhook_configuration(url: str, ca_bundle: str) -> dict[str, Any]:
    """Make the gate's ValidatingWebhookConfiguration: writes fail closed, deletions open."""

    def webhook(name: str, operations: list[str], failure_policy: str) -> dict[str, Any]:
        return {
            "name": name,
            "admissionReviewVersions": ["v1"],
            "sideEffects": "NoneOnDryRun",
            "timeoutSeconds": 10,
            "failurePolicy": failure_policy,
            "matchPolicy": "Equivalent",
            "clientConfig": {"url": url, "caBundle": ca_bundle},
            "namespaceSelector": {
                "matchExpressions": [
                    {
                        "key": "kubernetes.io/metadata.name",
                        "operator": "NotIn",
                        "values": ["kube-system", SYSTEM],
                    }
                ]
            },
            "rules": [{**rule, "operations": operations} for rule in _WORKLOADS],
        }

    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "trailgate"},
        "webhooks": [
            webhook("change.trailgate.dev", ["CREATE", "UPDATE"], "Fail"),
            webhook("delete.trailgate.dev", ["DELETE"], "Ignore"),
        ],
    }


def impersonator(user: str) -> list[dict[str, Any]]:
    """Let a user impersonate service accounts: the right that should not be enough."""
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "impersonate-service-accounts"},
            "rules": [
                {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "impersonate-service-accounts"},
            "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {
                "kind": "ClusterRole",
                "name": "impersonate-service-accounts",
                "apiGroup": "rbac.authorization.k8s.io",
            },
        },
    ]


def deploy_policy(registry: str, source: str, keys: dict[str, str]) -> dict[str, Any]:
    """Make the demo's policy; ``keys`` maps release, build and review to PEM public keys."""

    def signers(name: str) -> list[dict[str, str]]:
        return [{"name": name, "key": keys[name]}]

    return {
        "apiVersion": "trailgate.dev/v1alpha1",
        "kind": "DeployPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "mode": "Enforce",
            "namespaces": [SHOP],
            "callers": {"serviceAccounts": [f"{CI}/{DEPLOYER}"], "groups": ["platform-admins"]},
            "rules": [
                {
                    "name": "web",
                    "images": [f"{registry}/shop/web"],
                    "source": {"repositories": [source], "refs": ["refs/heads/main"]},
                    "signature": {"signers": signers("release")},
                    "provenance": {"signers": signers("build"), "builders": [BUILDER]},
                    "review": {
                        "signers": signers("review"),
                        "verifiers": [VERIFIER],
                        "basis": "Asserted",
                    },
                    "tests": {"signers": signers("build")},
                }
            ],
        },
    }


def deployment(
    image: str, *, name: str = "web", replicas: int = 1, env: dict[str, str] | None = None
) -> dict[str, Any]:
    """Make a Deployment of one container."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": SHOP},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [
                        {
                            "name": name,
                            "image": image,
                            "env": [{"name": k, "value": v} for k, v in (env or {}).items()],
                        }
                    ]
                },
            },
        },
    }


def claiming_pod(image: str, owner_name: str, owner_uid: str) -> dict[str, Any]:
    """Make a bare Pod that says a ReplicaSet owns it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "stowaway",
            "namespace": SHOP,
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": owner_name,
                    "uid": owner_uid,
                    "controller": True,
                }
            ],
        },
        "spec": {"containers": [{"name": "web", "image": image}]},
    }


def rights() -> list[dict[str, Any]]:
    """Bind the two processes' rights: as small as they can be."""
    group = "rbac.authorization.k8s.io"

    def role(name: str, rules: list[dict[str, Any]], namespace: str | None) -> dict[str, Any]:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        kind = "Role" if namespace else "ClusterRole"
        return {
            "apiVersion": f"{group}/v1",
            "kind": kind,
            "metadata": metadata,
            "rules": rules,
        }

    def binding(name: str, namespace: str | None) -> dict[str, Any]:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        kind = "Role" if namespace else "ClusterRole"
        return {
            "apiVersion": f"{group}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}],
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
        }

    def rule(api: str, resources: list[str], verbs: list[str], **more: Any) -> dict[str, Any]:
        return {"apiGroups": [api], "resources": resources, "verbs": verbs, **more}

    cluster_uid = rule("", ["namespaces"], ["get"], resourceNames=["kube-system"])
    webhook, operator = "trailgate-webhook", "trailgate-operator"
    return [
        role(
            webhook,
            [
                cluster_uid,
                rule("trailgate.dev", ["deploypolicies"], ["get", "list", "watch"]),
                rule("", ["pods", "replicationcontrollers"], ["get"]),
                rule(
                    "apps",
                    ["deployments", "statefulsets", "daemonsets", "replicasets"],
                    ["get"],
                ),
                rule("batch", ["jobs", "cronjobs"], ["get"]),
            ],
            None,
        ),
        binding(webhook, None),
        role(webhook, [rule("trailgate.dev", ["admissions"], ["create"])], SYSTEM),
        binding(webhook, SYSTEM),
        role(operator, [cluster_uid], None),
        binding(operator, None),
        role(
            operator,
            [rule("trailgate.dev", ["admissions"], ["get", "list", "watch", "delete"])],
            SYSTEM,
        ),
        binding(operator, SYSTEM),
    ]
