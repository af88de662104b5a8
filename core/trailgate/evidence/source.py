"""Source repositories under one spelling, so that statements can be joined.

``git+https://GitHub.com/acme/web.git@refs/heads/main`` and
``git@github.com:acme/web`` are the same repository: ``https://github.com/acme/web``.
The path keeps its case, because not every forge ignores it.
"""

from __future__ import annotations

import re

from trailgate.model.errors import MalformedError

_MAX = 1024
_URL = re.compile(
    r"(?:git\+)?(?P<scheme>https?|ssh|git)://(?:(?P<user>[^@/]*)@)?"
    r"(?P<host>[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::(?P<port>[0-9]{1,5}))?/(?P<path>[^?#]*)"
)
_SCP = re.compile(r"(?P<user>[A-Za-z0-9._-]+)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^?#]*)")
_PATH = re.compile(r"[A-Za-z0-9._~+-]+(?:/[A-Za-z0-9._~+-]+)*")


def normalise(text: str) -> str:
    """Return ``https://host/path``; raises ``MalformedError`` for what isn't a repository.

    Credentials in the URL are refused: nobody signs those on purpose.
    """
    if len(text) > _MAX:
        raise MalformedError(f"got a repository of {len(text)} characters")
    match = _URL.fullmatch(text)
    scheme = match["scheme"] if match else "ssh"
    match = match or _SCP.fullmatch(text)
    if match is None:
        raise MalformedError(f"got repository {text[:200]!r}, expected https://host/path")
    user = match["user"]
    if user is not None and (scheme != "ssh" or ":" in user):
        raise MalformedError("got a repository URL with credentials in it, expected one without")
    path = match["path"].rstrip("/").removesuffix(".git").rstrip("/")
    if not _PATH.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
        raise MalformedError(f"got repository {text[:200]!r}, expected https://host/path")
    host = match["host"].lower().rstrip(".")
    return f"https://{host}{_port(match, scheme)}/{path}"


def split(uri: str) -> tuple[str, str | None]:
    """Split ``git+https://host/path@ref`` into the normalised repository and the ref."""
    scheme, _, rest = uri.partition("://")
    host, slash, tail = rest.partition("/")
    path, _, ref = tail.partition("@")
    return normalise(f"{scheme}://{host}{slash}{path}" if rest else uri), ref or None


def _port(match: re.Match[str], scheme: str) -> str:
    """Keep a web port that is not the usual one; an ssh port is not part of the name."""
    port = match.groupdict().get("port")
    usual = {"https": "443", "http": "80"}.get(scheme)
    return f":{port}" if port and usual and port != usual else ""
