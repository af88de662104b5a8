"""What is valid in a policy and yet hardly meant: said by ``trailgate policy check``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from trailgate.policy.compiled import ChangeRequirement, DeployPolicy, Rule
from trailgate.policy.failure import listed


def hints(policy: DeployPolicy, at: datetime) -> Iterator[str]:
    """Yield what a reviewer of the policy should look at, one sentence each."""
    yield from _callers_inside(policy)
    for index, rule in enumerate(policy.rules):
        earlier = policy.rules[:index]
        hidden = [text for text in rule.images.texts if _is_hidden(text, earlier)]
        if hidden:
            yield f"rule {rule.name}: an earlier rule decides on {listed(hidden)}"
        yield from _shared_keys(rule)
    for name, entries in policy.third_party.items():
        for entry in entries:
            if entry.expiry <= at:
                yield f"thirdParty {name}: expired on {entry.expiry:%Y-%m-%d} ({entry.owner})"


def _callers_inside(policy: DeployPolicy) -> Iterator[str]:
    if policy.callers is None:
        return
    inside = [
        f"{namespace}/{name}"
        for namespace, name in policy.callers.service_accounts
        if policy.covers(namespace)
    ]
    if inside:
        yield (
            f"callers: {listed(inside)} in a namespace that this policy covers: whoever may "
            "make pods or tokens there (the role edit) can be that caller; use another namespace"
        )


def _is_hidden(text: str, earlier: tuple[Rule, ...]) -> bool:
    """Whether an earlier rule names the same pattern, or matches the one repository it names."""
    host, _, path = text.partition("/")
    for rule in earlier:
        if text in rule.images.texts:
            return True
        paths = rule.images.hosts.get(host)
        if "*" not in text and paths is not None and paths.match(path):
            return True
    return False


def _shared_keys(rule: Rule) -> Iterator[str]:
    parts: tuple[tuple[str, ChangeRequirement | None], ...] = (
        ("review", rule.review),
        ("deploymentApproval", rule.deployment_approval),
    )
    for field, wanted in parts:
        if wanted is None or wanted.allow_self_asserted:
            continue
        shared = [name for key, name in wanted.signers.names.items() if key in rule.build_keys]
        if shared:
            yield (
                f"rule {rule.name}: {field} by {listed(shared)} never counts, because the same "
                "key may sign the build (selfAsserted: Deny)"
            )
