"""The files of the operator's preparation: its keys in memory, its ledger, its checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trailgate.ledger import sqlite
from trailgate.ledger.known import read_known
from trailgate.ledger.lock import WriterLock
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.tlog import checkpoint, note
from trailgate.tlog.note import SigningKey
from trailgate_operator.configuration import ConfigurationError

_BESIDE = ("-wal", "-shm", "-journal", ".lock", "")
"""What SQLite and the lock leave beside a ledger whose making was cut off, and itself."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where keys go (a directory in memory), the ledger, and the checkpoint kept elsewhere."""

    keys: Path
    ledger: Path
    known: Path | None = None

    def check(self) -> None:
        """Refuse directories that aren't there; raises ``ConfigurationError``."""
        wanted = {
            "--keys-dir": self.keys.absolute().parent,
            "--ledger": self.ledger.absolute().parent,
        }
        if self.known is not None:
            wanted["--known-checkpoint"] = self.known.absolute().parent
        for option, directory in wanted.items():
            if not directory.is_dir():
                raise ConfigurationError(f"{option}: {directory} is not a directory")

    def ledger_vkey(self) -> str | None:
        """Return the vkey that the ledger says it has; None without one (``LedgerError``)."""
        if not self.ledger.exists():
            return None
        with SqliteReader(self.ledger) as reader:
            return reader.log().vkey

    def known_id(self) -> str | None:
        """Return the id of the key that signed the known checkpoint (``KnownCheckpointError``)."""
        signed = None if self.known is None else read_known(self.known)
        if signed is None:
            return None
        origin = checkpoint.read(signed).origin
        _, signatures = note.split(signed)
        return next((one.key_id.hex() for one in signatures if one.name == origin), "unsigned")

    def make_ledger(self, key: SigningKey) -> None:
        """Make an empty ledger, at once whole: killed before its end there is none.

        Raises ``LedgerError``, of which ``LedgerUnavailableError`` may pass.
        """
        draft = self.ledger.with_name(f".{self.ledger.name}.draft")
        lock = WriterLock(self.ledger)
        try:
            if self.ledger.exists():
                return
            for ending in _BESIDE:
                draft.with_name(draft.name + ending).unlink(missing_ok=True)
            sqlite.create(draft, key)
            draft.rename(self.ledger)
            draft.with_name(f"{draft.name}.lock").unlink(missing_ok=True)
            _sync(self.ledger.absolute().parent)
        finally:
            lock.release()

    def put_aside(self, what: str, mark: str) -> None:
        """Rename the ``ledger`` or the ``known`` checkpoint of a log that was given up.

        Nothing is deleted or overwritten; killed before its end, it may be done again.
        """
        path = self.ledger if what == "ledger" else self.known
        if path is None:
            return
        aside = path.with_name(f"{path.name}.given-up-{mark}")
        if aside.exists():
            raise ConfigurationError(f"{aside} is already there; nothing was changed")
        lock = WriterLock(self.ledger)
        try:
            for ending in ("-wal", "-shm", "") if what == "ledger" else ("",):
                source = path.with_name(path.name + ending)
                if source.exists():
                    source.rename(aside.with_name(aside.name + ending))
            _sync(path.absolute().parent)
        finally:
            lock.release()

    def write_keys(self, files: Mapping[str, bytes]) -> None:
        """Write private files for the main process (mode 0600), each at once whole.

        The directory is made where it isn't there, in one that is.
        """
        self.keys.mkdir(mode=0o700, exist_ok=True)
        for name, content in files.items():
            draft = self.keys / f".{name}.draft"
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            draft.replace(self.keys / name)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
