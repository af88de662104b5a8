"""Our own registry credentials: a mounted ``config.json``, followed like the TLS pair."""

from __future__ import annotations

from pathlib import Path

from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference
from trailgate.oci.credentials import MAX_CONFIG, Credential, DockerConfig
from trailgate_webhook.settings import ConfigurationError


class DockerConfigFile:
    """``CredentialSource`` on a file whose content may change; the last good one stays.

    Raises ``ConfigurationError`` where the first content can't be used. Content is
    compared, not time stamps: kubelet replaces a mounted Secret by renaming a link.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = self._read()
        self._config = self._parsed(self._content)

    def find(self, image: ImageReference) -> Credential | None:
        """Return the most specific credential for the image's repository."""
        return self._config.find(image)

    def describe(self) -> str:
        """Say where was looked."""
        return self._config.describe()

    def refresh(self) -> bool:
        """Load the file if its content changed, True if it did; ``ConfigurationError``."""
        content = self._read()
        if content == self._content:
            return False
        self._config = self._parsed(content)
        self._content = content
        return True

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_CONFIG + 1)
        except OSError as error:
            raise ConfigurationError(f"--docker-config {self._path}: {error.strerror}") from error
        if len(content) > MAX_CONFIG:
            raise ConfigurationError(
                f"--docker-config {self._path}: got more than {MAX_CONFIG} bytes"
            )
        return content

    def _parsed(self, content: bytes) -> DockerConfig:
        try:
            return DockerConfig.parse(content, str(self._path))
        except MalformedError as error:
            raise ConfigurationError(f"--docker-config: {error}") from error
