"""The spool in etcd: batches written as Admission objects, read in order, removed.

The webhook writes, the recorder reads and removes; each has a door of its own with
the rights that go with it. What a batch is: ``trailgate.ledger.spool``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from trailgate.ledger.spool import Batch
from trailgate.ledger.spoolwriter import (
    SpoolAmbiguousError,
    SpoolFullError,
    SpoolRefusedError,
    SpoolUnreachableError,
    SpoolWriteError,
    Written,
)
from trailgate_kube.api import Reader, Writer
from trailgate_kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    KubeError,
    NotFoundError,
    UnavailableError,
)
from trailgate_kube.resources import ADMISSIONS

_WRITE_SECONDS = 2.0
_PAGE = 50
"""Admissions in one page: each may be 1.5 MB, usually it is 2 kB."""
_QUOTA_FULL = "exceeded quota"
_QUOTA_UNKNOWN = "status unknown for quota"

_log = logging.getLogger(__name__)


class AdmissionWriter:
    """``BatchWriter`` on Admissions; needs no right but to create Admissions in one namespace."""

    def __init__(self, writer: Writer, namespace: str, *, seconds: float = _WRITE_SECONDS) -> None:
        self._writer = writer
        self._namespace = namespace
        self._seconds = seconds

    async def write(self, batch: Batch, *, seconds: float | None = None) -> Written:
        """Write one batch; when it returns, the batch is durable.

        Raises ``SpoolFullError``, ``SpoolRefusedError`` or ``SpoolUnreachableError`` (not
        written) or ``SpoolAmbiguousError``.
        """
        body = {
            "apiVersion": ADMISSIONS.api_version,
            "kind": ADMISSIONS.kind,
            "metadata": {"name": batch.name},
            "spec": batch.to_spec(),
        }
        limit = self._seconds if seconds is None else seconds
        try:
            await self._writer.create(ADMISSIONS, body, self._namespace, seconds=limit)
        except AlreadyExistsError:
            return Written.ALREADY_THERE
        except ForbiddenError as error:
            raise _forbidden(error) from error
        except UnavailableError as error:
            kind = SpoolAmbiguousError if error.maybe_done else SpoolUnreachableError
            raise kind(str(error)) from error
        except ConflictError as error:  # not of ours: the quota was counted by others meanwhile
            raise SpoolUnreachableError(str(error)) from error
        except KubeError as error:
            raise SpoolRefusedError(str(error)) from error
        return Written.CREATED


def _forbidden(error: ForbiddenError) -> SpoolWriteError:
    text = str(error)
    if _QUOTA_FULL in text:
        return SpoolFullError(text)
    if _QUOTA_UNKNOWN in text:  # made a moment ago, not counted yet
        return SpoolUnreachableError(text)
    return SpoolRefusedError(text)


@dataclass(frozen=True, slots=True)
class Stored:
    """One Admission as it lies in the spool; nothing about it is verified yet."""

    name: str
    uid: str
    created: str
    """RFC 3339, by the API server's clock."""
    spec: Mapping[str, Any]


class AdmissionReader:
    """Reads the spool in order, and removes what the ledger has."""

    def __init__(self, reader: Reader, writer: Writer, namespace: str) -> None:
        self._reader = reader
        self._writer = writer
        self._namespace = namespace

    async def pages(self, limit: int = _PAGE) -> AsyncGenerator[tuple[Stored, ...], None]:
        """Yield everything there, page by page, ordered by (boot, seq).

        The API server lists by name, and names are made to sort so. Raises ``KubeError``;
        ``GoneError`` means that it took too long: begin again.
        """
        following = ""
        while True:
            page = await self._reader.page(
                ADMISSIONS, self._namespace, limit=limit, following=following
            )
            if page.items:
                yield tuple(_stored(item) for item in page.items)
            following = page.following
            if not following:
                return

    async def remove(self, stored: Stored) -> bool:
        """Delete exactly this object; False where it was gone already.

        Raises ``ConflictError`` where another object has its name now.
        """
        try:
            await self._writer.delete(
                ADMISSIONS, stored.name, self._namespace, uid=stored.uid or None
            )
        except NotFoundError:
            return False
        return True


def _stored(item: Mapping[str, Any]) -> Stored:
    metadata = item.get("metadata", {})
    spec = item.get("spec")
    return Stored(
        str(metadata.get("name", "")),
        str(metadata.get("uid", "")),
        str(metadata.get("creationTimestamp", "")),
        spec if isinstance(spec, Mapping) else {},
    )
