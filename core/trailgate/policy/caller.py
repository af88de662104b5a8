"""Callers: whether the hand that makes the change is one the policy lists."""

from __future__ import annotations

from trailgate.model.admission import Caller
from trailgate.model.decision import Check
from trailgate.model.reason import Reason
from trailgate.policy.compiled import Callers
from trailgate.policy.failure import Failure

# The cluster's own housekeeping, which deletes what its owner or namespace no longer
# holds. Denying it would leave namespaces half deleted.
_HOUSEKEEPING = frozenset(
    ("kube-system", name)
    for name in (
        "generic-garbage-collector",
        "namespace-controller",
        "ttl-after-finished-controller",
        "pod-garbage-collector",
        "cronjob-controller",
        "job-controller",
        "deployment-controller",
        "replicaset-controller",
        "replication-controller",
        "statefulset-controller",
        "daemon-set-controller",
    )
)


def check(caller: Caller, wanted: Callers) -> Failure | None:
    """Hold the caller against the list.

    A service account counts, by name or by group, only with a credential of its own:
    impersonation gives the same name and groups, and no credential id unless somebody
    has the right to impersonate that, too.
    """
    account = caller.service_account
    if account is not None and not caller.has_credential:
        return _failure(
            f"service account {'/'.join(account)} without a credential of its own: "
            "impersonated, or a token without an id",
            wanted,
        )
    if account is not None:
        known = account in wanted.service_accounts
    else:
        known = caller.username in wanted.users
    if known or not wanted.groups.isdisjoint(caller.groups):
        return None
    who = f"service account {'/'.join(account)}" if account else f"user {caller.username!r}"
    return _failure(who, wanted)


def check_delete(caller: Caller, wanted: Callers) -> Failure | None:
    """Hold a deletion against the list, where the policy denies deletion by others."""
    if not wanted.deny_delete:
        return None
    if caller.service_account in _HOUSEKEEPING and caller.has_credential:
        return None
    return check(caller, wanted)


def _failure(got: str, wanted: Callers) -> Failure:
    return Failure(Reason.CALLER_NOT_ALLOWED, got, str(wanted), Check.CALLER)
