"""The Kubernetes objects of the demo, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SYSTEM = "trailgate-system"
SHOP = "shop"
CI = "ci"
DEPLOYER = "deployer"
POLICY = "production"
VERIFIER = "https://review.shop.example/change-record"
BUILDER = "https://ci.shop.example/builder/v1"

_INSTALL = Path(__file__).parents[2] / "docs" / "how-to" / "install"


def rights() -> list[dict[str, Any]]:
    """Load our namespaces, accounts and roles, as the installation guide has them."""
    return list(yaml.safe_load_all((_INSTALL / "rights.yaml").read_text()))


def guards() -> list[dict[str, Any]]:
    """Load the admission policies that bound those rights."""
    return list(yaml.safe_load_all((_INSTALL / "guards.yaml").read_text()))


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
