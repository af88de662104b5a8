"""What can go wrong between us and a registry.

Texts name host, status and cause. They never carry a response body: it is
written by whoever runs the registry, and ends up in front of other people.
"""

from __future__ import annotations

from trailgate.model.errors import TrailgateError


class OciError(TrailgateError):
    """A registry could not be asked, or did not answer as one must."""


class NotFoundError(OciError):
    """The registry answered that this manifest or blob is not there (a definitive absence)."""


class UnavailableError(OciError):
    """No answer, or a temporary one: time-out, refused connection, 429, 5xx. Retryable."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """Seconds that the registry asked to wait for, where it did."""


class UnauthorizedError(OciError):
    """401 or 403; the text says which source of credentials was tried."""


class CredentialsError(OciError):
    """Credentials that should be used can't be read; the text names where, never what."""


class HostRefusedError(OciError):
    """We refuse to contact this host or address; nothing was sent."""


class TooLargeError(OciError):
    """More bytes, entries or pages than the limits allow."""


class DigestMismatchError(OciError):
    """The bytes received do not hash to the digest that was asked for."""


class ProtocolError(OciError):
    """The answer is not what the OCI distribution specification describes."""


class ConflictError(OciError):
    """A conditional write found that somebody else wrote in between."""
