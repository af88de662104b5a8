"""Processes that die with us, with their log in a file and a deadline for being ready."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.errors import PortTakenError, StartError

_SUPERVISOR = Path(__file__).with_name("supervise.py")
_TAIL_LINES = 15
_ADDRESS_IN_USE = ("address already in use", "Address already in use")


def supervised(command: Sequence[str | Path], watched: int | None = None) -> list[str]:
    """Wrap a command so that it ends with process ``watched`` (this one by default)."""
    pid = os.getpid() if watched is None else watched
    prefix = [sys.executable, "-I", "-S", str(_SUPERVISOR), str(pid), "--"]
    return [*prefix, *map(str, command)]


@dataclass
class Process:
    """One running command under its supervisor."""

    name: str
    log: Path
    pid: int
    """Of the command itself (not of the supervisor): what a test kills with -9."""
    _popen: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start it; stdout and stderr are appended to ``log``. Raises ``StartError``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            popen = subprocess.Popen(
                supervised(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=None if env is None else dict(env),
                cwd=cwd,
            )
        assert popen.stdout is not None
        with popen.stdout as pipe:
            line = pipe.readline()
        if not line.strip().isdigit():
            popen.wait()
            raise StartError(f"{name}: the supervisor did not start it\n{tail(log)}")
        return cls(name, log, int(line), popen)

    @property
    def returncode(self) -> int | None:
        """The exit status once it has ended (128 + signal when killed), else None."""
        return self._popen.poll()

    def wait_ready(self, probe: Callable[[], bool], seconds: float) -> None:
        """Poll ``probe`` until it is true; raises ``StartError`` with the log's tail."""
        deadline = time.monotonic() + seconds
        while True:
            if self.returncode is not None:
                text = tail(self.log)
                taken = any(words in text for words in _ADDRESS_IN_USE)
                error = PortTakenError if taken else StartError
                raise error(f"{self.name} ended with status {self.returncode}\n{text}")
            if probe():
                return
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} was not ready after {seconds:g} s\n{tail(self.log)}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the command itself with SIGKILL and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait(10)

    def stop(self, seconds: float = 10) -> int:
        """Ask it to end, insist after a few seconds; returns its exit status."""
        if self.returncode is None:
            self._popen.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float) -> int:
        """Wait for the end; returns the exit status, raises ``StartError`` on time-out."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self._popen.kill()
            self._popen.wait()
            raise StartError(f"{self.name} did not end in {seconds:.0f} s") from error


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log, indented, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"  (no log: {error})"
    body = "\n".join(f"  {line[:400]}" for line in text.splitlines()[-lines:])
    return f"  … {log}:\n{body}"
