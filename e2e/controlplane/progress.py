"""Run something long, saying every few seconds that it is still going."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.controlplane.cache import Say
from e2e.controlplane.errors import ControlPlaneError
from e2e.controlplane.process import supervised

_EVERY_SECONDS = 15.0
_TAIL_BYTES = 4_000


def to_stderr(text: str) -> None:
    """Say it to the person who waits."""
    stream = sys.__stderr__
    if stream is not None:
        stream.write(f"control plane: {text}\n")
        stream.flush()


def run(
    what: str,
    command: Sequence[str | Path],
    say: Say,
    seconds: float,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run to the end; raises ``ControlPlaneError`` with its last output on failure."""
    started = time.monotonic()
    say(f"{what} …")
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            supervised(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env=None if env is None else dict(env),
            cwd=cwd,
        )
        try:
            status = _wait(process, what, say, started, seconds)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")[-_TAIL_BYTES:].strip()
    took = time.monotonic() - started
    if status != 0:
        reason = "took too long" if status is None else f"ended with status {status}"
        raise ControlPlaneError(f"{what}: {reason} after {took:.0f} s\n{text}")
    say(f"{what}: done in {took:.0f} s")


def _wait(
    process: subprocess.Popen[bytes], what: str, say: Say, started: float, seconds: float
) -> int | None:
    while (elapsed := time.monotonic() - started) < seconds:
        try:
            return process.wait(min(_EVERY_SECONDS, seconds - elapsed))
        except subprocess.TimeoutExpired:
            say(f"{what} … {time.monotonic() - started:.0f} s")
    return None
