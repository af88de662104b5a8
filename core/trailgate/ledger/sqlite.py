"""The ledger in SQLite: one writer, group commit, and an index only when it is durable.

A single thread owns the writing connection. It commits whatever was submitted while
the previous commit was on its way to the disk, and never waits for a fuller batch:
one caller pays one fsync, a thousand callers share one.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from trailgate.ledger import connection as files
from trailgate.ledger.batch import Batch, require_named
from trailgate.ledger.errors import (
    EntryMisplacedError,
    LedgerCorruptError,
    LedgerError,
    LedgerExistsError,
    LedgerKeyError,
    LedgerRolledBackError,
    LedgerUnavailableError,
)
from trailgate.ledger.filesystem import require_local
from trailgate.ledger.known import check_known
from trailgate.ledger.lock import WriterLock
from trailgate.ledger.sql import script, statements
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import NOTHING, Entry
from trailgate.tlog import checkpoint as checkpoints
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.errors import TlogError
from trailgate.tlog.merkle import Frontier, tree_root
from trailgate.tlog.note import SigningKey

_SQL = statements("statements.sql")

#: Entries of one commit at most, so that one crowd can't hold the next one up for long.
_MAX_ENTRIES: Final = 4096

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Call:
    entries: Sequence[Entry]
    positions: Mapping[str, bytes]
    forget: Collection[str]
    done: Future[tuple[int, ...]]


def create(path: Path, key: SigningKey, *, clock: Clock = time.time) -> None:
    """Make a new, empty ledger for the log named as its key, with its first checkpoint.

    ``LedgerExistsError`` where there is a file already, ``UnsuitableFileSystemError``,
    or another ``LedgerError``.
    """
    if path.exists():
        raise LedgerExistsError(f"{path} is already there; nothing was changed")
    require_local(path.absolute().parent)
    lock = WriterLock(path)
    try:
        with files.converted(path):
            _create(path, key, int(clock()))
    finally:
        lock.release()


def _create(path: Path, key: SigningKey, now: int) -> None:
    head = Checkpoint(key.name, 0, Frontier().root())
    connection = files.create(path, script("schema.sql"))
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SQL["insert_log"], (key.name, str(key.verifier), now))
        connection.execute(_SQL["insert_checkpoint"], (0, head.sign(key), now))
        connection.execute("COMMIT")
    finally:
        connection.close()
    path.chmod(0o600)
    directory = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class SqliteStore(SqliteReader):
    """The ledger's one writer, a ``LedgerStore``; see the module for how it commits.

    Opening raises ``LedgerLockedError`` (naming the other writer), ``LedgerKeyError``
    (not this ledger's key), ``LedgerRolledBackError`` (the ledger is behind ``known`` or
    contradicts it), ``UnsuitableFileSystemError``, ``LedgerCorruptError`` or
    ``LedgerUnavailableError``.
    """

    def __init__(
        self,
        path: Path,
        key: SigningKey,
        *,
        known: str | None = None,
        clock: Clock = time.time,
    ) -> None:
        require_local(path.absolute().parent)
        super().__init__(path)
        self._key = key
        self._clock = clock
        self._frontier: Frontier | None = None
        self._newest: tuple[int, int] | None = None
        self._writer: sqlite3.Connection | None = None
        self._identity = _identity(path)
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        try:
            self._writer_lock = WriterLock(path)
        except BaseException:
            super().close()
            raise
        try:
            self._require_key()
            if known is not None:
                check_known(self, known, key.verifier)
            with files.converted(path):
                self._connect()
        except BaseException:
            self._disconnect()
            self._writer_lock.release()
            super().close()
            raise
        self._thread = threading.Thread(target=self._run, name="trailgate-ledger", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def submit(
        self,
        entries: Sequence[Entry],
        *,
        positions: Mapping[str, bytes] = NOTHING,
        forget: Collection[str] = (),
    ) -> Future[tuple[int, ...]]:
        """Append in one transaction; see ``LedgerStore.submit``."""
        done: Future[tuple[int, ...]] = Future()
        with self._closing:
            if self._closed:
                done.set_exception(LedgerUnavailableError(f"{self.path} is closed"))
            else:
                self._calls.put(_Call(tuple(entries), dict(positions), tuple(forget), done))
        return done

    def append(
        self,
        entries: Sequence[Entry],
        *,
        positions: Mapping[str, bytes] = NOTHING,
        forget: Collection[str] = (),
    ) -> tuple[int, ...]:
        """Append, and return the indices once they are durable."""
        return self.submit(entries, positions=positions, forget=forget).result()

    def find(self, key: str) -> int | None:
        """Return the index of the entry that a dedupe key names (``LedgerCorruptError``)."""
        with self.snapshot():
            tree = Frontier.load(self.count(), self.node)
            try:
                head = checkpoints.verify(self.checkpoint(), [self._key.verifier])
            except TlogError as error:
                raise LedgerCorruptError(f"{self.path} has no good checkpoint: {error}") from error
            if (head.size, head.root) != (tree.size, tree.root()):
                raise LedgerCorruptError(f"{self.path} is not what its checkpoint says")
            return _index_of(self._connection, key, tree)

    def close(self) -> None:
        """Commit what was submitted, fold the write-ahead log in, and release the lock."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._calls.put(None)
        self._thread.join()
        # The last connection to close folds the write-ahead log into the file.
        super().close()
        self._disconnect()
        self._writer_lock.release()

    def _require_key(self) -> None:
        log = self.log()
        if log.vkey != str(self._key.verifier):
            raise LedgerKeyError(
                f"{self.path} is the log {log.vkey}, the key given is {self._key.verifier}"
            )

    # From here on: the writer thread's own (and __init__'s, before it starts).

    def _run(self) -> None:
        while True:
            calls, last = self._gather()
            if calls:
                self._settle(calls)
            if last:
                return

    def _gather(self) -> tuple[list[_Call], bool]:
        """Wait for one call, then take all that are there; True with the last ones."""
        calls: list[_Call] = []
        entries = 0
        item = self._calls.get()
        while item is not None:
            if item.done.set_running_or_notify_cancel():
                calls.append(item)
                entries += len(item.entries)
            if entries >= _MAX_ENTRIES:
                return calls, False
            try:
                item = self._calls.get_nowait()
            except queue.Empty:
                return calls, False
        return calls, True

    def _settle(self, calls: list[_Call]) -> None:
        """Commit the calls, and tell each what became of it."""
        try:
            outcomes = self._commit(calls)
        except EntryMisplacedError as error:
            if not self._settle_each(calls):
                calls[0].done.set_exception(error)
        except LedgerError as error:
            self._disconnect()
            for call in calls:
                call.done.set_exception(error)
        except Exception as error:  # noqa: BLE001  the thread must survive, its callers be told
            self._disconnect()
            if self._settle_each(calls):
                return
            unexpected = LedgerError(f"{self.path}: {type(error).__name__}: {error}")
            unexpected.__cause__ = error
            calls[0].done.set_exception(unexpected)
        else:
            for call, indices in zip(calls, outcomes, strict=True):
                call.done.set_result(indices)

    def _settle_each(self, calls: list[_Call]) -> bool:
        """Settle several calls one by one, so that only the one at fault fails."""
        if len(calls) == 1:
            return False
        for call in calls:
            self._settle([call])
        return True

    def _commit(self, calls: list[_Call]) -> list[tuple[int, ...]]:
        with files.converted(self.path):
            connection, frontier = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                # A trigger would act within this very transaction.
                files.require_ledger(self.path, connection)
                self._require_unchanged(connection, frontier)
                batch = Batch(frontier, lambda key: _index_of(connection, key, frontier))
                outcomes = [batch.add(call.entries, call.positions, call.forget) for call in calls]
                newest = self._write(connection, batch)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        self._frontier, self._newest = batch.frontier, newest
        return outcomes

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> tuple[int, int] | None:
        signed = batch.checkpoint(self._key)
        many = connection.executemany
        many(_SQL["set_position"], batch.positions.items())
        many(_SQL["insert_disclosure"], batch.shared.items())
        alone = ((index, key, row) for (index, key), row in batch.alone.items())
        many(_SQL["insert_entry_disclosure"], alone)
        many(_SQL["forget_disclosure"], ((key,) for key in batch.forgotten))
        many(_SQL["forget_entry_disclosure"], ((key,) for key in batch.forgotten))
        if signed is None:
            return self._newest
        many(_SQL["insert_entry"], batch.entries)
        many(_SQL["insert_dedupe"], batch.keys.items())
        many(_SQL["insert_node"], batch.nodes)
        now, size = int(self._clock()), batch.frontier.size
        if self._newest is not None:
            connection.execute(_SQL["drop_superseded_checkpoint"], (self._newest[0], now))
        connection.execute(_SQL["insert_checkpoint"], (size, signed, now))
        return size, now

    def _connect(self) -> tuple[sqlite3.Connection, Frontier]:
        """Return the writing connection and the tree's frontier, opened anew where needed."""
        if _identity(self.path) != self._identity:
            raise LedgerRolledBackError(
                f"{self.path} was removed or replaced while it was being written"
            )
        if self._writer is not None and self._frontier is not None:
            return self._writer, self._frontier
        connection = files.open_writer(self.path)
        try:
            files.require_ledger(self.path, connection)
            frontier, newest = self._load(connection)
        except BaseException:
            connection.close()
            raise
        self._writer, self._frontier, self._newest = connection, frontier, newest
        return connection, frontier

    def _load(self, connection: sqlite3.Connection) -> tuple[Frontier, tuple[int, int]]:
        """Read the frontier back, and hold it against the last one that was acknowledged."""
        row = connection.execute(_SQL["read_newest_checkpoint"]).fetchone()
        (last,) = connection.execute(_SQL["last_entry"]).fetchone()
        size = 0 if last is None else last + 1

        read = partial(_node, connection)
        try:
            frontier = Frontier.load(size, read)
            head = checkpoints.verify(row[1] if row else "", [self._key.verifier])
        except TlogError as error:
            raise LedgerCorruptError(f"{self.path} has no good checkpoint: {error}") from error
        if (head.size, head.root) != (size, frontier.root()):
            raise LedgerCorruptError(
                f"{self.path} has {size} entries with root {frontier.root().hex()}, "
                f"its checkpoint says {head.size} and {head.root.hex()}: "
                "run trailgate ledger verify"
            )
        before = self._frontier
        if (
            before is not None
            and before.size
            and (before.size > size or tree_root(before.size, read) != before.root())
        ):
            raise LedgerRolledBackError(
                f"{self.path} was replaced while it was being written: "
                f"{before.size} entries were acknowledged, {size} other ones are there"
            )
        return frontier, (row[0], row[2])

    def _require_unchanged(self, connection: sqlite3.Connection, frontier: Frontier) -> None:
        (last,) = connection.execute(_SQL["last_entry"]).fetchone()
        size = 0 if last is None else last + 1
        if size != frontier.size:
            raise LedgerRolledBackError(
                f"{self.path} has {size} entries, expected {frontier.size}: "
                "something else has written to it"
            )

    def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except sqlite3.Error:
                # It failed before, and what became of that has been told already.
                return


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _node(connection: sqlite3.Connection, level: int, position: int) -> bytes:
    found = connection.execute(_SQL["read_node"], (level, position)).fetchone()
    if found is None:
        raise LedgerCorruptError(f"the ledger's tree lacks node {level}/{position}")
    return bytes(found[0])


def _index_of(connection: sqlite3.Connection, key: str, tree: Frontier) -> int | None:
    row = connection.execute(_SQL["read_dedupe"], (key,)).fetchone()
    if row is None:
        return None
    index, record = int(row[0]), row[1]
    return require_named(key, index, record, tree, partial(_node, connection))
