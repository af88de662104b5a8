"""Which resource: group, version, plural, and whether it lives in a namespace."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from trailgate.model.admission import Kind
from trailgate.policy.schema import API_VERSION

GROUP, _, VERSION = API_VERSION.partition("/")
"""Of our own kinds."""

SYSTEM_NAMESPACE = "trailgate-system"
"""Where our own objects lie, if nothing else is said."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """``apps/v1``; for the core group just ``v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "") -> str:
        """Return the URL path of the collection, or of one object in it."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [self.plural, name] if name else [self.plural]
        return "/" + "/".join(quote(part, safe="") for part in parts)


ADMISSIONS = Resource(GROUP, VERSION, "admissions", "Admission")
DEPLOY_POLICIES = Resource(GROUP, VERSION, "deploypolicies", "DeployPolicy", namespaced=False)
DISARMS = Resource(GROUP, VERSION, "disarms", "Disarm", namespaced=False)
SECRETS = Resource("", "v1", "secrets", "Secret")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
CUSTOM_RESOURCES = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
SERVICES = Resource("", "v1", "services", "Service")
CLUSTER_ROLES = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False
)
VALIDATING_WEBHOOKS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
ADMISSION_POLICIES = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
)
ADMISSION_BINDINGS = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)

WORKLOADS = (
    Resource("", "v1", "pods", "Pod"),
    Resource("", "v1", "replicationcontrollers", "ReplicationController"),
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("apps", "v1", "replicasets", "ReplicaSet"),
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    Resource("apps", "v1", "daemonsets", "DaemonSet"),
    Resource("batch", "v1", "jobs", "Job"),
    Resource("batch", "v1", "cronjobs", "CronJob"),
)
"""The eight built-in kinds that run pods."""

_NODES = Resource("", "v1", "nodes", "Node", namespaced=False)

BUILT_IN = {
    Kind(resource.group, resource.kind): resource
    for resource in (*WORKLOADS, NAMESPACES, _NODES, ADMISSIONS, DEPLOY_POLICIES, DISARMS)
}
"""Kinds whose resource needs no discovery."""
