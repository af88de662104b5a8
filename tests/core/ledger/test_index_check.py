"""The query index is held against the entries: what was changed in it is told."""

import json
import shutil
import sqlite3

import pytest
from click.testing import CliRunner

from tests.core.ledger import trails
from trailgate.cli.main import main
from trailgate.ledger import index as module
from trailgate.ledger import record as rec
from trailgate.ledger.index import Index, index_path
from trailgate.ledger.index_check import IndexCheck, IndexState
from trailgate.ledger.keys import write_signing_key
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import Entry
from trailgate.ledger.verify import verify


def run(*arguments, code=0):
    done = CliRunner().invoke(main, ["ledger", *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def tamper(trail, statement, *values):
    with sqlite3.connect(index_path(trail)) as intruder:
        assert intruder.execute(statement, values).rowcount
        intruder.commit()
    intruder.close()


def make(trail):
    with SqliteReader(trail) as reader:
        Index(reader, rebuild=True).close()


def verdict(trail, key):
    with SqliteReader(trail) as reader:
        found = verify(reader, [key.verifier], index=IndexCheck(reader))
    assert found.holds
    return found.index


@pytest.fixture
def bare(tmp_path, key):
    write_signing_key(tmp_path / "log.key", key)
    return trails.write(tmp_path / "trail.db", key)


@pytest.fixture
def trail(bare):
    make(bare)
    return bare


def test_an_index_as_it_was_made_agrees(trail, key):
    found = verdict(trail, key)
    assert (found.state, found.size, found.problems) == (IndexState.AGREES, 6, ())


def test_without_an_index_there_is_nothing_to_hold(bare, key):
    assert verdict(bare, key).state is IndexState.NONE
    assert not index_path(bare).exists()


def test_an_index_of_an_empty_ledger(path, key):
    make(path)
    assert verdict(path, key).state is IndexState.UNUSED


def test_an_index_that_is_behind_agrees_as_far_as_it_goes(trail, key):
    with SqliteStore(trail, key) as store:
        entries = trails.entries(rec.Vault(store.disclosures("subject:")), start=6)
        store.append(entries, positions=trails.position(11))
    found = verdict(trail, key)
    assert (found.state, found.size) == (IndexState.AGREES, 6)
    with SqliteReader(trail) as reader:
        Index(reader).close()
    found = verdict(trail, key)
    assert (found.state, found.size) == (IndexState.AGREES, 12)


def test_entries_of_another_schema_and_several_chunks(path, key, monkeypatch):
    with SqliteStore(path, key) as store:
        store.append([Entry(b'{"n":%d}' % n, f"k{n}") for n in range(50)])
        store.append(trails.entries(rec.Vault()), positions=trails.position(5))
    monkeypatch.setattr(module, "_CHUNK", 7)
    make(path)
    found = verdict(path, key)
    assert (found.state, found.size) == (IndexState.AGREES, 56)


@pytest.mark.parametrize("chunk", [1, 2, 5_000])
def test_somebody_with_a_new_login_has_the_last_one(tmp_path, key, monkeypatch, chunk):
    """Whichever chunk it comes in: an index is the same however often it was brought up to date."""
    claims = [trails.claims()[1] for _ in range(4)]
    for number, claim in enumerate(claims):
        claim["people"] = [
            one | {"login": one["login"] and f"{one['login']}-{number % 3}"}
            for one in claim["people"]
        ]
    trail = trails.write(tmp_path / "t.db", key, some=claims)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    make(trail)
    assert verdict(trail, key).state is IndexState.AGREES
    with SqliteReader(trail) as reader, Index(reader) as index:
        last = json.loads(list(reader.records())[-1])["people"]
        assert dict(index.people()) == {one["id"]: one["login"] for one in last}


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("DELETE FROM event WHERE idx = 2", "event"),
        ("UPDATE event SET decided_at = '2020-01-01T00:00:00Z' WHERE idx = 2", "event"),
        ("UPDATE event SET namespace = 'other' WHERE idx = 2", "event"),
        ("UPDATE event SET outcome = NULL WHERE idx = 2", "event"),
        ("UPDATE event SET kind = 'gap' WHERE idx = 2", "event"),
        ("UPDATE event SET claim = claim || 'x' WHERE idx = 2", "event"),
        ("UPDATE event SET idx = 99 WHERE idx = 5", "event"),
        ("DELETE FROM workload WHERE idx = 2", "workload"),
        ("UPDATE workload SET name = 'other' WHERE idx = 2", "workload"),
        ("UPDATE workload SET idx = 90 WHERE idx = 2", "workload"),
        ("DELETE FROM role WHERE role = 'approver'", "role"),
        ("UPDATE role SET role = 'committer' WHERE role = 'approver'", "role"),
        ("UPDATE image SET digest = 'sha256:00' || digest WHERE idx = 2", "image"),
        ("DELETE FROM revision WHERE idx = 2", "revision"),
        ("UPDATE revision SET revision = upper(revision) WHERE idx = 2", "revision"),
        ("DELETE FROM change", "change"),
        ("UPDATE change SET last = 77", "change"),
        ("UPDATE change SET claims = claims + 1", "change"),
        ("INSERT INTO change VALUES ('x', 1, 1, 1)", "change"),
        ("DELETE FROM person", "person"),
        ("UPDATE person SET login = NULL", "person"),
        ("INSERT INTO person VALUES ('x', NULL)", "person"),
    ],
)
def test_a_changed_row_is_told(trail, key, statement, table):
    tamper(trail, statement)
    found = verdict(trail, key)
    assert found.state is IndexState.DISAGREES
    assert table in {problem.partition(":")[0] for problem in found.problems}
    make(trail)
    assert verdict(trail, key).state is IndexState.AGREES


def test_rows_that_went_from_one_entry_to_another_are_told(trail, key):
    """The same values, and as many: only which entry has them is another."""
    with sqlite3.connect(index_path(trail)) as intruder:
        first, second = intruder.execute(
            "SELECT namespace, idx FROM event WHERE namespace IS NOT NULL LIMIT 2"
        ).fetchall()
        intruder.execute("UPDATE event SET idx = -1 WHERE idx = ?", (first[1],))
        intruder.execute("UPDATE event SET idx = ? WHERE idx = ?", (first[1], second[1]))
        intruder.execute("UPDATE event SET idx = ? WHERE idx = -1", (second[1],))
        intruder.commit()
    intruder.close()
    assert verdict(trail, key).problems[1:] == ("event: other rows than the entries give",)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE progress SET origin = 'other'",
        "UPDATE progress SET leaf = x'00'",
        "UPDATE progress SET size = 7",
        "DELETE FROM progress",
        "CREATE VIEW v AS SELECT 1",
    ],
)
def test_an_index_that_would_be_made_anew_is_no_problem(trail, key, statement):
    with sqlite3.connect(index_path(trail)) as intruder:
        intruder.execute(statement)
    intruder.close()
    assert verdict(trail, key).state is IndexState.UNUSED
    if "DELETE" not in statement:
        with SqliteReader(trail) as reader:
            Index(reader).close()
        assert verdict(trail, key).state is IndexState.AGREES


def test_an_older_index_behind_which_it_says_less_is_told(trail, key, tmp_path):
    """Put forward, so that what is between is never indexed."""
    with SqliteStore(trail, key) as store:
        entries = trails.entries(rec.Vault(store.disclosures("subject:")), start=6)
        store.append(entries, positions=trails.position(11))
        leaf = store.node(0, 9)
    tamper(trail, "UPDATE progress SET size = 10, leaf = ?", leaf)
    found = verdict(trail, key)
    assert (found.state, found.size) == (IndexState.DISAGREES, 10)
    assert "event: 6 rows, expected 10" in found.problems


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_damaged_index_is_told(trail, key, keep):
    content = index_path(trail).read_bytes()
    index_path(trail).write_bytes(content[: int(len(content) * keep)])
    assert verdict(trail, key).state is IndexState.DISAGREES


def test_a_damaged_ledger_says_nothing_of_its_index(trail, key):
    with sqlite3.connect(trail) as intruder:
        intruder.execute("DELETE FROM entry WHERE idx = 3")
    intruder.close()
    with SqliteReader(trail) as reader:
        found = verify(reader, [key.verifier], index=IndexCheck(reader))
    assert not found.holds
    assert found.index.state is IndexState.UNDETERMINED


def test_the_command_says_so_and_what_to_run(trail, key):
    ledger = f"--ledger=sqlite:{trail}"
    assert "agrees with entries 0 to 5" in run("verify", ledger, "--vkey", key.verifier).stdout
    tamper(trail, "DELETE FROM role WHERE role = 'approver'")
    done = run("verify", ledger, "--vkey", key.verifier, code=3)
    assert "run: trailgate ledger reindex" in done.stdout
    assert "ok" not in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == "the ledger itself holds"
    told = json.loads(run("verify", ledger, "--vkey", key.verifier, "-o", "json", code=3).stdout)
    assert (told["holds"], told["index"]["state"]) == (True, "disagrees")
    assert [one.partition(":")[0] for one in told["index"]["problems"]] == ["role"]
    assert "self-consistent" in run("verify", ledger, code=3).stdout
    run("reindex", ledger)
    assert run("verify", ledger, "--vkey", key.verifier).stdout.splitlines()[-1] == "ok"


def test_a_ledger_that_does_not_hold_is_a_1_whatever_its_index(trail, key):
    tamper(trail, "DELETE FROM role")
    with sqlite3.connect(trail) as intruder:
        intruder.execute("DELETE FROM entry WHERE idx = 5")
    intruder.close()
    run("verify", f"--ledger=sqlite:{trail}", "--vkey", key.verifier, code=1)


def test_it_reads_an_index_that_nobody_can_write(trail, key, tmp_path):
    copies = tmp_path / "evidence"
    copies.mkdir()
    for file in (trail, index_path(trail)):
        shutil.copy(file, copies / file.name)
    copies.chmod(0o500)
    try:
        assert verdict(copies / trail.name, key).state is IndexState.AGREES
    finally:
        copies.chmod(0o700)
