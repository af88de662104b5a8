"""What the chart makes of values, and the values that every installation must give."""

import copy
import json
import re

import yaml

from e2e.controlplane.helm import CHART

NAMESPACE = "trailgate-system"
DIGEST = "sha256:" + "a" * 64
OPERATOR_DIGEST = "sha256:" + "b" * 64
GIVEN = {
    "image": {"registry": "registry.example/platform"},
    "webhook": {"image": {"digest": DIGEST}},
    "operator": {"image": {"digest": OPERATOR_DIGEST}},
    "ledger": {"origin": "example.com/trail/test"},
}
#: Everything turned on: what a minimal installation doesn't show.
EVERYTHING = {
    "image": {"pullSecrets": ["ours"]},
    "cluster": {"name": "test", "environment": "production", "sharedControllerManager": True},
    "webhook": {
        "exemptNamespaces": ["harbor"],
        "clientCA": {"configMap": "api-server-ca"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}],
        "podAnnotations": {"example.com/a": "b"},
        "podLabels": {"team": "platform"},
    },
    "operator": {"podAnnotations": {"example.com/a": "b"}, "podLabels": {"team": "platform"}},
    "ledger": {
        "persistence": {"storageClass": "fast"},
        "checkpoint": {"storageClass": "other"},
        "newLedger": "0123abcd",
    },
    "certificates": {"mode": "secret", "secretName": "own-tls"},
    "registry": {
        "credentialsSecret": "registry",
        "imagePullSecrets": [
            {"namespace": "shop", "name": "pull"},
            {"namespace": "shop", "name": "other"},
            {"namespace": "bank", "name": "pull"},
        ],
        "privateHosts": ["registry.internal"],
        "insecureHosts": ["127.0.0.1:5000"],
        "caConfigMap": "registry-ca",
    },
    "guards": {"kubeSystem": {"action": "Deny"}},
    "networkPolicy": {
        "apiServerCIDRs": ["10.0.0.0/28"],
        "metricsFrom": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ],
        "egress": {
            "enabled": True,
            "apiServer": [
                {
                    "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
                    "ports": [{"port": 6443, "protocol": "TCP"}],
                }
            ],
            "registries": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
    },
    "metrics": {"service": {"enabled": True}},
}
#: What no API server knows unless the Prometheus operator is there.
MONITORING = {
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "runbookBase": "https://docs.example/alerts"},
    }
}


def merged(*many):
    """Values over values, as Helm lays them."""
    result = {}
    for one in many:
        for key, value in one.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


def at(path, value):
    """``at("a.b", 1)`` is ``{"a": {"b": 1}}``."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def attempt(helm, *many, given=GIVEN, namespace=NAMESPACE, arguments=()):
    """Run ``helm template``; nothing is raised."""
    return helm.run(
        "template", "trailgate", CHART, "--namespace", namespace, "--values", "-", *arguments,
        stdin=yaml.safe_dump(merged(given, *many)), check=False,
    )  # fmt: skip


def render(helm, *many, **others):
    """Return the objects, hooks and all."""
    key = json.dumps([helm.name, many, others], sort_keys=True)
    if key not in _rendered:
        done = attempt(helm, *many, **others)
        assert done.returncode == 0, done.stderr
        _rendered[key] = [one for one in yaml.load_all(done.stdout, _Loader) if one]
    return copy.deepcopy(_rendered[key])


_rendered = {}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def find(objects, kind, name):
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def hook(one):
    """Which hook it is; None for an object of the release."""
    return one["metadata"].get("annotations", {}).get("helm.sh/hook")


def pods(objects):
    """Each pod that is made of them: name, its metadata and its spec."""
    for one in objects:
        if one["kind"] in ("Deployment", "Job"):
            template = one["spec"]["template"]
            yield one["metadata"]["name"], template["metadata"], template["spec"]
        elif one["kind"] == "Pod":
            yield one["metadata"]["name"], one["metadata"], one["spec"]


def arguments(container):
    """``--name=value`` as pairs; a flag has None."""
    pairs = [argument.partition("=") for argument in container.get("args", ())]
    return [(name, value if equals else None) for name, equals, value in pairs]


def templates():
    return sorted((CHART / "templates").rglob("*.yaml"))


def rules_without_a_reason(text):
    """RBAC rules in a template's text that no comment stands above."""
    lines = text.splitlines()
    return [
        (number + 1, line)
        for number, line in enumerate(lines)
        if re.match(r"\s+- apiGroups: \[", line)
        and "rules:" in "\n".join(lines[max(0, number - 40) : number])
        and not lines[number - 1].lstrip().startswith("#")
    ]
