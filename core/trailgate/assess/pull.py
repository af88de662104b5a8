"""Which pull secrets a Pod names, and with whose credentials a registry may be asked.

https://kubernetes.io/docs/concepts/containers/images/#specifying-imagepullsecrets-on-a-pod
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from trailgate.assess.images import WORKLOADS, items, pod_spec
from trailgate.model.admission import AdmissionRequest
from trailgate.model.image import ImageReference
from trailgate.oci.registry import Registry

OWN: Final = ""
"""The account that everybody's requests are answered by: ours."""


@dataclass(frozen=True, slots=True)
class PullSecrets:
    """Secrets of one namespace, by name, in the Pod's order."""

    namespace: str = ""
    names: tuple[str, ...] = ()


NO_SECRETS: Final = PullSecrets()


class Accounts(Protocol):
    """The credentials that there are beside our own: a few pull secrets, listed by the admin.

    What one of them may read is nobody else's business: facts are kept by account.
    """

    def listed(self, secrets: PullSecrets) -> tuple[str, ...]:
        """Return the accounts (``NAMESPACE/NAME``) of those secrets that may be used."""

    def covers(self, image: ImageReference) -> bool:
        """Whether our own credentials have an entry for the image."""

    async def open(self, account: str, image: ImageReference) -> Registry | None:
        """Return the registry as this account sees it; None if it has no entry for the image.

        Raises ``CredentialsError`` where the secret can't be read or isn't one.
        """


class NoAccounts:
    """Nothing but our own."""

    def listed(self, secrets: PullSecrets) -> tuple[str, ...]:  # noqa: ARG002 (Protocol)
        """Return none."""
        return ()

    def covers(self, image: ImageReference) -> bool:  # noqa: ARG002
        """Say yes: there is no choice."""
        return True

    async def open(self, account: str, image: ImageReference) -> Registry | None:  # noqa: ARG002
        """Return none."""
        return None


def pull_secrets(request: AdmissionRequest) -> PullSecrets:
    """Return what the Pod spec of a workload names itself.

    Those of its service account are not looked up; the API server writes them into Pods,
    not into the templates of what makes Pods. Raises ``MalformedError``.
    """
    if request.kind not in WORKLOADS or request.object is None:
        return NO_SECRETS
    named = items(pod_spec(request.kind, request.object), "imagePullSecrets")
    names = dict.fromkeys(name for one in named if isinstance(name := one.get("name"), str))
    return PullSecrets(request.namespace, tuple(names)) if names else NO_SECRETS
