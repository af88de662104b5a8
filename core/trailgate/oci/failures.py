"""Turning what aiohttp raises into our errors, with the cause and without foreign text."""

from __future__ import annotations

import errno

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from trailgate.oci.errors import HostRefusedError, OciError, ProtocolError, UnavailableError
from trailgate.oci.limits import Limits


def converted(error: Exception, host: str, limits: Limits) -> OciError:
    """Return the error to raise instead; the more specific classes come first."""
    match error:
        case aiohttp.InvalidURL():
            return HostRefusedError(f"{host}: not a host that can be contacted")
        case aiohttp.ClientConnectorError() if error.os_error.errno == errno.EACCES:
            return HostRefusedError(f"{host}: its address is not contacted")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return ProtocolError(f"{host}: got something that isn't HTTP/1.1")
    return UnavailableError(f"{host}: {_cause(error, limits)}")


def _cause(error: Exception, limits: Limits) -> str:
    cause = f"the connection failed ({type(error).__name__})"
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "not trusted")
            cause = f"TLS certificate: {reason}"
        case aiohttp.ClientSSLError():
            cause = "TLS failed"
        case aiohttp.ConnectionTimeoutError():
            cause = f"no connection within {limits.connect:g} s"
        case aiohttp.SocketTimeoutError():
            cause = f"silent for {limits.read:g} s"
        case aiohttp.ClientConnectorDNSError():
            cause = "the name doesn't resolve"
        case aiohttp.ClientConnectorError():
            cause = error.os_error.strerror or "no connection"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            cause = "it closed the connection early"
    return cause
