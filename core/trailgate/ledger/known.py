"""The checkpoint that is known from outside: what a ledger must still agree with.

A database put back from yesterday is a perfectly good database; only something kept
elsewhere can tell. The recorder keeps one small file beside its other state, and the
store refuses to write where the ledger has less, or other, than that file says.
"""

from __future__ import annotations

import os
from pathlib import Path

from trailgate.ledger.errors import (
    KnownCheckpointError,
    LedgerError,
    LedgerRolledBackError,
    LedgerUnavailableError,
)
from trailgate.ledger.store import LedgerReader
from trailgate.tlog import checkpoint
from trailgate.tlog.errors import TlogError
from trailgate.tlog.merkle import tree_root
from trailgate.tlog.note import VerifierKey


def read_known(path: Path) -> str | None:
    """Return the known checkpoint of a file; None where there is no such file.

    ``KnownCheckpointError`` where it can't be read or has no checkpoint: not knowing is
    not the same as nothing known. Who signed it is for ``check_known`` to see.
    """
    try:
        signed = path.read_text(encoding="utf-8")
        checkpoint.read(signed)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise KnownCheckpointError(f"can't read the known checkpoint {path}: {error}") from error
    except TlogError as error:
        raise KnownCheckpointError(
            f"the file {path} has no checkpoint ({error}); {_remedy(path)}"
        ) from error
    return signed


def require_known(path: Path) -> str:
    """Return the known checkpoint of a file (``KnownCheckpointError``, also without one)."""
    signed = read_known(path)
    if signed is None:
        raise KnownCheckpointError(f"there is no known checkpoint {path}; {_remedy(path)}")
    return signed


def begin_known(path: Path, ledger: LedgerReader) -> None:
    """Make the file for a ledger that has no entries yet, before the first one is appended.

    ``KnownCheckpointError`` where there are entries: whoever puts an older ledger back
    could as well remove the file that would tell.
    """
    size = size_of(ledger)
    if size:
        raise KnownCheckpointError(
            f"the known checkpoint {path} is not there, and the ledger has {size} entries: "
            f"nothing tells whether an older ledger was put back; {_remedy(path)}"
        )
    write_known(path, ledger.checkpoint())


def _remedy(path: Path) -> str:
    return (
        "verify the ledger against a checkpoint that was kept elsewhere (trailgate ledger verify "
        f"--checkpoint FILE), then run: trailgate ledger checkpoint --ledger … > {path}"
    )


def write_known(path: Path, signed: str) -> None:
    """Put a signed checkpoint in the file, durably and at once whole.

    ``LedgerUnavailableError`` where that fails; it may be tried again.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(signed)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise LedgerUnavailableError(f"can't keep the known checkpoint {path}: {error}") from error


def check_known(ledger: LedgerReader, signed: str, key: VerifierKey) -> None:
    """Hold a ledger against a checkpoint known from outside (``LedgerRolledBackError``)."""
    try:
        known = checkpoint.verify(signed, [key])
        ours = checkpoint.verify(ledger.checkpoint(), [key])
    except TlogError as error:
        raise LedgerRolledBackError(
            f"can't compare the ledger with the known checkpoint: {error}"
        ) from error
    if known.size > ours.size:
        raise LedgerRolledBackError(
            f"the ledger has {ours.size} entries, the known checkpoint {known.size}: "
            f"entries {ours.size} to {known.size - 1} are missing (an older ledger was put back)"
        )
    root = tree_root(known.size, ledger.node)
    if root != known.root:
        raise LedgerRolledBackError(
            f"the first {known.size} entries have root {root.hex()}, "
            f"the known checkpoint says {known.root.hex()}: the history was rewritten"
        )


def size_of(ledger: LedgerReader) -> int:
    """Return how many entries a ledger's newest checkpoint says it has (``LedgerError``)."""
    try:
        return checkpoint.read(ledger.checkpoint()).size
    except TlogError as error:
        raise LedgerError(f"the ledger's newest checkpoint can't be read: {error}") from error
