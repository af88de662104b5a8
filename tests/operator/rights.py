"""All that ``--arm`` may do, said once: the tests live on it, and the page is held to it."""

from trailgate_kube.resources import (
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    CLUSTER_ROLES,
    CUSTOM_RESOURCES,
    DEPLOY_POLICIES,
    DISARMS,
    NAMESPACES,
    RESOURCE_QUOTAS,
    SERVICES,
    VALIDATING_WEBHOOKS,
    WORKLOADS,
)
from trailgate_kube.webhooks import ARMING_ROLE, CONFIGURATION
from trailgate_operator.sentinel_guards import BINDINGS, POLICIES
from trailgate_operator.sentinel_probe import PROBE
from trailgate_operator.spool_cap import DEFINITION, QUOTA

RBAC = "rbac.authorization.k8s.io"


def rule(resource, *verbs, sub="", name=None):
    plural = f"{resource.plural}/{sub}" if sub else resource.plural
    names = [name] if isinstance(name, str) else [*(name or ())]
    only = {"resourceNames": names} if names else {}
    return {"apiGroups": [resource.group], "resources": [plural], "verbs": [*verbs], **only}


PODS, DEPLOYMENTS = (
    next(one for one in WORKLOADS if one.plural == plural) for plural in ("pods", "deployments")
)
CLUSTER = [
    rule(NAMESPACES, "get", name="kube-system"),
    rule(CUSTOM_RESOURCES, "get", name=DEFINITION),
    rule(DEPLOY_POLICIES, "list", "watch"),
    rule(DISARMS, "list", "watch"),
    rule(DEPLOY_POLICIES, "update", sub="status"),
    rule(DISARMS, "update", sub="status"),
    rule(DEPLOY_POLICIES, "create"),
    rule(DEPLOY_POLICIES, "update", name=PROBE),
    rule(VALIDATING_WEBHOOKS, "get", "list", "watch", name=CONFIGURATION),
    rule(CLUSTER_ROLES, "get", name=ARMING_ROLE),
    rule(ADMISSION_POLICIES, "get", name=POLICIES),
    rule(ADMISSION_BINDINGS, "get", name=BINDINGS),
    *(rule(workload, "list", "watch") for workload in WORKLOADS),
]
ARMING = [
    rule(VALIDATING_WEBHOOKS, "create"),
    rule(VALIDATING_WEBHOOKS, "update", "delete", name=CONFIGURATION),
]
OURS = [
    rule(SERVICES, "get", name="trailgate-webhook"),
    rule(DEPLOYMENTS, "get", name="trailgate-webhook"),
    rule(RESOURCE_QUOTAS, "create"),
    rule(RESOURCE_QUOTAS, "get", "update", "delete", name=QUOTA),
    {
        "apiGroups": ["trailgate.dev"],
        "resources": ["admissions"],
        "verbs": ["list", "watch", "delete"],
    },
]


PROBING = [rule(PODS, "create")]


def manifests(account, namespace):
    """Roles and bindings for a service account; ``trailgate-arming`` is among them."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PROBE}}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    for kind, name, rules, place in (
        ("ClusterRole", account, CLUSTER, {}),
        ("ClusterRole", ARMING_ROLE, ARMING, {}),
        ("Role", account, OURS, {"namespace": namespace}),
        ("Role", PROBE, PROBING, {"namespace": PROBE}),
    ):
        metadata = {"name": name, **place}
        head = {"apiVersion": f"{RBAC}/v1", "metadata": metadata}
        yield {**head, "kind": kind, "rules": rules}
        reference = {"apiGroup": RBAC, "kind": kind, "name": name}
        yield {**head, "kind": f"{kind}Binding", "subjects": [subject], "roleRef": reference}
