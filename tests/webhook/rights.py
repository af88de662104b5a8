"""All that the gate may do, said once: the cluster test lives on it, page and demo are held to it."""

from trailgate.assess.callers import CHILD_KIND
from trailgate_kube.resources import ADMISSIONS, BUILT_IN, DEPLOY_POLICIES, NAMESPACES

VERBS = {
    ADMISSIONS: {"create"},
    DEPLOY_POLICIES: {"list", "watch"},
    NAMESPACES: {"get"},
} | {BUILT_IN[owner]: {"get"} for owner in CHILD_KIND}


def pairs():
    """{("deployments.apps", "get"), ...}."""
    return {
        (f"{resource.plural}.{resource.group}".rstrip("."), verb)
        for resource, verbs in VERBS.items()
        for verb in verbs
    }


def rules():
    """The rules of a ClusterRole."""
    return [
        {"apiGroups": [one.group], "resources": [one.plural], "verbs": sorted(verbs)}
        for one, verbs in VERBS.items()
    ]


def expanded(role_rules):
    """The pairs that some rules allow."""
    return {
        (f"{resource}.{group}".rstrip("."), verb)
        for rule in role_rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def pull_secret_rules(*names):
    """The rule of a Role in a namespace whose pull secrets are listed."""
    return [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [*names], "verbs": ["get"]}
    ]
