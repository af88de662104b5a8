"""Pull secrets that the admin listed: read by name when a Pod names one, and kept briefly.

Whoever may edit a namespace may also write its secrets. So one is used for requests of
its own namespace only, after our own credentials, against the registries that a policy
names, over connections and with tokens that are no other account's.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trailgate.assess.cache import BusyError, Flights
from trailgate.assess.pull import PullSecrets
from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference
from trailgate.oci.credentials import (
    MAX_CONFIG,
    Anonymous,
    Credential,
    CredentialSource,
    DockerConfig,
)
from trailgate.oci.errors import CredentialsError
from trailgate.oci.registry import Registry
from trailgate_kube.api import Reader
from trailgate_kube.errors import ForbiddenError, KubeError, NotFoundError, UnavailableError
from trailgate_kube.resources import SECRETS

#: Seconds for which a secret that was read is taken as it was.
FRESH = 30.0
#: Seconds for one GET.
_PATIENCE = 2.0
_JSON = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson")
_LEGACY = ("kubernetes.io/dockercfg", ".dockercfg")


@dataclass(slots=True)
class _Held:
    """What a secret held when it was read last; what its registry client looks at."""

    config: CredentialSource = field(default_factory=Anonymous)
    fresh_until: float = float("-inf")
    read: bool = False

    def find(self, image: ImageReference) -> Credential | None:
        return self.config.find(image)

    def describe(self) -> str:
        return self.config.describe()


@dataclass(frozen=True, slots=True)
class _Account:
    held: _Held
    registry: Registry


class PullSecretAccounts:
    """``trailgate.assess.pull.Accounts`` on the Secrets of a cluster.

    ``connect`` makes a registry client of its own for each, which the caller closes.
    Secrets that are not ``listed`` are never asked for.
    """

    def __init__(
        self,
        reader: Reader,
        listed: Sequence[str],
        own: CredentialSource,
        connect: Callable[[CredentialSource], Awaitable[Registry]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._listed = frozenset(listed)
        self._own = own
        self._connect = connect
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._reading = Flights[str, None](max(1, len(self._listed)))

    def listed(self, secrets: PullSecrets) -> tuple[str, ...]:
        """Return those that the admin listed."""
        names = (f"{secrets.namespace}/{name}" for name in secrets.names)
        return tuple(name for name in names if name in self._listed)

    def covers(self, image: ImageReference) -> bool:
        """Whether our own credentials have an entry for the image."""
        return self._own.find(image) is not None

    async def open(self, account: str, image: ImageReference) -> Registry | None:
        """Return the registry as the secret's holder sees it; ``CredentialsError``."""
        if account not in self._listed:
            raise CredentialsError(f"secret {account}: not listed, never read")
        one = self._accounts.get(account)
        if one is None:
            held = _Held()
            one = self._accounts[account] = _Account(held, await self._connect(held))
        if one.held.fresh_until <= self._clock():
            try:
                await self._reading.join(account, lambda: self._read(account, one.held))
            except BusyError as error:
                raise CredentialsError(f"secret {account}: too much at once") from error
        return None if one.held.find(image) is None else one.registry

    async def close(self) -> None:
        """Stop what is being read."""
        await self._reading.close()

    async def _read(self, account: str, held: _Held) -> None:
        namespace, _, name = account.partition("/")
        try:
            secret = await self._reader.get(SECRETS, name, namespace, seconds=_PATIENCE)
            held.config, held.read = config_of(account, secret), True
        except UnavailableError as error:
            if not held.read:
                raise CredentialsError(
                    f"secret {account}: the API server doesn't answer"
                ) from error
        except (KubeError, CredentialsError) as error:
            held.config, held.read = Anonymous(), False
            raise _told(account, error) from error
        held.fresh_until = self._clock() + FRESH


def config_of(account: str, secret: Mapping[str, Any]) -> DockerConfig:
    """Read a pull secret of either type; ``CredentialsError`` without quoting it."""
    kind, data = secret.get("type"), secret.get("data")
    key = dict((_JSON, _LEGACY)).get(str(kind))
    if key is None:
        raise CredentialsError(
            f"secret {account}: got type {str(kind)[:80]!r}, expected {_JSON[0]} or {_LEGACY[0]}"
        )
    text = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(text, str) or len(text) > 2 * MAX_CONFIG:
        raise CredentialsError(f"secret {account}: got no {key} of at most {MAX_CONFIG} bytes")
    try:
        content = base64.b64decode(text, validate=True)
        if key == _LEGACY[1]:
            content = b'{"auths":' + content + b"}"
        return DockerConfig.parse(content, f"secret {account}")
    except binascii.Error:
        raise CredentialsError(f"secret {account}: {key} is not base64") from None
    except MalformedError as error:
        raise CredentialsError(str(error)) from None


def _told(account: str, error: Exception) -> CredentialsError:
    if isinstance(error, CredentialsError):
        return error
    if isinstance(error, NotFoundError):
        return CredentialsError(f"secret {account} is not there")
    if isinstance(error, ForbiddenError):
        return CredentialsError(f"secret {account}: the gate has no right to get it")
    return CredentialsError(f"secret {account}: {type(error).__name__}")
