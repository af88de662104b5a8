"""What a run tells while it goes on."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Tell it past pytest's capture."""
    stream = sys.__stderr__
    if stream is not None:
        stream.write(f"   e2e {text}\n")
        stream.flush()
