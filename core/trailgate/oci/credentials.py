"""Registry credentials as Docker's ``config.json`` and pull secrets hold them.

Format: https://kubernetes.io/docs/concepts/containers/images/#config-json
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference

_HUB_NAMES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
# Docker's mark for "the password is an identity token".
_TOKEN_USER: Final = "<token>"  # noqa: S105
MAX_CONFIG: Final = 1024 * 1024
"""Bytes of a ``config.json``, as many as a Secret may have."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A way to sign in to one registry; secrets don't show in ``repr``."""

    source: str
    """Where it was found, for a person: file or secret, and the entry."""
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """OAuth 2.0 refresh token."""
    registry_token: str = field(default="", repr=False)
    """Bearer token, sent as it is."""

    @property
    def basic(self) -> str | None:
        """The value of an ``Authorization: Basic`` header, where there is a user name."""
        if not self.username:
            return None
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


class CredentialSource(Protocol):
    """Finds credentials for an image."""

    def find(self, image: ImageReference) -> Credential | None:
        """Return the most specific credential for the image's repository."""

    def describe(self) -> str:
        """Say where was looked, for a person."""


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credentials at all."""

    def find(self, image: ImageReference) -> Credential | None:  # noqa: ARG002 (Protocol)
        """Return None."""
        return None

    def describe(self) -> str:
        """Say so."""
        return "no credentials configured"


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """One parsed ``config.json``."""

    origin: str
    entries: tuple[tuple[str, Credential], ...] = field(repr=False)
    """(normalised key, credential), most specific first."""
    helpers: bool = False
    """It names credential helpers; those are programs, and we run none."""

    @classmethod
    def parse(cls, content: bytes, origin: str) -> DockerConfig:
        """Read the file's (or secret's) bytes; ``MalformedError`` without quoting them."""
        try:
            document = _DECODER.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise MalformedError(f"{origin}: not a Docker config.json") from None
        entries = []
        for key, entry in document.auths.items():
            credential = _credential(entry, origin, key)
            if credential is not None:
                entries.append((_normalise(key), credential))
        entries.sort(key=lambda item: (-item[0].count("/"), "*" in item[0], -len(item[0])))
        return cls(origin, tuple(entries), bool(document.cred_helpers or document.creds_store))

    def find(self, image: ImageReference) -> Credential | None:
        """Return the entry with the longest path that covers the repository."""
        for key, credential in self.entries:
            if _covers(key, image):
                return credential
        return None

    def describe(self) -> str:
        """Say where was looked."""
        suffix = " (its credential helpers are not run)" if self.helpers else ""
        return f"{self.origin}{suffix}"


def load_docker_config(environ: Mapping[str, str], home: Path) -> CredentialSource:
    """Read ``$DOCKER_CONFIG/config.json`` or ``~/.docker/config.json``; absence is no error.

    For the command line. Raises ``MalformedError`` for a file that can't be read.
    """
    folder = environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else home / ".docker") / "config.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Anonymous()
    except OSError as error:
        raise MalformedError(f"{path}: {error.strerror}") from None
    if len(content) > MAX_CONFIG:
        raise MalformedError(f"{path}: got {len(content)} bytes, expected at most {MAX_CONFIG}")
    return DockerConfig.parse(content, str(path))


class _Auth(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class _Config(msgspec.Struct, rename="camel"):
    auths: dict[str, _Auth] = {}
    cred_helpers: dict[str, str] = {}
    creds_store: str = ""


_DECODER = msgspec.json.Decoder(_Config)


def _credential(entry: _Auth, origin: str, key: str) -> Credential | None:
    username, password = entry.username, entry.password
    if entry.auth:
        try:
            pair = base64.b64decode(entry.auth, validate=True).decode().rstrip("\0")
        except (binascii.Error, UnicodeDecodeError):
            raise MalformedError(
                f"{origin}: auth of {key} is not base64 of user:password"
            ) from None
        username, separator, password = pair.partition(":")
        if not separator:
            raise MalformedError(f"{origin}: auth of {key} is not base64 of user:password")
    identity = entry.identitytoken
    if username == _TOKEN_USER:
        username, password, identity = "", "", password
    if not (username or identity or entry.registrytoken):
        return None
    return Credential(f"{origin} entry {key}", username, password, identity, entry.registrytoken)


def _normalise(key: str) -> str:
    """``https://index.docker.io/v1/`` → ``docker.io``; scheme and trailing slashes go."""
    bare = re.sub(r"^https?://", "", key.strip()).rstrip("/")
    host, _, path = bare.partition("/")
    if path in ("v1", "v2"):
        path = ""
    host = "docker.io" if host.lower() in _HUB_NAMES else host.lower()
    return f"{host}/{path}" if path else host


def _covers(key: str, image: ImageReference) -> bool:
    host, _, path = key.partition("/")
    pattern = re.escape(host).replace(r"\*", r"[^.:]+")
    if not re.fullmatch(pattern, image.registry):
        return False
    return not path or image.repository == path or image.repository.startswith(f"{path}/")
