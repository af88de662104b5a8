"""Free ports on loopback, chosen so that nobody else is likely to take them."""

from __future__ import annotations

import random
import socket

_FIRST, _LAST = 18_000, 31_999
"""Below Linux's range for outgoing connections (32768 up), which would race with us."""
_TRIES = 200


def free(count: int) -> list[int]:
    """Return ``count`` different ports on 127.0.0.1 that nobody listens on just now."""
    dice = random.SystemRandom()
    found: list[int] = []
    for _ in range(_TRIES):
        port = dice.randint(_FIRST, _LAST)
        if port in found:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports between {_FIRST} and {_LAST} on 127.0.0.1")
