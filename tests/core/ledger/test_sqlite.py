"""What only the SQLite store can do wrong: files, locks, disks, other processes."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from trailgate.ledger import connection, filesystem, sqlite
from trailgate.ledger.errors import (
    KnownCheckpointError,
    LedgerCorruptError,
    LedgerError,
    LedgerExistsError,
    LedgerKeyError,
    LedgerLockedError,
    LedgerRolledBackError,
    LedgerUnavailableError,
    UnsuitableFileSystemError,
)
from trailgate.ledger.known import begin_known, read_known, write_known
from trailgate.ledger.memory import MemoryStore
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import Entry
from trailgate.tlog import checkpoint
from trailgate.tlog.merkle import leaf_hash, root_of
from trailgate.tlog.note import SigningKey

CORE = Path(__file__).parents[3] / "core"


def entry(number, size=1500):
    return Entry(f"record {number} ".encode().ljust(size, b"x"), f"key {number}")


def require_sound(path, key):
    """Every record is in the tree that the newest checkpoint signs."""
    with SqliteReader(path) as reader:
        records = list(reader.records())
        signed = checkpoint.verify(reader.checkpoint(), [key.verifier])
        assert signed.size == len(records)
        assert signed.root == root_of(map(leaf_hash, records))
        return records


# Files


def test_what_was_appended_is_there_after_opening_again(path, key):
    for start in range(0, 9, 3):
        with SqliteStore(path, key) as store:
            indices = store.append([entry(n) for n in range(start + 3)])
            assert indices == tuple(range(start + 3))
    assert len(require_sound(path, key)) == 9


def test_closing_folds_the_write_ahead_log_into_one_file(path, key):
    with SqliteStore(path, key) as store:
        store.append([entry(0)])
        assert path.with_name("ledger.db-wal").stat().st_size > 0
    assert not path.with_name("ledger.db-wal").exists()
    alone = path.with_name("copy.db")
    shutil.copy(path, alone)
    assert len(require_sound(alone, key)) == 1


def test_a_ledger_is_never_made_over_another_file(path, key):
    before = path.read_bytes()
    with pytest.raises(LedgerExistsError):
        sqlite.create(path, key)
    assert path.read_bytes() == before


def test_only_the_owner_reads_a_new_ledger(path):
    assert path.stat().st_mode & 0o777 == 0o600


def test_other_files_are_refused(tmp_path, key):
    missing, text, other, newer = (tmp_path / name for name in ("a.db", "b.db", "c.db", "d.db"))
    text.write_text("not a database, and long enough to have a header " * 40)
    with sqlite3.connect(other) as made:
        made.execute("CREATE TABLE t (x)")
    made.close()
    sqlite.create(newer, key)
    with sqlite3.connect(newer) as made:
        made.execute("PRAGMA user_version = 2")
    made.close()
    for path, error, words in (
        (missing, LedgerError, "there is no ledger"),
        (text, LedgerCorruptError, "not a database"),
        (other, LedgerCorruptError, "is not a ledger"),
        (newer, LedgerError, "schema version 2, expected 1"),
    ):
        with pytest.raises(error, match=words):
            SqliteReader(path)
        with pytest.raises(error, match=words):
            SqliteStore(path, key)
    assert not missing.exists()


def test_another_key_is_refused_before_anything_is_written(path, key):
    with pytest.raises(LedgerKeyError, match="the key given is"):
        SqliteStore(path, SigningKey(key.name, bytes(32)))
    with SqliteStore(path, key) as store:
        store.append([entry(0)])


def test_a_read_only_directory_can_be_read(path, key):
    with SqliteStore(path, key) as store:
        store.append([entry(0), entry(1)])
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import os; from pathlib import Path;"
        "from trailgate.ledger.sqlite_reader import SqliteReader;"
        "os.getuid() or os.setuid(65534);"
        "print(len(list(SqliteReader(Path(sys.argv[2])).records())))"
    )
    with tempfile.TemporaryDirectory() as vault:
        copy = Path(vault) / "ledger.db"
        shutil.copy(path, copy)
        copy.chmod(0o444)
        Path(vault).chmod(0o555)
        command = [sys.executable, "-c", code, str(CORE), str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.stderr) == ("2", "")
        assert [file.name for file in Path(vault).iterdir()] == ["ledger.db"]
        Path(vault).chmod(0o755)


def test_a_reader_sees_appends_of_a_running_writer_and_a_snapshot_does_not(path, key):
    with SqliteStore(path, key) as store, SqliteReader(path) as reader:
        store.append([entry(0)])
        assert reader.count() == 1
        with reader.snapshot():
            assert reader.count() == 1
            store.append([entry(1)])
            assert reader.count() == 1
            assert len(list(reader.records())) == 1
        assert reader.count() == 2


def test_every_commit_reaches_the_disk(path):
    writer = connection.open_writer(path)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    writer.close()


# File systems


@pytest.mark.parametrize(
    ("number", "name"),
    [(0x6969, "NFS"), (0xFF534D42, "CIFS"), (0xFE534D42, "SMB2"), (0x65735546, "FUSE")],
)
def test_network_file_systems_are_refused(path, key, monkeypatch, number, name):
    new = path.with_name("new.db")
    monkeypatch.setattr(filesystem, "filesystem_type", lambda directory: number)
    with pytest.raises(UnsuitableFileSystemError, match=f"is on {name}"):
        SqliteStore(path, key)
    with pytest.raises(UnsuitableFileSystemError, match=f"is on {name}"):
        sqlite.create(new, key)
    assert not new.exists()


def test_the_file_systems_number_is_the_kernels(tmp_path):
    said = subprocess.run(
        ["stat", "-f", "-c", "%t", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert filesystem.filesystem_type(tmp_path) == int(said.stdout, 16) != 0
    assert filesystem.filesystem_type(Path("/proc")) == 0x9FA0
    filesystem.require_local(tmp_path)
    with pytest.raises(LedgerError, match="can't look at"):
        filesystem.filesystem_type(tmp_path / "missing")


# One writer


def test_a_second_writer_is_told_who_the_first_is(path, key):
    with SqliteStore(path, key) as store:
        with pytest.raises(LedgerLockedError, match=f"written by pid {os.getpid()} on "):
            SqliteStore(path, key)
        store.append([entry(0)])
    with SqliteStore(path, key) as store:
        assert store.append([entry(1)]) == (1,)


def test_the_lock_dies_with_its_holder(path, key):
    holder = start_writer(path, key, callers=1)
    holder.stdout.readline()
    with pytest.raises(LedgerLockedError, match=f"written by pid {holder.pid} on "):
        SqliteStore(path, key)
    holder.kill()
    holder.communicate()
    with SqliteStore(path, key) as store:
        store.append([entry("after")])


# Disks that are full, or fail


def test_a_full_database_refuses_and_recovers(path, key):
    with SqliteStore(path, key) as store:
        store.append([entry(0)], positions={"p": b"0"})
        pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
        before = store.checkpoint()
        with pytest.raises(LedgerUnavailableError, match="SQLITE_FULL") as caught:
            store.append([entry(n) for n in range(1, 200)], positions={"p": b"1"})
        assert caught.value.retryable
        assert store.checkpoint() == before
        assert store.positions() == {"p": b"0"}
        assert store.append([entry(n) for n in range(1, 200)], positions={"p": b"1"}) == tuple(
            range(1, 200)
        )
    assert len(require_sound(path, key)) == 200


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"can't mount a small disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_loses_nothing_and_needs_no_restart(small_disk, key):
    path, ballast = small_disk / "ledger.db", small_disk / "ballast"
    ballast.write_bytes(bytes(400_000))
    sqlite.create(path, key)
    acknowledged = 0
    with SqliteStore(path, key) as store:
        for number in range(2000):
            try:
                store.append([entry(number)], positions={"n": b"%d" % number})
            except LedgerUnavailableError:
                break
            acknowledged += 1
        assert 10 < acknowledged < 1000
        for _ in range(3):
            with pytest.raises(LedgerUnavailableError) as caught:
                store.append([entry(n) for n in range(acknowledged, acknowledged + 50)])
            assert caught.value.retryable
        assert len(list(store.records())) == acknowledged
        assert store.positions() == {"n": b"%d" % (acknowledged - 1)}
        ballast.unlink()
        assert store.append([entry(acknowledged)]) == (acknowledged,)
    records = require_sound(path, key)
    assert records == [entry(n).record for n in range(acknowledged + 1)]


class Failing:
    """A connection that fails once, at one statement, the way a bad disk does."""

    def __init__(self, real, statement, code):
        self._real, self._statement, self._code = real, statement, code

    def __getattr__(self, name):
        return getattr(self._real, name)

    def execute(self, sql, *values):
        return self._try("execute", sql, *values)

    def executemany(self, sql, *values):
        return self._try("executemany", sql, *values)

    def _try(self, name, sql, *values):
        if sql.startswith(self._statement) and self._code is not None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, self._code = self._code, None
            error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
            raise error
        return getattr(self._real, name)(sql, *values)


STATEMENTS = [
    "BEGIN",
    "SELECT max",
    "INSERT INTO position",
    "INSERT INTO disclosure",
    "INSERT INTO entry_disclosure",
    "DELETE FROM disclosure",
    "INSERT INTO entry",
    "INSERT INTO dedupe",
    "INSERT INTO node",
    "DELETE FROM checkpoint",
    "INSERT INTO checkpoint",
    "COMMIT",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_error_at_any_statement_leaves_nothing_half_written(path, key, statement):
    def call(number):
        made = Entry(b"x%d" % number, f"k{number}", disclosures={f"d{number}": b"1"})
        return store.append([made], positions={"p": b"%d" % number})

    with SqliteStore(path, key) as store:
        assert call(0) == (0,)
        store._writer = Failing(store._writer, statement, sqlite3.SQLITE_IOERR_FSYNC)
        with pytest.raises(LedgerUnavailableError, match="nothing was stored, try again"):
            call(1)
        assert list(store.records()) == [b"x0"]
        assert store.positions() == {"p": b"0"}
        assert dict(store.disclosures()) == {"d0": b"1"}
        assert checkpoint.read(store.checkpoint()).size == 1
        assert call(2) == (1,)
        assert call(1) == (2,)
    assert require_sound(path, key) == [b"x0", b"x2", b"x1"]


def test_a_corrupt_answer_is_not_retryable(path, key):
    with SqliteStore(path, key) as store:
        store._writer = Failing(store._writer, "INSERT INTO entry", sqlite3.SQLITE_CORRUPT)
        with pytest.raises(LedgerCorruptError) as caught:
            store.append([entry(0)])
        assert not getattr(caught.value, "retryable", False)


def test_a_callers_bug_hurts_nobody_else(path, key):
    with SqliteStore(path, key) as store:
        hold = threading.Event()
        first = store.submit([entry(0)])
        first.add_done_callback(lambda _: hold.wait(10))
        # Queued behind the first, and so in one commit.
        calls = [store.submit([entry(1)])]
        calls.append(store.submit([entry(2)], positions={"p": object()}))
        calls.append(store.submit([entry(3)]))
        hold.set()
        assert calls[0].result() == (1,)
        with pytest.raises(LedgerError, match="not supported") as caught:
            calls[1].result()
        assert not getattr(caught.value, "retryable", False)
        assert calls[2].result() == (2,)
    assert len(require_sound(path, key)) == 3


def test_another_program_that_holds_the_file_delays_and_is_named(path, key, monkeypatch):
    monkeypatch.setattr(connection, "_BUSY_SECONDS", 0.05)
    with SqliteStore(path, key) as store:
        intruder = sqlite3.connect(path, isolation_level=None)
        intruder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError, match="database is locked"):
            store.append([entry(0)])
        intruder.execute("ROLLBACK")
        intruder.close()
        assert store.append([entry(0)]) == (0,)


# Rolled back, replaced, tampered with


def test_yesterdays_database_is_refused(path, key, tmp_path):
    with SqliteStore(path, key) as store:
        store.append([entry(0)])
    shutil.copy(path, tmp_path / "yesterday.db")
    with SqliteStore(path, key) as store:
        store.append([entry(1), entry(2)])
        known = store.checkpoint()
    with SqliteStore(path, key, known=known) as store:
        store.append([entry(3)])
    shutil.copy(tmp_path / "yesterday.db", path)
    with pytest.raises(
        LedgerRolledBackError, match=r"1 entries, the known checkpoint 3: entries 1 to 2"
    ):
        SqliteStore(path, key, known=known)
    # Nothing was locked or changed by the refusal, and without knowing it would open.
    SqliteStore(path, key).close()


def test_a_rewritten_history_is_refused(path, key, tmp_path):
    other = MemoryStore(key)
    other.append([entry("other")])
    with SqliteStore(path, key) as store:
        store.append([entry(0), entry(1)])
    with pytest.raises(LedgerRolledBackError, match="the history was rewritten"):
        SqliteStore(path, key, known=other.checkpoint())


def test_a_known_checkpoint_of_another_key_or_none_at_all_is_refused(path, key):
    other = MemoryStore(SigningKey(key.name, bytes(32)))
    for known in (other.checkpoint(), "", "not a note\n"):
        with pytest.raises(LedgerRolledBackError, match="can't compare"):
            SqliteStore(path, key, known=known)


def test_the_empty_checkpoint_is_known_to_every_ledger(path, key):
    with SqliteStore(path, key) as store:
        known = store.checkpoint()
        store.append([entry(0)])
    SqliteStore(path, key, known=known).close()


def test_a_file_replaced_under_a_running_writer_is_noticed(path, key, tmp_path):
    with SqliteStore(path, key) as store:
        store.append([entry(0)])
        path.rename(tmp_path / "moved.db")
        with pytest.raises(LedgerRolledBackError, match="removed or replaced"):
            store.append([entry(1)])
        sqlite.create(tmp_path / "fresh.db", key)
        (tmp_path / "fresh.db").rename(path)
        with pytest.raises(LedgerRolledBackError, match="removed or replaced"):
            store.append([entry(1)])


def test_a_foreign_write_under_a_running_writer_is_noticed(path, key):
    with SqliteStore(path, key) as store:
        store.append([entry(0), entry(1)])
        intruder = sqlite3.connect(path)
        intruder.execute("DELETE FROM entry WHERE idx = 1")
        intruder.commit()
        intruder.close()
        with pytest.raises(LedgerRolledBackError, match="has 1 entries, expected 2"):
            store.append([entry(2)])


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM entry WHERE idx = 2",
        "DELETE FROM node WHERE level = 0 AND position = 2",
        "UPDATE node SET hash = zeroblob(32) WHERE level = 1 AND position = 0",
        "UPDATE node SET hash = zeroblob(31) WHERE level = 1 AND position = 0",
        "DELETE FROM checkpoint",
        "UPDATE checkpoint SET note = replace(note, 'trail', 'trial')",
        "UPDATE checkpoint SET note = ''",
        "DELETE FROM log",
    ],
)
def test_a_writer_does_not_build_on_what_does_not_hold(path, key, tampering):
    with SqliteStore(path, key) as store:
        store.append([entry(0), entry(1), entry(2)])
    with sqlite3.connect(path) as intruder:
        intruder.execute(tampering)
    intruder.close()
    with pytest.raises(LedgerError):
        SqliteStore(path, key)
    # And the lock is free again.
    with pytest.raises(LedgerError) as caught:
        SqliteStore(path, key)
    assert not isinstance(caught.value, LedgerLockedError)


# Checkpoints


def test_the_last_checkpoint_of_each_hour_is_kept(path, key):
    now = [1_700_000_000 // 3600 * 3600]
    with SqliteStore(path, key, clock=lambda: now[0]) as store:
        for number in range(6):
            store.append([entry(number)])
            now[0] += 1200
        sizes = [size for size, _ in store.checkpoints()]
    # Size 0 is of create's own, real, hour.
    assert sizes == [0, 3, 6]
    with SqliteStore(path, key, clock=lambda: now[0] - 1) as store:
        store.append([entry(6)])
        assert [size for size, _ in store.checkpoints()] == [0, 3, 7]


# The known checkpoint's file


def test_the_known_checkpoint_is_kept_whole(tmp_path, key):
    file = tmp_path / "known"
    assert read_known(file) is None
    write_known(file, "one")
    signed = MemoryStore(key).checkpoint()
    write_known(file, signed)
    assert read_known(file) == signed
    assert [item.name for item in tmp_path.iterdir()] == ["known"]


def test_an_unreadable_known_checkpoint_is_not_none(tmp_path):
    with pytest.raises(LedgerError, match="can't read"):
        read_known(tmp_path)
    (tmp_path / "known").write_bytes(b"\xff")
    with pytest.raises(KnownCheckpointError, match="can't read"):
        read_known(tmp_path / "known")
    for nothing in ("", "\n", "not a checkpoint\n", "log.example/trail\n12\n"):
        (tmp_path / "known").write_text(nothing)
        with pytest.raises(KnownCheckpointError, match=r"has no checkpoint .*trailgate ledger"):
            read_known(tmp_path / "known")
    with pytest.raises(LedgerUnavailableError, match="can't keep"):
        write_known(tmp_path / "missing" / "known", "x")


def test_without_a_known_checkpoint_only_an_empty_ledger_may_begin(tmp_path, path, key):
    file = tmp_path / "known"
    with SqliteStore(path, key) as store:
        begin_known(file, store)
        assert read_known(file) == store.checkpoint()
        file.unlink()
        store.append([entry(0)])
        with pytest.raises(KnownCheckpointError, match="not there, and the ledger has 1 entries"):
            begin_known(file, store)
    assert not file.exists()


# Crashes

WRITER = """
import sys, threading, os
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.store import Entry
from trailgate.tlog.note import SigningKey

store = SqliteStore(Path(sys.argv[2]), SigningKey.parse(sys.argv[3]))
run, callers = sys.argv[4], int(sys.argv[5])

def call(caller):
    number = 0
    while True:
        key = f"{run}/{caller}/{number}"
        entries = [Entry((key + f"/{n} ").encode().ljust(1500, b"x"), f"{key}/{n}") for n in range(2)]
        indices = store.append(entries, positions={f"{run}/{caller}": b"%d" % number})
        os.write(1, f"{key} {indices[0]} {indices[1]}\\n".encode())
        number += 1

for caller in range(callers):
    threading.Thread(target=call, args=(caller,), daemon=True).start()
threading.Event().wait()
"""


def start_writer(path, key, run="run", callers=8):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(CORE), str(path), key.encode(), run, str(callers)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_kill_9_under_load_loses_no_acknowledged_entry(path, key):
    acknowledged = {}
    for run in range(25):
        writer = start_writer(path, key, run=str(run))
        # Killed while it works: at its start, or after so many acknowledgements.
        wanted = [0, 1, 2, 3, 5, 8, 13, 40, 100, 250][run % 10]
        lines = [writer.stdout.readline() for _ in range(wanted)]
        killer = threading.Timer(0.001 * (run % 7), writer.send_signal, [signal.SIGKILL])
        killer.start()
        rest, _ = writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        for line in "".join([*lines, rest]).splitlines(keepends=True):
            assert line.endswith("\n")
            name, first, second = line.split()
            acknowledged[f"{name}/0"], acknowledged[f"{name}/1"] = int(first), int(second)
    records = require_sound(path, key)
    assert len(acknowledged) > 1000
    for name, index in acknowledged.items():
        assert records[index].split()[0].decode() == name
    # Both entries of a call are there or neither is, with the position that goes with them.
    names = {record.split()[0].decode() for record in records}
    assert len(names) == len(records)
    with SqliteStore(path, key) as store:
        for caller, value in store.positions().items():
            assert f"{caller}/{int(value)}/0" in names
            assert f"{caller}/{int(value)}/1" in names
            assert f"{caller}/{int(value) + 1}/0" not in names
            assert f"{caller}/{int(value) + 1}/1" not in names


def test_the_lock_file_cannot_be_made(tmp_path, key, monkeypatch, path):
    def refuse(*args, **kwargs):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("trailgate.ledger.lock.os.open", refuse)
    with pytest.raises(LedgerError, match="can't open the lock"):
        SqliteStore(path, key)


# The schema is data too


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE entry RENAME TO e0; CREATE VIEW entry AS SELECT idx, record FROM e0",
        "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM dedupe; END",
        "CREATE TABLE other (id INTEGER)",
        "CREATE INDEX other ON entry (record)",
        "DROP TABLE position",
        "ALTER TABLE entry RENAME COLUMN record TO other",
        "ALTER TABLE entry ADD COLUMN more TEXT",
        """PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = sql || ' ' WHERE name = 'entry'""",
    ],
)
def test_a_ledger_with_other_tables_views_or_triggers_is_not_opened(path, key, change):
    with SqliteStore(path, key) as store:
        store.append([entry(0)])
    with sqlite3.connect(path) as intruder:
        intruder.executescript(change)
    intruder.close()
    with pytest.raises(LedgerCorruptError, match="has not the tables of a ledger, or others"):
        SqliteReader(path)
    with pytest.raises(LedgerCorruptError, match="has not the tables"):
        SqliteStore(path, key)


def test_a_trigger_that_comes_while_it_runs_does_nothing(path, key):
    with SqliteStore(path, key) as store:
        store.append([entry(0)])
        put = "CREATE TRIGGER t AFTER INSERT ON node BEGIN DELETE FROM dedupe; END"
        with sqlite3.connect(path) as intruder:
            intruder.execute(put)
        intruder.close()
        with pytest.raises(LedgerCorruptError, match="or others beside them: t"):
            store.append([entry(1)])
        with sqlite3.connect(path) as owner:
            assert owner.execute("SELECT count(*) FROM dedupe").fetchone() == (1,)
            owner.execute("DROP TRIGGER t")
        owner.close()
        assert store.append([entry(1)]) == (1,)
