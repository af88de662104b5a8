"""The small languages inside a policy's strings, each checked by one function.

A check returns None where the text is well formed, else what was expected: the
words that follow "expected" in an error. Compiling the text is ``match``'s business.
"""

from __future__ import annotations

import re
from datetime import timedelta

from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError
from trailgate.model.image import ImageReference
from trailgate.model.key import public_key

LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
NAMESPACE = r"^[a-z0-9*?]([-a-z0-9*?]{0,61}[a-z0-9*?])?$"
DURATION = r"^([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?$"
SERVICE_ACCOUNT = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$"
_SERVICE_ACCOUNT_USER = "system:serviceaccount:"
_SOURCE_SEGMENT = re.compile(r"[A-Za-z0-9._~+*-]+")
_REF_SEGMENT = re.compile(r"[A-Za-z0-9._@+=#,*-]+")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?")
# Two stars in one segment are matched in quadratic time at worst; more are refused.
_MAX_STARS = 2


def plain(text: str) -> str | None:
    """Check for control characters and surrounding white space."""
    if text != text.strip() or not text.isprintable():
        return "text without control characters and surrounding white space"
    return None


def label(text: str) -> str | None:
    """Check a name such as ``release``."""
    if _full(LABEL, text):
        return None
    return "lower-case letters, digits and '-', at most 63"


def key(text: str) -> str | None:
    """Check a public key's PEM."""
    try:
        public_key(text.encode())
    except MalformedError as error:
        return f"a public key in PEM: {error}"
    return None


def digest(text: str) -> str | None:
    """Check ``sha256:<hex>``."""
    try:
        Digest.parse(text)
    except MalformedError:
        return "sha256:<64 lower-case hex digits>"
    return None


def user(text: str) -> str | None:
    """Check a user name, which is not a service account's."""
    if text.startswith(_SERVICE_ACCOUNT_USER):
        namespace, _, name = text.removeprefix(_SERVICE_ACCOUNT_USER).partition(":")
        return f"the service account under serviceAccounts, as {namespace}/{name}"
    return plain(text)


def service_account(text: str) -> str | None:
    """Check ``namespace/name``."""
    return None if _full(SERVICE_ACCOUNT, text) else "namespace/name"


def namespace_pattern(text: str) -> str | None:
    """Check a namespace's name, or a glob of ``*`` and ``?``."""
    if not _full(NAMESPACE, text):
        return "a namespace's name, with * and ? as the only wildcards"
    if text.count("*") > _MAX_STARS:
        return f"at most {_MAX_STARS} stars"
    return None


def duration(text: str) -> str | None:
    """Check hours, minutes and seconds in Go's writing."""
    if text and _full(DURATION, text) and seconds(text) > timedelta(0):
        return None
    return "a positive duration such as 720h, 90m or 1h30m"


def seconds(text: str) -> timedelta:
    """Read a duration that ``duration`` found well formed."""
    match = re.fullmatch(DURATION, text)
    hours, minutes, rest = (
        (int((part or "0x")[:-1]) for part in match.groups()) if match else (0,) * 3
    )
    return timedelta(hours=hours, minutes=minutes, seconds=rest)


def image_pattern(text: str) -> str | None:
    """Check ``host/path`` with wildcards in the path."""
    host, slash, path = text.partition("/")
    if not slash or "*" in host or not _is_registry(host):
        return "host/path, with a literal registry host such as ghcr.io or docker.io"
    if "?" in text or "@" in path or ":" in path:
        return "a repository without tag and digest, with * and ** as the only wildcards"
    return _wildcards(path) or _normal(text)


def repository(text: str) -> str | None:
    """Check ``host/path`` without wildcards."""
    return "a repository without wildcards" if "*" in text else image_pattern(text)


def repository_pattern(text: str) -> str | None:
    """Check ``https://host/path`` with wildcards in the path."""
    scheme, _, rest = text.partition("://")
    host, _, path = rest.partition("/")
    if scheme != "https" or not _HOST.fullmatch(host):
        return "https://host/path, with a literal lower-case host"
    if path.endswith((".git", "/")):
        return "no trailing .git and no trailing /: repositories are compared without"
    if not all(_SOURCE_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        return "https://host/path, with * and ** as the only wildcards"
    return _wildcards(path)


def ref_pattern(text: str) -> str | None:
    """Check a full Git ref with wildcards."""
    if not text.startswith("refs/") or not all(
        _REF_SEGMENT.fullmatch(segment) for segment in text.split("/")
    ):
        return "a full Git ref such as refs/heads/main, with * and ** as the only wildcards"
    return _wildcards(text)


def _wildcards(path: str) -> str | None:
    segments = path.split("/")
    if segments.count("**") > 1:
        return "at most one **"
    for segment in segments:
        if segment != "**" and "**" in segment:
            return "** as a whole path segment"
        if segment != "**" and segment.count("*") > _MAX_STARS:
            return f"at most {_MAX_STARS} stars in one path segment"
    return None


def _is_registry(host: str) -> bool:
    return "." in host or ":" in host or host == "localhost"


def _normal(text: str) -> str | None:
    """Refuse what no normalised name can match, such as ``docker.io/nginx``."""
    sample = text.replace("**", "a/a").replace("*", "a")
    try:
        image = ImageReference.parse(sample)
    except MalformedError:
        return "host/path in lower case, as in ghcr.io/acme/web"
    if image.name == sample:
        return None
    if sample == text:
        return f"{image.name}, which is what runtimes make of it"
    return f"a pattern that normalised names can match (runtimes make {image.name} of {sample})"


def _full(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None and not text.endswith("\n")
