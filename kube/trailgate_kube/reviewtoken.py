"""The secret end of the gate's path: what tells the API server's reviews from made-up ones.

The API server sends no password with a review, and no client certificate unless it is set up
for that. What it always sends is the path that the webhook configuration names. Each segment
of that must be a DNS subdomain, so the token has lowercase letters and digits alone.
"""

from __future__ import annotations

import re
import secrets

from trailgate.model.errors import MalformedError

_BYTES = 32
_FORM = re.compile(rf"[0-9a-f]{{{2 * _BYTES}}}")
_IN_A_PATH = re.compile(rf"(?<=/){_FORM.pattern}(?![0-9a-f])")


def new() -> str:
    """Make one: 256 random bits, as 64 hexadecimal digits."""
    return secrets.token_hex(_BYTES)


def parse(content: bytes) -> str:
    """Read one, as it lies in a file; ``MalformedError``, whose text has nothing of it."""
    text = content.decode("ascii", errors="replace").strip()
    if _FORM.fullmatch(text) is None:
        raise MalformedError(
            f"got {len(text)} characters that are no review token, "
            f"expected {2 * _BYTES} lowercase hexadecimal digits"
        )
    return text


def hidden(text: str) -> str:
    """Take tokens out of what is to be logged: an API server's errors quote whole URLs."""
    return _IN_A_PATH.sub("…", text)
