"""What a Git checkout says about itself, asked of ``git``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from trailgate.cli.errors import InputError

_SECONDS = 30
_CREDENTIALS = re.compile(r"(?<=://)[^@/]*@")


@dataclass(frozen=True, slots=True)
class Checkout:
    """A working tree: its commit, where it came from, and whether it was changed since."""

    commit: str
    ref: str | None
    """Full name of the branch; None where HEAD is detached."""
    origin: str | None
    """The remote's URL without credentials; None where there is no remote."""
    modified: bool
    """Tracked files differ from the commit."""


def inspect(directory: Path) -> Checkout | None:
    """Ask ``git``; None where this is no checkout. Raises ``InputError``."""
    program = shutil.which("git")
    if program is None:
        return None
    if _git(program, directory, "rev-parse", "--is-inside-work-tree") != "true":
        return None
    commit = _git(program, directory, "rev-parse", "--verify", "HEAD^{commit}")
    if commit is None:
        raise InputError(f"{directory}: a Git checkout without a commit")
    origin = _git(program, directory, "remote", "get-url", "origin")
    changes = _git(program, directory, "status", "--porcelain", "--untracked-files=no")
    return Checkout(
        commit=commit,
        ref=_git(program, directory, "symbolic-ref", "--quiet", "HEAD"),
        origin=_CREDENTIALS.sub("", origin, count=1) if origin else None,
        modified=changes is None or bool(changes),
    )


def _git(program: str, directory: Path, *arguments: str) -> str | None:
    """Run one question; None where git says no."""
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    command = [program, "-C", str(directory), "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(  # noqa: S603  our own arguments, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            env=environment,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"git {arguments[0]} in {directory}: {error}") from error
    if b"dubious ownership" in done.stderr:
        raise InputError(
            f"{directory}: git does not trust this checkout, because it belongs to another user; "
            f"'git config --global --add safe.directory {directory.resolve()}' says it is fine"
        )
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
