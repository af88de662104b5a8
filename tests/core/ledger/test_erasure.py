"""`trailgate ledger erase`, end to end on a SQLite ledger."""

import json
import shutil
import sqlite3

import jsonschema
import pytest
from click.testing import CliRunner

from tests.core.ledger import trails
from tests.core.ledger.test_schema import VALIDATOR
from trailgate.cli.main import main
from trailgate.ledger import record as rec
from trailgate.ledger.index import index_path
from trailgate.ledger.keys import write_signing_key
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader

BOB = "github:1002"


def run(*arguments, code=0, text=None):
    done = CliRunner().invoke(main, ["ledger", *map(str, arguments)], input=text)
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture
def trail(tmp_path, key):
    write_signing_key(tmp_path / "log.key", key)
    return trails.write(tmp_path / "trail.db", key)


@pytest.fixture
def address(trail):
    return f"--ledger=sqlite:{trail}"


@pytest.fixture
def secret(tmp_path):
    return f"--log-key={tmp_path / 'log.key'}"


def records(trail):
    with SqliteReader(trail) as reader:
        return list(reader.records())


def shown(address, index):
    return json.loads(run("show", index, address, "-o", "json").stdout)["clear"]


def verified(address, key):
    return run("verify", address, "--vkey", key.verifier).stdout.splitlines()[-1]


def test_what_was_erased_is_said_and_everything_still_holds(trail, address, secret, key):
    run("reindex", address)
    kept, before = run("checkpoint", address).stdout, records(trail)
    (approver,) = shown(address, 2)["change"]["approvers"]
    assert approver["person"]["id"] == BOB
    done = run("erase", BOB, address, secret, "--reason", "request 7", "--yes")
    assert f"erased {BOB}: " in done.stdout
    assert "recorded in entry 6" in done.stdout
    assert records(trail)[:6] == before
    (approver,) = shown(address, 2)["change"]["approvers"]
    assert approver["person"]["id"] is None
    assert approver["person"]["absent"]["id"] == "Erased"
    assert "erased person" in run("show", 2, address).stdout
    said = json.loads(records(trail)[6])
    jsonschema.validate(said, VALIDATOR.schema)
    assert (said["kind"], said["gate"]["component"]) == ("erasure", "cli")
    assert said["cluster"] == json.loads(before[-1])["cluster"]
    assert shown(address, 6)["reason"] == "request 7"
    with SqliteReader(trail) as reader:
        assert not any(reader.is_disclosed(one["commitment"]) for one in said["erased"])
        assert not [row for row in reader.disclosures("subject:").values() if BOB.encode() in row]
    outside = trail.with_name("kept.txt")
    outside.write_text(kept)
    found = run("verify", address, "--vkey", key.verifier, "--checkpoint", outside).stdout
    assert found.splitlines()[-1] == "ok"
    run("reindex", address)
    assert "nobody in this ledger" in run("list", address, "--approver", BOB).stderr


def test_nothing_of_the_person_is_left_in_the_files(trail, address, secret):
    with SqliteReader(trail) as reader:
        rows = reader.disclosures("subject:").values()
        (subject,) = [json.loads(row) for row in rows if BOB.encode() in row]
    run("erase", BOB, address, secret, "--yes")
    files = [trail, index_path(trail), trail.with_name(f"{trail.name}-wal")]
    left = b"".join(file.read_bytes() for file in files if file.exists())
    assert b"trailgate.dev/record/v1" in left
    assert not [value for value in subject.values() if value.encode() in left]


def test_a_recorder_that_starts_later_goes_on_and_sees_somebody_new(trail, address, secret, key):
    run("erase", BOB, address, secret, "--yes")
    with SqliteStore(trail, key, known=run("checkpoint", address).stdout) as store:
        vault = rec.Vault(store.disclosures("subject:"))
        (again,) = trails.entries(vault, trails.claims()[1:2], start=6)
        assert store.append([again], positions=trails.position(6)) == (7,)
    assert verified(address, key) == "ok"
    (old,), (new,) = (shown(address, index)["change"]["approvers"] for index in (2, 7))
    assert new["person"]["id"] == BOB
    assert old["person"]["commitment"] != new["person"]["commitment"]


def test_while_the_recorder_runs_nothing_is_erased(trail, address, secret, key):
    before = records(trail)
    with SqliteStore(trail, key):
        done = run("erase", BOB, address, secret, "--yes", code=3)
    assert "is being written by pid" in done.stderr
    assert records(trail) == before
    assert shown(address, 2)["change"]["approvers"][0]["person"]["id"] == BOB


def test_it_asks_and_takes_no_for_an_answer(trail, address, secret):
    before = records(trail)
    for answer in ("n\n", "\n", ""):
        assert "for good?" in run("erase", BOB, address, secret, code=130, text=answer).stderr
    assert records(trail) == before
    run("erase", BOB, address, secret, text="y\n")
    assert len(records(trail)) == len(before) + 1


@pytest.mark.parametrize("person", ["github:9", "bob", "github:100", "", "subject:"])
def test_somebody_who_is_not_there_is_not_erased(trail, address, secret, person):
    before = records(trail)
    done = run("erase", person, address, secret, "--yes", code=1)
    assert "nothing was erased" in done.stderr
    assert records(trail) == before


def test_twice_is_once(trail, address, secret):
    run("erase", BOB, address, secret, "--yes")
    run("erase", BOB, address, secret, "--yes", code=1)
    assert len(records(trail)) == 7


def test_another_key_erases_nothing(trail, address, tmp_path):
    run("init", f"--ledger=sqlite:{tmp_path / 'o'}", "--origin=o", f"--key={tmp_path / 'o.key'}")
    before = records(trail)
    run("erase", BOB, address, f"--log-key={tmp_path / 'o.key'}", "--yes", code=2)
    assert records(trail) == before


def test_rows_and_entries_go_together(trail, address, secret, key, monkeypatch):
    """Where the entry can't be appended, nobody is forgotten."""
    from trailgate.ledger import erasure
    from trailgate.ledger.errors import LedgerUnavailableError

    with SqliteStore(trail, key) as store:
        found = erasure.plan(store, BOB)

        def full(*_):
            raise LedgerUnavailableError("database or disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(store, "_write", full)
            with pytest.raises(LedgerUnavailableError):
                erasure.carry_out(store, found, trails.examples.NOW)
        assert erasure.plan(store, BOB) == found
    assert verified(address, key) == "ok"
    run("erase", BOB, address, secret, "--yes")
    assert verified(address, key) == "ok"


def change_row(trail, where, content):
    with sqlite3.connect(trail) as intruder:
        changed = intruder.execute(f"UPDATE disclosure SET content = ? WHERE {where}", (content,))
        assert changed.rowcount == 1
        intruder.commit()
    intruder.close()


def rows_of_bob(trail):
    """The key of the person's own row, and of one that is theirs."""
    with SqliteReader(trail) as reader:
        (own,) = [k for k, row in reader.disclosures("subject:").items() if BOB.encode() in row]
        rows = reader.disclosures("hmac-").items()
        return own, [key for key, row in rows if own.removeprefix("subject:").encode() in row]


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b"7", b'"subject"', b'{"subject":{}}'])
def test_a_row_that_cannot_be_read_is_named_and_nothing_is_erased(trail, address, secret, content):
    _own, (key, *_) = rows_of_bob(trail)
    change_row(trail, f"key = '{key}'", content)
    before = trail.read_bytes()
    done = run("erase", BOB, address, secret, "--yes", code=3)
    assert f"({key})" in done.stderr
    assert "nothing was erased" in done.stderr
    assert "unexpected" not in done.stderr
    assert trail.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b'{"person":7,"salt":"00","key":"00"}',
        b'{"person":[],"salt":"","key":""}',
    ],
)
def test_a_persons_own_row_that_cannot_be_read_is_named(trail, address, secret, content):
    own, _rows = rows_of_bob(trail)
    change_row(trail, f"key = '{own}'", content)
    assert own in run("erase", BOB, address, secret, "--yes", code=3).stderr


def test_somebody_filed_under_another_name_is_not_said_to_be_nobody(trail, address, secret):
    own, _rows = rows_of_bob(trail)
    with SqliteReader(trail) as reader:
        content = reader.disclosure(own)
    change_row(trail, f"key = '{own}'", content.replace(b"github:1002", b"github:9999"))
    done = run("erase", BOB, address, secret, "--yes", code=3)
    assert "filed under another name" in done.stderr


def test_a_row_that_was_given_to_another_person_is_named(trail, address, secret):
    """Else it would be left behind, and no entry would say why it opens to nothing."""
    own, (key, *_) = rows_of_bob(trail)
    with SqliteReader(trail) as reader:
        content = reader.disclosure(key)
        other = next(one for one in reader.disclosures("subject:") if one != own)
    mine, theirs = (one.removeprefix("subject:").encode() for one in (own, other))
    change_row(trail, f"key = '{key}'", content.replace(mine, theirs))
    assert f"({key})" in run("erase", BOB, address, secret, "--yes", code=3).stderr


def test_an_older_ledger_is_not_written_to(trail, address, secret, tmp_path, key):
    known, older = tmp_path / "known.txt", tmp_path / "older.db"
    shutil.copy(trail, older)
    with SqliteStore(trail, key) as store:
        store.append(trails.entries(rec.Vault(), trails.claims()[1:2], start=6))
        known.write_text(store.checkpoint())
    shutil.copy(older, trail)
    before = trail.read_bytes()
    done = run("erase", BOB, address, secret, "--yes", f"--known-checkpoint={known}", code=3)
    assert "an older ledger was put back" in done.stderr
    assert trail.read_bytes() == before


@pytest.mark.parametrize("content", [None, "", "no checkpoint"])
def test_a_known_checkpoint_that_is_none_is_refused(trail, address, secret, tmp_path, content):
    known, before = tmp_path / "known.txt", records(trail)
    if content is not None:
        known.write_text(content)
    run("erase", BOB, address, secret, "--yes", f"--known-checkpoint={known}", code=3)
    assert records(trail) == before


def test_the_known_checkpoint_knows_of_the_erasure(trail, address, secret, tmp_path):
    """A ledger from before it, put back, would open what was erased."""
    known = tmp_path / "known.txt"
    known.write_text(run("checkpoint", address).stdout)
    run("erase", BOB, address, secret, "--yes", f"--known-checkpoint={known}")
    assert known.read_text() == run("checkpoint", address).stdout
