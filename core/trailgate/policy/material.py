"""What others must know of the policies before a decision: which apply, which keys, which hosts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trailgate.model.evidence import PublicKey
from trailgate.model.image import ImageReference
from trailgate.policy.compiled import DeployPolicy


def covers(policies: Sequence[DeployPolicy], namespace: str) -> tuple[DeployPolicy, ...]:
    """Return the policies that are for this namespace, ordered by name."""
    matching = [policy for policy in policies if policy.covers(namespace)]
    if len(matching) > 1:
        matching.sort(key=lambda policy: policy.name)
    return tuple(matching)


def keys_for(policies: Iterable[DeployPolicy], image: ImageReference) -> tuple[PublicKey, ...]:
    """Return every key that a policy's deciding rule names for this image, in a stable order.

    Empty where no rule covers it: then there is nothing to fetch or to verify.
    """
    keys = {
        key.fingerprint: key
        for policy in policies
        if (rule := policy.rule_for(image)) is not None
        for key in rule.keys
    }
    return tuple(keys[name] for name in sorted(keys))


def registries(policies: Iterable[DeployPolicy]) -> frozenset[str]:
    """Return the registry hosts that the rules name: the only ones that may be contacted."""
    return frozenset(
        host for policy in policies for rule in policy.rules for host in rule.images.hosts
    )
