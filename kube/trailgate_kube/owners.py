"""Reads the objects that own pods: ``trailgate.assess.owners.OwnerReader`` on Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trailgate.assess.owners import OwnerUnavailableError
from trailgate.model.admission import Kind
from trailgate_kube.api import Reader
from trailgate_kube.errors import KubeError, NotFoundError

_SECONDS = 5.0


class KubeOwners:
    """Any kind that the API server knows, read when asked for."""

    def __init__(self, reader: Reader, *, seconds: float = _SECONDS) -> None:
        self._reader = reader
        self._seconds = seconds

    async def owner(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any] | None:
        """Return the object as the API server has it now; None where it is not there.

        Raises ``OwnerUnavailableError`` where that can't be known.
        """
        try:
            resource = await self._reader.discover(kind)
            if resource is None:
                return None
            where = namespace if resource.namespaced else None
            return await self._reader.get(resource, name, where, seconds=self._seconds)
        except NotFoundError:
            return None
        except KubeError as error:
            raise OwnerUnavailableError(f"{kind} {namespace}/{name}: {error}") from error
