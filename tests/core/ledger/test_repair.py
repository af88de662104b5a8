"""`trailgate ledger repair`: what the writer goes by, made anew from the entries."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.core.ledger import trails
from trailgate.cli.main import main
from trailgate.ledger import record as rec
from trailgate.ledger.chain import Last
from trailgate.ledger.errors import LedgerCorruptError, LedgerKeyError, LedgerRolledBackError
from trailgate.ledger.keys import write_signing_key
from trailgate.ledger.repair import repair
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import Entry
from trailgate.ledger.taken import fits, own_key
from trailgate.ledger.verify import verify
from trailgate.model.digest import Digest
from trailgate.tlog.note import SigningKey

EXAMPLES = Path(__file__).parents[3] / "docs" / "reference" / "examples"
CHANGED = "UPDATE entry SET record = CAST(record || ' ' AS BLOB) WHERE idx = 2"


def run(*arguments, code=0):
    done = CliRunner().invoke(main, ["ledger", *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def tamper(path, statement, *values):
    with sqlite3.connect(path) as intruder:
        assert intruder.execute(statement, values).rowcount
        intruder.commit()
    intruder.close()


def tables(path):
    with SqliteReader(path) as reader:
        return list(reader.dedupe()), reader.positions()


def holds(path, key):
    with SqliteReader(path) as reader:
        return verify(reader, [key.verifier]).holds


@pytest.fixture
def trail(tmp_path, key):
    write_signing_key(tmp_path / "log.key", key)
    return trails.write(tmp_path / "trail.db", key)


def test_what_is_as_it_should_be_stays_so(trail, key):
    before = trail.read_bytes()
    assert repair(trail, key).changes == ()
    assert trail.read_bytes() == before


def test_an_empty_ledger_has_nothing_to_repair(path, key):
    assert repair(path, key).changes == ()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE dedupe SET idx = 2 WHERE key = 'claim/boot-1/4/0'", "entry 4"),
        ("UPDATE dedupe SET idx = 99 WHERE key = 'claim/boot-1/4/0'", "entry 4"),
        ("DELETE FROM dedupe WHERE key = 'claim/boot-1/4/0'", "entry 4"),
        ("INSERT INTO dedupe VALUES ('claim/boot-1/6/0', 5)", "removed"),
        ("INSERT INTO dedupe VALUES ('claim/boot-9/0/0', 0)", "removed"),
        ("INSERT INTO dedupe VALUES ('missing/boot-1/6-7', 5)", "removed"),
        ("INSERT INTO dedupe VALUES ('started/x', 77)", "removed"),
        ("DELETE FROM dedupe", "entry 0"),
    ],
)
def test_a_changed_key_is_as_it_was(trail, key, statement, said):
    before = tables(trail)
    tamper(trail, statement)
    changes = repair(trail, key).changes
    assert said in " ".join(changes)
    assert tables(trail) == before
    assert holds(trail, key)


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (Last(9, Digest.of(b"x")).to_bytes(), None),
        (Last(2, Digest.of(b"x")).to_bytes(), None),
        (b"no position", None),
        (Last(5, Digest.of(b"a batch"), ended=True).to_bytes(), Digest.of(b"a batch")),
    ],
)
def test_a_changed_position_is_what_the_entries_say(trail, key, content, digest):
    tamper(trail, "UPDATE position SET value = ? WHERE name = 'spool/boot-1'", content)
    (change,) = repair(trail, key).changes
    assert "batch 5: set to that" in change
    _keys, positions = tables(trail)
    assert {n: Last.from_bytes(p) for n, p in positions.items()} == {
        "spool/boot-1": Last(5, digest)
    }
    assert holds(trail, key)


def test_a_position_that_was_removed_is_there_again(trail, key):
    tamper(trail, "DELETE FROM position")
    assert len(repair(trail, key).changes) == 1
    assert Last.from_bytes(tables(trail)[1]["spool/boot-1"]) == Last(5, None)


def test_a_position_of_nobody_goes_and_what_is_not_the_spools_stays(trail, key):
    tamper(trail, "INSERT INTO position VALUES ('spool/boot-2', ?)", Last(3, None).to_bytes())
    tamper(trail, "INSERT INTO position VALUES ('other', x'00')")
    (change,) = repair(trail, key).changes
    assert "left no entry: removed" in change
    assert tables(trail)[1].keys() == {"spool/boot-1", "other"}


def test_a_process_that_ended_has_ended(tmp_path, key):
    end = rec.control_state(
        trails.examples.CONTEXT, trails.examples.NOW, rec.ControlSubject.GATE,
        rec.ControlState.ENDED, name="boot-1",
    )  # fmt: skip
    trail = trails.write(tmp_path / "t.db", key, some=[trails.claims()[1], end])
    tamper(trail, "DELETE FROM position")
    assert "batch 1, the last one" in repair(trail, key).changes[0]
    assert Last.from_bytes(tables(trail)[1]["spool/boot-1"]).ended


def test_the_first_of_two_entries_of_one_claim_is_the_keys(trail, key):
    tamper(trail, "DELETE FROM dedupe WHERE key = 'claim/boot-1/4/0'")
    with SqliteStore(trail, key) as store:
        (again,) = trails.entries(rec.Vault(), trails.claims()[4:5], start=4)
        assert store.append([again]) == (6,)
    changes = repair(trail, key).changes
    assert changes == (
        "dedupe key claim/boot-1/4/0: set to entry 4, which says that it is its own",
    )


def test_keys_that_records_do_not_tell_stay(path, key):
    with SqliteStore(path, key) as store:
        store.append([Entry(b'{"n":1}', "recorder/started/1"), Entry(b'{"n":2}', "other")])
    before = tables(path)
    assert repair(path, key).changes == ()
    assert tables(path) == before


@pytest.mark.parametrize(
    "statement",
    [
        CHANGED,
        "UPDATE node SET hash = zeroblob(32) WHERE level = 0 AND position = 1",
        "DELETE FROM entry WHERE idx = 3",
        "DELETE FROM entry WHERE idx = 5",
        "UPDATE checkpoint SET note = replace(note, 'log.example', 'log.other')",
    ],
)
def test_nothing_is_derived_from_entries_that_do_not_hold(trail, key, statement):
    tamper(trail, statement)
    tamper(trail, "DELETE FROM dedupe")
    before = trail.read_bytes()
    with pytest.raises(LedgerCorruptError):
        repair(trail, key)
    assert trail.read_bytes() == before


def test_many_other_problems_do_not_hide_that_the_entries_do_not_hold(path, key):
    from trailgate.ledger.verify import MAX_PROBLEMS, Part

    with SqliteStore(path, key) as store:
        store.append([Entry(b"not json %d" % n, f"k{n}") for n in range(MAX_PROBLEMS + 5)])
    tamper(path, "UPDATE log SET origin = 'other'")
    with SqliteReader(path) as reader:
        found = verify(reader, [key.verifier])
    assert {one.part for one in found.problems} == {Part.PEOPLE}
    with pytest.raises(LedgerCorruptError):
        repair(path, key)


def test_a_lost_name_keeps_nobody_from_repairing(trail, key):
    tamper(trail, "DELETE FROM disclosure WHERE key LIKE 'hmac-%'")
    tamper(trail, "DELETE FROM dedupe")
    assert len(repair(trail, key).changes) == 6


def test_an_older_ledger_is_not_changed(trail, key, tmp_path):
    older = tmp_path / "older.db"
    shutil.copy(trail, older)
    with SqliteStore(trail, key) as store:
        store.append(trails.entries(rec.Vault(), trails.claims()[1:2], start=6))
        known = store.checkpoint()
    tamper(older, "DELETE FROM dedupe")
    before = older.read_bytes()
    with pytest.raises(LedgerRolledBackError, match="an older ledger was put back"):
        repair(older, key, known=known)
    assert older.read_bytes() == before


def test_another_key_repairs_nothing(trail, key):
    with pytest.raises(LedgerKeyError):
        repair(trail, SigningKey(key.name, bytes(range(1, 33))))


def test_the_command_tells_each_change_and_then_none(trail, key, tmp_path):
    ledger, secret = f"--ledger=sqlite:{trail}", f"--log-key={tmp_path / 'log.key'}"
    tamper(trail, "INSERT INTO dedupe VALUES ('claim/boot-1/6/0', 5)")
    tamper(trail, "UPDATE position SET value = ?", Last(9, Digest.of(b"")).to_bytes())
    found = run("verify", ledger, "--vkey", key.verifier, code=1)
    assert "run: trailgate ledger repair" in found.output
    done = run("repair", ledger, secret)
    assert done.stdout.splitlines() == [
        "dedupe key claim/boot-1/6/0: it named entry 5, which is not its own: removed",
        "position spool/boot-1: it said batch 9, the entries say batch 5: set to that",
    ]
    assert "none of the 6 entries was touched" in done.stderr
    assert "nothing to repair" in run("repair", ledger, secret).stderr
    run("verify", ledger, "--vkey", key.verifier)


def test_the_command_refuses_what_does_not_hold_and_says_so(trail, tmp_path):
    ledger, secret = f"--ledger=sqlite:{trail}", f"--log-key={tmp_path / 'log.key'}"
    tamper(trail, CHANGED)
    done = run("repair", ledger, secret, code=3)
    assert "does not hash to its leaf" in done.stderr
    assert "nothing was changed" in done.stderr
    run("repair", ledger, secret, f"--known-checkpoint={tmp_path / 'none'}", code=3)


def test_while_the_recorder_runs_nothing_is_repaired(trail, key, tmp_path):
    ledger, secret = f"--ledger=sqlite:{trail}", f"--log-key={tmp_path / 'log.key'}"
    with SqliteStore(trail, key):
        assert "is being written by pid" in run("repair", ledger, secret, code=3).stderr


def test_every_kind_of_record_is_understood():
    """One that isn't would count as foreign: its key, and its place in the spool, as wrong."""
    read = 0
    for path in EXAMPLES.glob("*.json"):
        record = json.loads(path.read_text())
        if record.get("schema") == rec.SCHEMA and "recordedAt" in record:
            spool = record["spool"]
            key = spool and f"claim/{spool['boot']}/{spool['seq']}/{spool['index']}"
            assert own_key(json.dumps(record).encode()) == key, path.name
            assert not fits("claim/other/0/0", json.dumps(record).encode())
            read += 1
    assert read > 10
