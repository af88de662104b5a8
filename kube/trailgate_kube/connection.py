"""How to reach an API server and as whom: a kubeconfig, or the pod we run in.

The ``kubernetes`` package reads the configuration (contexts, certificates, tokens,
exec plugins, the service account's token that is renewed on disk); requests go
through aiohttp directly, because its generated client gives neither deadlines to
watches nor raw objects.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from trailgate_kube.errors import ConfigurationError

_CONNECTIONS = 64
_KEEPALIVE_SECONDS = 60.0
_RENEW_SECONDS = 5.0
_LINE_BYTES = 8 << 20


@dataclass(slots=True)
class Connection:
    """An open connection pool and the identity that goes with it."""

    kubeconfig: Path | None
    session: aiohttp.ClientSession
    _context: ssl.SSLContext
    _configuration: Configuration
    _renewed_at: float
    _renewing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def host(self) -> str:
        """``https://host:port``, without a slash at the end."""
        return str(self._configuration.host).rstrip("/")

    @property
    def proxy(self) -> str | None:
        """The kubeconfig's ``proxy-url``."""
        return self._configuration.proxy

    @property
    def server_name(self) -> str | None:
        """The kubeconfig's ``tls-server-name``."""
        return self._configuration.tls_server_name

    async def authorization(self) -> dict[str, str]:
        """Return the headers that say who we are; reads a renewed token file again."""
        token = await self._configuration.get_api_key_with_prefix(
            "BearerToken", alias="authorization"
        )
        return {"Authorization": token} if token else {}

    async def renew(self) -> bool:
        """Read the credential again; False where that was done only seconds ago.

        Raises ``ConfigurationError``.
        """
        async with self._renewing:
            if time.monotonic() - self._renewed_at < _RENEW_SECONDS:
                return False
            self._configuration = await _load(self.kubeconfig)
            if self._configuration.cert_file:
                self._context.load_cert_chain(
                    self._configuration.cert_file, self._configuration.key_file
                )
            self._renewed_at = time.monotonic()
            return True

    async def close(self) -> None:
        """Close the pool."""
        await self.session.close()
        await asyncio.sleep(0)  # aborted connections are closed in the loop's next round


async def connect(kubeconfig: Path | None) -> Connection:
    """Read a kubeconfig, or without one the pod's service account.

    Raises ``ConfigurationError``. Nothing is sent yet.
    """
    configuration = await _load(kubeconfig)
    try:
        context = _tls(configuration)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise _refused(kubeconfig, error) from error
    connector = aiohttp.TCPConnector(
        limit=_CONNECTIONS, ssl=context, keepalive_timeout=_KEEPALIVE_SECONDS
    )
    session = aiohttp.ClientSession(
        connector=connector, read_bufsize=_LINE_BYTES, cookie_jar=aiohttp.DummyCookieJar()
    )
    # As if long ago, so that a credential that was stale when we read it is renewed at once.
    started = time.monotonic() - _RENEW_SECONDS
    return Connection(kubeconfig, session, context, configuration, started)


async def _load(kubeconfig: Path | None) -> Configuration:
    configuration = Configuration()
    try:
        if kubeconfig is None:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), client_configuration=configuration, persist_config=False
            )
    except (
        ConfigException,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        yaml.YAMLError,
    ) as error:
        raise _refused(kubeconfig, error) from error
    return configuration


def _refused(kubeconfig: Path | None, error: Exception) -> ConfigurationError:
    source = "in-cluster configuration" if kubeconfig is None else f"kubeconfig {kubeconfig}"
    return ConfigurationError(f"{source}: {error}")


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data
    )
    # Authorities made by older installers lack extensions that Python 3.13 insists on.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
