"""What the Kubernetes API can answer instead of what was asked for."""

from __future__ import annotations

from trailgate.model.errors import TrailgateError


class KubeError(TrailgateError):
    """The root of this package's errors; the text names the request and the cause."""


class ConfigurationError(KubeError):
    """There is no usable kubeconfig, and we don't run in a cluster."""

    exit_code = 2


class UnavailableError(KubeError):
    """No answer, or one that says "later": unreachable, timed out, 429, 5xx.

    ``maybe_done`` is False only where the request certainly had no effect (it was
    never sent, or the server turned it away unread); otherwise it may have been
    carried out.
    """

    def __init__(self, text: str, *, maybe_done: bool) -> None:
        super().__init__(text)
        self.maybe_done = maybe_done


class ForbiddenError(KubeError):
    """403: no right to do it, or an admission plugin (a quota, a policy) refused."""


class UnauthorizedError(KubeError):
    """401: the credential is not (or no longer) accepted."""


class NotFoundError(KubeError):
    """404: the object, or its whole kind, is not there."""


class AlreadyExistsError(KubeError):
    """409 on create: an object of that name is there."""


class ConflictError(KubeError):
    """409 otherwise: a precondition (uid, resourceVersion) does not hold."""


class GoneError(KubeError):
    """410: the resourceVersion or continue token is too old; list again."""


class InvalidError(KubeError):
    """400, 413, 415, 422: the API server does not accept this object or request."""
