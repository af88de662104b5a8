"""The registry client: OCI distribution 1.1 over guarded HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from yarl import URL

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference
from trailgate.oci import documents, media, push
from trailgate.oci.credentials import Anonymous, CredentialSource
from trailgate.oci.errors import DigestMismatchError, NotFoundError, ProtocolError, TooLargeError
from trailgate.oci.guard import Guard
from trailgate.oci.limits import Limits
from trailgate.oci.registry import Descriptor, Manifest, Precondition, Pushed
from trailgate.oci.transport import Answer, Ask, Transport, location

_DIGEST_HEADER: Final = "Docker-Content-Digest"
_NO_REFERRERS: Final = (400, 404, 405, 406, 501)
_OK: Final = 200


class RegistryClient:
    """Reads and writes registries; implements ``Registry`` and ``RegistryWriter``.

    One instance serves all registries and keeps connections and tokens. Use it
    as an async context manager, in one event loop. Cancelling a call (such as by
    ``asyncio.timeout``) closes the connection that it used and no other.
    """

    def __init__(
        self,
        guard: Guard,
        credentials: CredentialSource | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._limits = limits or Limits()
        self._transport = Transport(guard, credentials or Anonymous(), self._limits, tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

    async def resolve(self, image: ImageReference) -> Digest:
        """Return the digest that the tag names now: a HEAD, or a GET where that says nothing."""
        if image.digest is not None:
            return image.digest
        ask = Ask(
            image, "HEAD", f"manifests/{image.tag or 'latest'}", headers={"Accept": media.ACCEPT}
        )
        answer = await self._transport.call(ask, (_OK, 405))
        claimed = _claimed(answer)
        if answer.status == _OK and claimed is not None:
            return claimed
        return (await self.manifest(image)).digest

    async def manifest(self, image: ImageReference) -> Manifest:
        """Fetch a manifest or index by digest, else by tag, else by ``latest``, and hash it."""
        reference = str(image.digest or image.tag or "latest")
        ask = Ask(
            image,
            "GET",
            f"manifests/{reference}",
            self._limits.manifest,
            {"Accept": media.ACCEPT},
        )
        answer = await self._transport.call(ask, (_OK,))
        expected = image.digest or _claimed(answer)
        self._check(image, expected, answer.content)
        try:
            found = documents.parse_manifest(
                answer.content, answer.headers.get("Content-Type"), answer.headers.get("ETag")
            )
        except MalformedError as error:
            raise ProtocolError(f"{image.registry}: manifest {reference}: {error}") from None
        if len(found.manifests) > self._limits.entries:
            raise TooLargeError(
                f"{image.registry}: index {reference} has {len(found.manifests)} entries, "
                f"at most {self._limits.entries} are read"
            )
        return found

    async def blob(self, image: ImageReference, digest: Digest, limit: int) -> bytes:
        """Fetch a blob of at most ``limit`` bytes and hash it."""
        bound = min(limit, self._limits.blob)
        ask = Ask(image, "GET", f"blobs/{digest}", bound)
        answer = await self._transport.call(ask, (_OK,))
        self._check(image, digest, answer.content)
        return answer.content

    async def referrers(self, image: ImageReference) -> tuple[Descriptor, ...]:
        """List the referrers API's descriptors over all pages; empty where it has none.

        A registry without that API says 404 or another refusal, or lets its web
        pages answer with 200 and another content type: both mean "none here".
        """
        if image.digest is None:
            raise MalformedError(f"got {image}, expected an image by digest")
        found: list[Descriptor] = []
        ask = Ask(
            image,
            "GET",
            f"referrers/{image.digest}",
            self._limits.manifest,
            {"Accept": media.OCI_INDEX},
        )
        for _ in range(self._limits.pages):
            answer = await self._transport.call(ask, (_OK, *_NO_REFERRERS))
            page = _page(image, answer)
            if page is None:
                if found:
                    raise ProtocolError(f"{image.registry}: a page of referrers is missing")
                return ()
            found.extend(page)
            if len(found) > self._limits.entries:
                raise TooLargeError(f"{image.registry}: more than {self._limits.entries} referrers")
            following = _next_page(image, answer)
            if following is None:
                return tuple(found)
            self._guard.admit_own(image.registry, "next page of referrers", following)
            ask = Ask(
                image, "GET", ask.path, self._limits.manifest, dict(ask.headers), url=following
            )
        raise TooLargeError(f"{image.registry}: more than {self._limits.pages} pages of referrers")

    async def push_blob(self, image: ImageReference, content: bytes) -> Digest:
        """Upload in one piece (POST, then PUT where the registry says), unless it is there."""
        digest = Digest.of(content)
        try:
            await self._transport.call(Ask(image, "HEAD", f"blobs/{digest}", push=True), (_OK,))
        except NotFoundError:
            pass
        else:
            return digest
        begin = Ask(image, "POST", "blobs/uploads/", push=True)
        target = location(image.registry, await self._transport.call(begin, (202,)))
        self._guard.admit_own(image.registry, "upload", target)
        separator = "&" if target.raw_query_string else "?"
        put = Ask(
            image,
            "PUT",
            "blobs/uploads/…",
            headers={"Content-Type": "application/octet-stream"},
            body=content,
            url=URL(f"{target}{separator}digest={digest}", encoded=True),
            push=True,
        )
        await self._transport.call(put, (201,))
        return digest

    async def push_manifest(
        self,
        image: ImageReference,
        content: bytes,
        media_type: str,
        precondition: Precondition | None = None,
    ) -> Pushed:
        """Store a manifest by the image's digest, else by its tag; ``ConflictError``."""
        digest = Digest.of(content)
        if image.digest not in (None, digest):
            raise DigestMismatchError(f"got a manifest that hashes to {digest}, not {image.digest}")
        ask = Ask(
            image,
            "PUT",
            f"manifests/{image.digest or image.tag or 'latest'}",
            headers={"Content-Type": media_type, **_conditions(precondition)},
            body=content,
            push=True,
        )
        answer = await self._transport.call(ask, (200, 201, 202))
        self._check(image, _claimed(answer), content)
        return Pushed(digest, "OCI-Subject" in answer.headers)

    async def attach(self, image: ImageReference, bundle: bytes, predicate_type: str) -> Digest:
        """Store a Sigstore bundle beside the image digest; returns its manifest's digest."""
        return await push.attach(self, image, bundle, predicate_type)

    @staticmethod
    def _check(image: ImageReference, expected: Digest | None, content: bytes) -> None:
        actual = Digest.of(content)
        if expected not in (None, actual):
            raise DigestMismatchError(
                f"{image.registry}: got content of {actual}, expected {expected}"
            )


def _claimed(answer: Answer) -> Digest | None:
    """Read the digest that a registry puts into its header; other algorithms say nothing to us."""
    try:
        return Digest.parse(answer.headers.get(_DIGEST_HEADER, "").strip())
    except MalformedError:
        return None


def _page(image: ImageReference, answer: Answer) -> tuple[Descriptor, ...] | None:
    content_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if answer.status != _OK or content_type not in (media.OCI_INDEX, "application/json"):
        return None
    try:
        return documents.parse_manifest(answer.content, media.OCI_INDEX).manifests
    except MalformedError as error:
        raise ProtocolError(f"{image.registry}: list of referrers: {error}") from None


def _next_page(image: ImageReference, answer: Answer) -> URL | None:
    """Read ``Link: <…>; rel="next"`` (RFC 8288)."""
    for header in answer.headers.getall("Link", []):
        for link in header.split(","):
            target, _, parameters = link.strip().partition(";")
            relation = parameters.replace(" ", "").replace('"', "").lower()
            if "rel=next" in relation.split(";") and target.startswith("<"):
                try:
                    return answer.url.join(URL(target.strip("<> "), encoded=True))
                except ValueError:
                    raise ProtocolError(
                        f"{image.registry}: the next page of referrers has no usable address"
                    ) from None
    return None


def _conditions(precondition: Precondition | None) -> Mapping[str, str]:
    if precondition is None:
        return {}
    if precondition.etag is None:
        return {"If-None-Match": "*"}
    return {"If-Match": precondition.etag}
