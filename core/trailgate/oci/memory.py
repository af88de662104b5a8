"""A registry in memory: the twin of ``RegistryClient``, held to the same contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference
from trailgate.oci import documents, media, push
from trailgate.oci.errors import (
    ConflictError,
    DigestMismatchError,
    NotFoundError,
    ProtocolError,
    TooLargeError,
    UnavailableError,
)
from trailgate.oci.registry import Descriptor, Manifest, Precondition, Pushed

_Name = tuple[str, str]


@dataclass(slots=True)
class MemoryRegistry:
    """Every registry at once, keyed by host and repository. Not for production."""

    referrers_api: bool = True
    """Serve the OCI 1.1 referrers API and say ``OCI-Subject``."""
    conditional: bool = True
    """Give entity tags and honour preconditions."""
    down: set[str] = field(default_factory=set)
    """Hosts that raise ``UnavailableError``."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(method, image or digest) of every call, in order."""
    _blobs: dict[_Name, dict[Digest, bytes]] = field(default_factory=dict)
    _manifests: dict[_Name, dict[Digest, tuple[bytes, str]]] = field(default_factory=dict)
    _tags: dict[_Name, dict[str, Digest]] = field(default_factory=dict)

    async def resolve(self, image: ImageReference) -> Digest:
        """Return the digest that the tag names now."""
        self._ask("resolve", image)
        return image.digest or self._tagged(image)

    async def manifest(self, image: ImageReference) -> Manifest:
        """Return the manifest by digest, else by tag, else by ``latest``."""
        self._ask("manifest", image)
        digest = image.digest or self._tagged(image)
        try:
            content, media_type = self._manifests[_name(image)][digest]
        except KeyError:
            raise NotFoundError(f"{image.registry}: 404, {image} is not there") from None
        etag = f'"{digest}"' if self.conditional else None
        return _parsed(image, content, media_type, etag)

    async def blob(self, image: ImageReference, digest: Digest, limit: int) -> bytes:
        """Return a blob of at most ``limit`` bytes."""
        self._ask("blob", image, str(digest))
        try:
            content = self._blobs[_name(image)][digest]
        except KeyError:
            raise NotFoundError(f"{image.registry}: 404, {digest} is not there") from None
        if len(content) > limit:
            raise TooLargeError(f"{image.registry}: got more than {limit} bytes")
        if Digest.of(content) != digest:
            raise DigestMismatchError(f"{image.registry}: got other content, expected {digest}")
        return content

    async def referrers(self, image: ImageReference) -> tuple[Descriptor, ...]:
        """List manifests whose subject is the image's digest, where there is such an API."""
        self._ask("referrers", image)
        if image.digest is None:
            raise MalformedError(f"got {image}, expected an image by digest")
        if not self.referrers_api:
            return ()
        stored = self._manifests.get(_name(image), {}).values()
        found = [documents.parse_manifest(content, media_type) for content, media_type in stored]
        return tuple(_listed(one) for one in found if one.subject == image.digest)

    async def push_blob(self, image: ImageReference, content: bytes) -> Digest:
        """Store a blob."""
        self._ask("push_blob", image)
        digest = Digest.of(content)
        self._blobs.setdefault(_name(image), {})[digest] = content
        return digest

    async def push_manifest(
        self,
        image: ImageReference,
        content: bytes,
        media_type: str,
        precondition: Precondition | None = None,
    ) -> Pushed:
        """Store a manifest by the image's digest, else by its tag; ``ConflictError``."""
        self._ask("push_manifest", image)
        digest = Digest.of(content)
        if image.digest not in (None, digest):
            raise DigestMismatchError(f"got a manifest that hashes to {digest}, not {image.digest}")
        manifest = _parsed(image, content, media_type, None)
        name, tag = _name(image), image.tag or "latest"
        if image.digest is None:
            self._check(image, self._tags.get(name, {}).get(tag), precondition)
            self._tags.setdefault(name, {})[tag] = digest
        self._manifests.setdefault(name, {})[digest] = (content, media_type)
        return Pushed(digest, self.referrers_api and manifest.subject is not None)

    async def attach(self, image: ImageReference, bundle: bytes, predicate_type: str) -> Digest:
        """Store a Sigstore bundle beside the image digest."""
        return await push.attach(self, image, bundle, predicate_type)

    def corrupt(self, image: ImageReference, digest: Digest, content: bytes) -> None:
        """Make a blob's bytes others than its digest says (for tests)."""
        self._blobs[_name(image)][digest] = content

    def tags(self, image: ImageReference) -> Mapping[str, Digest]:
        """Return the tags of the image's repository."""
        return dict(self._tags.get(_name(image), {}))

    def _ask(self, method: str, image: ImageReference, what: str = "") -> None:
        self.asked.append((method, what or str(image)))
        if image.registry in self.down:
            raise UnavailableError(f"{image.registry}: no connection")

    def _tagged(self, image: ImageReference) -> Digest:
        try:
            return self._tags[_name(image)][image.tag or "latest"]
        except KeyError:
            raise NotFoundError(f"{image.registry}: 404, {image} is not there") from None

    def _check(
        self, image: ImageReference, now: Digest | None, precondition: Precondition | None
    ) -> None:
        if precondition is None or not self.conditional:
            return
        if precondition.etag != (f'"{now}"' if now else None):
            raise ConflictError(f"{image.registry}: 412, somebody else wrote {image} in between")


def _name(image: ImageReference) -> _Name:
    return image.registry, image.repository


def _parsed(image: ImageReference, content: bytes, media_type: str, etag: str | None) -> Manifest:
    try:
        return documents.parse_manifest(content, media_type, etag)
    except MalformedError as error:
        raise ProtocolError(f"{image.registry}: manifest: {error}") from None


def _listed(manifest: Manifest) -> Descriptor:
    """Describe as a registry lists it: the config's type stands in for a missing one."""
    kind = manifest.artifact_type or (manifest.config.media_type if manifest.config else None)
    return Descriptor(
        media.OCI_INDEX if manifest.is_index else manifest.media_type,
        manifest.digest,
        len(manifest.content),
        kind,
        manifest.annotations,
    )
