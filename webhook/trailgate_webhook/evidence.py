"""How this process asks registries: which hosts, by which authority, with whose credentials."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from trailgate.assess.gather import RegistryEvidence
from trailgate.oci.client import RegistryClient
from trailgate.oci.credentials import Anonymous, CredentialSource
from trailgate.oci.guard import Guard
from trailgate.policy.compiled import DeployPolicy
from trailgate.policy.material import registries
from trailgate_kube.api import Reader
from trailgate_webhook.credentials import DockerConfigFile
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.pullsecrets import PullSecretAccounts
from trailgate_webhook.settings import ConfigurationError, Settings


@dataclass(frozen=True, slots=True)
class Registries:
    """The registries, as the settings say; nothing is open yet."""

    guard: Guard
    own: CredentialSource
    tls: ssl.SSLContext | None
    pull_secrets: tuple[str, ...]
    reader: Reader | None
    """There is one where there are pull secrets."""

    @classmethod
    def of(
        cls,
        settings: Settings,
        policies: Callable[[], Sequence[DeployPolicy]],
        reader: Reader | None,
    ) -> Registries:
        """Read what the settings name; raises ``ConfigurationError``."""
        guard = Guard(
            named=lambda: registries(policies()),
            insecure=frozenset(host.lower() for host in settings.insecure_registries),
            private=frozenset(host.lower() for host in settings.private_registries),
        )
        file = settings.docker_config
        own = Anonymous() if file is None else DockerConfigFile(file)
        return cls(guard, own, _tls(settings), settings.image_pull_secrets, reader)

    def client(self, credentials: CredentialSource) -> RegistryClient:
        """Make a client with connections and tokens of its own."""
        return RegistryClient(self.guard, credentials, tls=self.tls)


async def of_registries(
    registries_: Registries, metrics: Metrics, stack: AsyncExitStack
) -> RegistryEvidence:
    """Open the source of evidence; closed with ``stack``."""
    clients = await stack.enter_async_context(AsyncExitStack())

    async def connect(credentials: CredentialSource) -> RegistryClient:
        return await clients.enter_async_context(registries_.client(credentials))

    accounts = None
    if registries_.pull_secrets and registries_.reader is not None:
        accounts = PullSecretAccounts(
            registries_.reader, registries_.pull_secrets, registries_.own, connect
        )
        stack.push_async_callback(accounts.close)
    evidence = RegistryEvidence(
        await connect(registries_.own), registries_.guard.named, accounts=accounts
    )
    stack.push_async_callback(evidence.close)
    metrics.read_from(
        lambda: {
            "evidence_cache_bytes": evidence.cached_bytes,
            "evidence_images_in_flight": evidence.in_flight,
            "evidence_warm_total": evidence.warm,
            "evidence_fetches_total": evidence.fetched,
            "evidence_evictions_total": evidence.evicted,
        }
    )
    return evidence


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.registry_ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=settings.registry_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"--registry-ca {settings.registry_ca}: {error}") from error
