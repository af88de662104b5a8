"""The verifier: never a false alarm on a clean log, and no change goes unnoticed."""

import json
import random
import shutil
import sqlite3

import pytest

from tests.core.ledger import trails
from trailgate.ledger import people, sqlite
from trailgate.ledger import record as rec
from trailgate.ledger.chain import Last
from trailgate.ledger.disclosures import Disclosures
from trailgate.ledger.errors import LedgerCorruptError, LedgerError
from trailgate.ledger.index import Index
from trailgate.ledger.people import Subject
from trailgate.ledger.query import Question
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import Entry
from trailgate.ledger.summary import summary
from trailgate.ledger.verify import MAX_PROBLEMS, Outside, verify
from trailgate.ledger.walk import CHUNK, Walk, chunks
from trailgate.model.digest import Digest
from trailgate.tlog.checkpoint import Checkpoint
from trailgate.tlog.merkle import Frontier, leaf_hash, root_of
from trailgate.tlog.note import SigningKey


def run(path, key, *outside):
    with SqliteReader(path) as reader:
        kept = [Outside(f"file {number}", text) for number, text in enumerate(outside)]
        return verify(reader, [key.verifier] if key else [], kept)


def tamper(path, *statements):
    with sqlite3.connect(path) as intruder:
        for statement in statements:
            intruder.execute(statement)
    intruder.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    intruder.close()


def first(path, key, *outside):
    """The first problem of a ledger that must have one."""
    found = run(path, key, *outside)
    assert not found.holds
    return found.problems[0]


@pytest.fixture
def trail(tmp_path, key):
    """A ledger of six real records."""
    return trails.write(tmp_path / "trail.db", key)


def plain(path, key, count, start=0):
    """Append records of no schema: quick, and good enough for the tree."""
    with SqliteStore(path, key) as store:
        store.append([Entry(b'{"n":%d}' % n, f"k{n}") for n in range(start, start + count)])
        return store.checkpoint()


# Clean logs


def test_a_clean_trail_holds(trail, key):
    found = run(trail, key)
    assert found.holds
    assert (found.origin, found.size, found.authenticated) == (key.name, 6, True)
    assert (found.anchored, found.problems, found.notes) == (None, (), ())
    assert found.checkpoints == 1


def test_an_empty_ledger_holds(path, key):
    found = run(path, key)
    assert found.holds
    assert (found.size, found.checkpoints) == (0, 1)
    with SqliteReader(path) as reader:
        empty = reader.checkpoint()
    assert run(path, key, empty).anchored == 0
    plain(path, key, 1)
    assert run(path, key, empty).anchored == 0


def test_without_a_key_it_is_consistent_and_not_authenticated(trail):
    found = run(trail, None)
    assert found.holds
    assert not found.authenticated


@pytest.mark.parametrize("size", [1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
def test_no_false_alarm_at_any_size(path, key, size):
    kept = []
    for start, count in ((0, size // 2), (size // 2, size - size // 2)):
        if count:
            kept.append(plain(path, key, count, start))
    found = run(path, key, *kept)
    assert found.problems == ()
    assert (found.size, found.anchored) == (size, size)
    assert found.notes == (f"{size} entries are of another schema: their people were not checked",)


def test_no_false_alarm_while_it_is_being_written(path, key):
    with SqliteStore(path, key) as store, SqliteReader(path) as reader:
        for number in range(30):
            store.submit([Entry(b'{"n":%d}' % number, f"k{number}")])
            found = verify(reader, [key.verifier], [Outside("now", reader.checkpoint())])
            assert [p for p in found.problems if "behind" not in p.what] == []
        store.append([])
        assert verify(reader, [key.verifier], [Outside("now", store.checkpoint())]).holds


def test_many_hourly_checkpoints_are_all_checked(path, key):
    now = [1_700_000_000.0]
    with SqliteStore(path, key, clock=lambda: now[0]) as store:
        for number in range(40):
            now[0] += 3600
            store.append([Entry(b'{"n":%d}' % number, f"k{number}")])
    assert run(path, key).checkpoints == 41
    tamper(path, "UPDATE checkpoint SET note = replace(note, '— ', '— x') WHERE size = 17")
    assert "checkpoint of size 17" in first(path, key).what


# One thing changed


@pytest.mark.parametrize("index", range(6))
def test_a_changed_record_is_named(trail, key, index):
    tamper(trail, f"UPDATE entry SET record = CAST(record || ' ' AS BLOB) WHERE idx = {index}")
    found = first(trail, key)
    assert found.index == index
    assert "does not hash to its leaf" in found.what
    with SqliteReader(trail) as reader:
        record = next(reader.records(index, index + 1))
        assert found.expected == reader.node(0, index).hex()
    assert found.found == leaf_hash(record).hex()


def test_a_record_changed_together_with_its_whole_tree_is_caught_by_the_signature(trail, key):
    rewrite_tree(trail, 2, b'{"schema":"other"}')
    found = first(trail, key)
    assert "changed, and the tree with it" in found.what
    assert found.index == 0
    assert "an entry from 0 to 5" in found.what


def test_the_suspects_begin_after_the_last_checkpoint_that_holds(path, key):
    now = [1_700_000_000.0]
    with SqliteStore(path, key, clock=lambda: now[0]) as store:
        for number in range(8):
            now[0] += 3600
            store.append([Entry(b'{"n":%d}' % number, f"k{number}")])
    rewrite_tree(path, 5, b'{"n":50}')
    found = first(path, key)
    assert (found.index, found.what.split(" was")[0]) == (5, "an entry from 5 to 5")


def rewrite_tree(path, index, record):
    """What a database admin without the log's key can do at best."""
    with SqliteReader(path) as reader:
        records = list(reader.records())
    records[index] = record
    with sqlite3.connect(path) as intruder:
        intruder.execute("UPDATE entry SET record = ? WHERE idx = ?", (record, index))
        frontier = Frontier()
        for one in records:
            for node in frontier.append(leaf_hash(one)):
                intruder.execute(
                    "UPDATE node SET hash = ? WHERE level = ? AND position = ?",
                    (node.hash, node.level, node.position),
                )
    intruder.close()
    return frontier


@pytest.mark.parametrize(("level", "position"), [(0, 0), (0, 3), (0, 5), (1, 1), (2, 0)])
def test_a_changed_tree_node_is_named_and_the_entries_are_cleared(trail, key, level, position):
    tamper(
        trail,
        f"UPDATE node SET hash = zeroblob(32) WHERE level = {level} AND position = {position}",
    )
    found = run(trail, key)
    (problem,) = found.problems
    assert problem.index == position << level
    assert "damaged" in problem.what
    assert problem.found == "00" * 32


def test_missing_and_extra_tree_nodes_are_found(trail, key, tmp_path):
    shutil.copy(trail, tmp_path / "copy.db")
    tamper(trail, "DELETE FROM node WHERE level = 1 AND position = 2")
    assert first(trail, key).found == "nothing"
    tamper(tmp_path / "copy.db", "INSERT INTO node VALUES (7, 0, zeroblob(32))")
    problem = first(tmp_path / "copy.db", key)
    assert (problem.what, problem.expected, problem.found) == (
        "the tree has nodes too many",
        "10",
        "11",
    )


@pytest.mark.parametrize("index", range(6))
def test_a_missing_entry_is_named(trail, key, index):
    tamper(trail, f"DELETE FROM entry WHERE idx = {index}")
    found = first(trail, key)
    assert found.index == index
    assert "missing" in found.what


def test_entries_dropped_from_the_end_are_missed_by_its_own_checkpoint(trail, key):
    tamper(trail, "DELETE FROM entry WHERE idx >= 4")
    found = first(trail, key)
    assert found.index == 4
    assert "behind its own checkpoint: entries 4 to 5 are missing" in found.what


def test_entries_added_without_the_key_are_not_covered(trail, key):
    rewrite = trail.with_name("plus.db")
    shutil.copy(trail, rewrite)
    with SqliteReader(trail) as reader:
        frontier = Frontier.load(6, reader.node)
    nodes = frontier.append(leaf_hash(b"{}"))
    with sqlite3.connect(rewrite) as intruder:
        intruder.execute("INSERT INTO entry VALUES (6, ?)", (b"{}",))
        intruder.executemany("INSERT INTO node VALUES (?, ?, ?)", nodes)
    intruder.close()
    found = first(rewrite, key)
    assert (found.index, found.what) == (6, "entries that no checkpoint covers")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM checkpoint", "nothing vouches"),
        ("UPDATE checkpoint SET note = 'x'", "is not the log's"),
        ("UPDATE checkpoint SET size = 5", "filed under another size"),
        ("UPDATE checkpoint SET note = replace(note, '6', '5')", "is not the log's"),
        ("UPDATE log SET origin = 'other'", "names another log"),
        ("UPDATE log SET vkey = 'other'", "names another key"),
        ("DELETE FROM log", "does not say which log"),
    ],
)
def test_other_tampering_is_found(trail, key, statement, words):
    tamper(trail, statement)
    found = run(trail, key)
    assert any(words in problem.what for problem in found.problems), found.problems


def test_the_file_signed_by_another_key_is_not_the_log(trail, key):
    other = SigningKey(key.name, bytes(32))
    found = run(trail, other)
    assert not found.holds
    assert "names another key" in " ".join(problem.what for problem in found.problems)


def test_a_file_with_another_key_in_it_is_not_self_consistent(trail, key):
    tamper(trail, f"UPDATE log SET vkey = '{SigningKey(key.name, bytes(32))}'")
    assert not run(trail, None).holds
    tamper(trail, "UPDATE log SET vkey = 'none'")
    assert "no usable key" in " ".join(p.what for p in run(trail, None).problems)


def test_a_rotated_key_is_accepted_where_both_are_given(trail, key):
    new = SigningKey(key.name, bytes(32))
    with SqliteReader(trail) as reader:
        head = Checkpoint(key.name, 6, root_of(map(leaf_hash, reader.records())))
        found = verify(reader, [key.verifier, new.verifier], [Outside("new", head.sign(new))])
    assert found.holds


# Held against what was kept outside


def test_yesterdays_database_is_behind(path, key):
    plain(path, key, 5)
    shutil.copy(path, path.with_name("yesterday.db"))
    kept = plain(path, key, 3, 5)
    assert run(path, key, kept).anchored == 8
    old = path.with_name("yesterday.db")
    assert run(old, key).holds
    found = first(old, key, kept)
    assert found.index == 5
    assert "behind the checkpoint file 0: entries 5 to 7 are missing" in found.what
    assert (found.expected, found.found) == ("8 entries", "5 entries")


def test_the_last_entry_dropped_and_signed_again_is_behind(path, key):
    kept = plain(path, key, 8)
    shorter = path.with_name("shorter.db")
    sqlite.create(shorter, key)
    plain(shorter, key, 7)
    assert run(shorter, key).holds
    found = first(shorter, key, kept)
    assert (found.index, "entries 7 to 7 are missing" in found.what) == (7, True)


def test_a_history_signed_again_has_diverged(path, key):
    early = plain(path, key, 4)
    kept = plain(path, key, 6, 4)
    forged = path.with_name("forged.db")
    sqlite.create(forged, key)
    with SqliteStore(forged, key) as store:
        numbers = [0, 1, 2, 3, 4, 5, 60, 7, 8, 9, 10]
        store.append([Entry(b'{"n":%d}' % n, f"k{n}") for n in numbers])
    assert run(forged, key).holds
    found = first(forged, key, kept, early)
    assert found.index == 4
    assert "diverged from the checkpoint file 0: an entry from 4 to 9" in found.what
    assert found.expected.startswith("root ")
    assert found.expected.split()[1] != found.found.split()[1]
    assert run(forged, key, kept, early).anchored == 4
    assert first(forged, key, kept).index == 0


def test_a_checkpoint_that_is_not_this_logs_is_a_problem(trail, key, path):
    other = SigningKey("other.example", bytes(32))
    for text in (Checkpoint("other.example", 0, Frontier().root()).sign(other), "nonsense", ""):
        assert "is not this log's" in first(trail, key, text).what


# People


def forget(path, key, keys, claims):
    with SqliteStore(path, key) as store:
        vault = rec.Vault(store.disclosures("subject:"))
        last = trails.position(5 + len(claims))
        store.append(trails.entries(vault, claims, 6), positions=last, forget=keys)


def test_an_erased_person_is_no_problem_where_the_log_says_so(trail, key):
    with SqliteReader(trail) as reader:
        keys, emptied = people.erase(reader.disclosures(), "github:1001")
    assert emptied
    claims = rec.erasures(trails.examples.CONTEXT, trails.examples.NOW, emptied)
    forget(trail, key, keys, claims)
    assert run(trail, key).problems == ()


def test_a_person_who_vanished_without_an_erasure_is_a_problem(trail, key):
    with SqliteReader(trail) as reader:
        keys, emptied = people.erase(reader.disclosures(), "github:1001")
    forget(trail, key, keys, [])
    found = run(trail, key)
    assert not found.holds
    assert found.problems[0].index == 1
    assert "no disclosure opens it, and no erasure entry names it" in found.problems[0].what
    assert len(found.problems) == len(emptied)


def test_a_person_recorded_as_erased_and_still_there_is_a_problem(trail, key):
    with SqliteReader(trail) as reader:
        _keys, emptied = people.erase(reader.disclosures(), "github:1001")
        text = next(iter(reader.disclosures_of(1)))
    claims = rec.erasures(trails.examples.CONTEXT, trails.examples.NOW, [*emptied, text])
    forget(trail, key, [], claims)
    found = run(trail, key)
    assert len(found.problems) == len(emptied) + 1
    assert {problem.index for problem in found.problems} == {6}
    assert "still disclosed" in found.problems[0].what


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE disclosure SET content =
        CAST(replace(CAST(content AS TEXT), '1002', '1004') AS BLOB) WHERE key LIKE 'subject:%'""",
        "UPDATE disclosure SET content = CAST('{' AS BLOB) WHERE key LIKE 'subject:%'",
        "UPDATE disclosure SET content = CAST('{' AS BLOB) WHERE key LIKE 'hmac%'",
        "DELETE FROM disclosure WHERE key LIKE 'subject:%'",
        "DELETE FROM entry_disclosure WHERE idx = 1",
        """UPDATE entry_disclosure SET content =
        CAST(replace(CAST(content AS TEXT), 'acme', 'evil') AS BLOB) WHERE idx = 1""",
        "UPDATE entry_disclosure SET idx = idx + 1 WHERE idx = 4",
    ],
)
def test_changed_disclosures_are_found(trail, key, statement):
    tamper(trail, statement)
    assert not run(trail, key).holds


def test_a_wrong_salt_is_told_of_every_entry(trail, key):
    with sqlite3.connect(trail) as intruder:
        for name, content in intruder.execute(
            "SELECT key, content FROM disclosure WHERE key LIKE 'subject:%'"
        ).fetchall():
            row = json.loads(content) | {"salt": "00" * 32}
            intruder.execute(
                "UPDATE disclosure SET content = ? WHERE key = ?", (json.dumps(row).encode(), name)
            )
    intruder.close()
    told = [p.what for p in run(trail, key).problems]
    with SqliteReader(trail) as reader:
        for committed in reader.disclosures("hmac-sha256:"):
            assert f"does not open to what is disclosed ({committed})" in told


def forged(path, index, place, **other):
    """Open a commitment of the record's people to other words: (commitment, row)."""
    with SqliteReader(path) as reader:
        record = json.loads(next(reader.records(index, index + 1)))
        committed = record["people"][place]["id"]
        opened = Disclosures(reader).open(committed)
    row = {"field": opened.name, "value": opened.value, "salt": opened.salt.hex()}
    return committed, json.dumps(row | other).encode()


def approvers(path, index):
    with SqliteReader(path) as reader, Index(reader) as tables:
        found = Question(reader, tables).read(index)
    return summary(found).values["approvers"]


def put(path, statement, *values):
    with sqlite3.connect(path) as intruder:
        intruder.execute(statement, values)
    intruder.close()


_BESIDE = "INSERT INTO entry_disclosure (idx, key, content) VALUES (?, ?, ?)"
_SHARED = "UPDATE disclosure SET content = ? WHERE key = ?"


@pytest.mark.parametrize(
    "other",
    [
        {"value": "github:666", "salt": "00" * 32},
        {"value": "github:666"},
        {},  # even the truth: nobody's name stands beside an entry
    ],
)
def test_nobody_approved_by_a_row_beside_the_entry(trail, key, other):
    honest = approvers(trail, 2)
    assert honest == ["bob (github:1002)"]
    for place in range(2):
        committed, row = forged(trail, 2, place, **other)
        put(trail, _BESIDE, 2, committed, row)
    assert approvers(trail, 2) == honest
    found = run(trail, key)
    assert [problem.index for problem in found.problems] == [2, 2]
    assert "of none of its own texts" in found.problems[0].what


def test_nobody_approved_by_a_shared_row(trail, key):
    committed, row = forged(trail, 2, 1, value="github:666")
    put(trail, _SHARED, row, committed)
    # An honest row beside the first entry that shows them does not make up for it.
    put(trail, _BESIDE, 1, *forged_back(row, committed))
    assert "666" not in str(approvers(trail, 2))
    told = [problem.what for problem in run(trail, key).problems]
    assert f"does not open to what is disclosed ({committed})" in told


def forged_back(row, committed):
    return committed, json.dumps(json.loads(row) | {"value": "github:1002"}).encode()


def test_a_row_in_clear_that_would_outlive_an_erasure_is_a_problem(trail, key):
    committed, row = forged(trail, 2, 1)
    put(trail, _SHARED, row, committed)
    assert f"stands in clear ({committed})" in first(trail, key).what


@pytest.mark.parametrize("index", [-1, 6, 1000])
def test_a_row_beside_no_entry_is_a_problem(trail, key, index):
    put(trail, _BESIDE, index, *forged(trail, 2, 1))
    assert "stands beside no entry" in first(trail, key).what


@pytest.mark.parametrize(
    ("person", "what"),
    [
        ("github:1002", "the person github:1002 has 2 rows"),
        ("github:7777", "of a person whom nothing names"),
    ],
)
def test_a_person_s_row_too_many_is_a_problem(trail, key, person, what):
    put(trail, "INSERT INTO disclosure (key, content) VALUES (?, ?)", *Subject.mint(person).row)
    assert any(what in problem.what for problem in run(trail, key).problems)


@pytest.mark.parametrize("short", [{"salt": ""}, {"key": "00"}, {"person": 7}])
def test_a_person_s_row_of_another_form_is_a_problem(trail, key, short):
    row_key, content = Subject.mint("github:7").row
    row = json.dumps(json.loads(content) | short).encode()
    put(trail, "INSERT INTO disclosure (key, content) VALUES (?, ?)", row_key, row)
    assert "can't be read" in first(trail, key).what


@pytest.mark.parametrize("record", [b"{", b"[]", b"null", b"\xff", b'"x"'])
def test_an_entry_that_is_no_record(path, key, record):
    with SqliteStore(path, key) as store:
        store.append([Entry(record, "k")])
    found = run(path, key)
    assert found.holds == (record in {b"[]", b"null", b'"x"'})


def test_an_entry_that_is_not_what_its_schema_says(path, key):
    with SqliteStore(path, key) as store:
        store.append([Entry(b'{"schema":"trailgate.dev/record/v1"}', "k")])
    assert "does not have the form of its schema" in first(path, key).what


# What the writer goes by


_KEY = "INSERT INTO dedupe (key, idx) VALUES (?, ?)"


@pytest.mark.parametrize("name", ["claim/boot-1/6/0", "claim/boot-1/5/1", "missing/boot-1/6-6"])
def test_a_key_that_would_have_the_next_claim_dropped_is_a_problem(trail, key, name):
    put(trail, _KEY, name, 5)
    found = first(trail, key)
    assert (found.index, f"the dedupe key {name} names this entry" in found.what) == (5, True)


def test_a_key_that_names_no_entry_is_a_problem(trail, key):
    put(trail, _KEY, "claim/boot-1/6/0", 6)
    assert "names entry 6, which is not there" in first(trail, key).what


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("value = CAST(replace(value, ':5', ':55') AS BLOB)", "the position says batch 55, the"),
        ("value = CAST(replace(value, ':5', ':4') AS BLOB)", "the position says batch 4, the"),
        ("value = CAST('{' AS BLOB)", "can't be read"),
        ("name = 'spool/other'", "process boot-1: the position says batch none"),
        ("name = 'other'", "process boot-1: the position says batch none"),
    ],
)
def test_a_position_that_the_entries_do_not_bear_out_is_a_problem(trail, key, change, what):
    tamper(trail, f"UPDATE position SET {change}")
    assert what in first(trail, key).what


def spooled(path, key, *places, gaps=()):
    """A ledger of claims from these (batch, claim) of one process; gaps: before which, of what."""
    sqlite.create(path, key)
    vault, made = rec.Vault(), []
    for number, (seq, index) in enumerate(places):
        for before, first_seq, last_seq in gaps:
            if before == number:
                claim = rec.gap(
                    trails.examples.CONTEXT, trails.examples.NOW, rec.GapCause.BATCHES_MISSING,
                    boot="b", first_seq=first_seq, last_seq=last_seq,
                )  # fmt: skip
                made.append((claim, f"missing/b/{first_seq}-{last_seq}", None))
        claim = trails.claims()[0]
        made.append((claim, f"claim/b/{seq}/{index}", rec.Position("b", seq, index)))
    last = max((seq for seq, _ in places), default=0)
    with SqliteStore(path, key) as store:
        for claim, name, position in made:
            record, rows = rec.commit(
                claim, vault, recorded_at=trails.examples.NOW, position=position
            )
            kept = {"spool/b": Last(last, Digest.of(b"")).to_bytes()}
            store.append([Entry(rec.encode(record), name, rows)], positions=kept)
    return path


@pytest.mark.parametrize(
    ("places", "gaps"),
    [
        ([(0, 0), (1, 0), (1, 1), (1, 2), (2, 0)], ()),
        ([(0, 0), (3, 0), (4, 0)], [(1, 1, 2)]),
        ([(2, 0), (2, 1)], [(0, 0, 1)]),
    ],
)
def test_batches_that_are_all_there_or_told_to_be_missing_hold(tmp_path, key, places, gaps):
    assert run(spooled(tmp_path / "s.db", key, *places, gaps=gaps), key).problems == ()


@pytest.mark.parametrize(
    ("places", "gaps", "wrong"),
    [
        ([(0, 0), (2, 0)], (), (1, "process b: batch 2, claim 0, expected batch 1")),
        ([(1, 0)], (), (0, "batch 1, claim 0, expected batch 0")),
        ([(0, 0), (1, 1)], (), (1, "batch 1, claim 1, expected claim 0")),
        ([(0, 0), (0, 2)], (), (1, "batch 0, claim 2, expected claim 1")),
        ([(0, 0), (3, 0)], [(1, 1, 1)], (2, "batch 3, claim 0, expected batch 2")),
        ([(0, 0), (3, 0)], [(1, 2, 2)], (2, "batch 3, claim 0, expected batch 1")),
    ],
)
def test_a_claim_that_is_missing_without_a_gap_is_a_problem(tmp_path, key, places, gaps, wrong):
    found = first(spooled(tmp_path / "s.db", key, *places, gaps=gaps), key)
    assert (found.index, wrong[1] in found.what) == (wrong[0], True)


def test_a_claim_that_comes_twice_is_a_problem(trail, key):
    with SqliteStore(trail, key) as store:
        again = trails.entries(rec.Vault(store.disclosures("subject:")), trails.claims()[:1])
        store.append([Entry(again[0].record, "under another key", again[0].disclosures)])
    assert "batch 0, claim 0, expected batch 6" in first(trail, key).what


# Any byte


def contents(path):
    """All that the verifier vouches for, as SQLite gives it back."""
    with SqliteReader(path) as reader:
        log = reader.log()
        size = reader.count()
        return (
            list(reader.records()),
            [reader.nodes(level, 0, size) for level in range(5)],
            reader.count_nodes(),
            reader.checkpoints(),
            log,
            people.reveal(reader.disclosures()),
            [people.reveal(reader.disclosures_of(index)) for index in range(size)],
        )


def holds(path, key):
    try:
        return run(path, key).holds
    except LedgerError:
        return False  # refused as no ledger at all, or one of another version


def test_a_flipped_byte_anywhere_is_found_or_harmless(tmp_path, key):
    trail = trails.write(tmp_path / "trail.db", key, some=trails.claims()[:3])
    good, whole = contents(trail), trail.read_bytes()
    randomness = random.Random(6962)
    found = harmless = 0
    for _ in range(400):
        place, bit = randomness.randrange(len(whole)), 1 << randomness.randrange(8)
        changed = bytearray(whole)
        changed[place] ^= bit
        trail.write_bytes(changed)
        if not holds(trail, key):
            found += 1
            continue
        harmless += 1
        assert contents(trail) == good, f"byte {place} bit {bit:#x} went unnoticed"
    assert found > 100
    assert harmless > 0


def test_rows_out_of_order_end_in_an_answer(trail, key):
    """SQLite gives them as they stand, so that "those after the last" never ended."""
    with SqliteReader(trail) as reader:
        last = [name for name, _ in reader.every_disclosure()][-1].encode()
    whole = trail.read_bytes()
    assert whole.count(last) == 1
    trail.write_bytes(whole.replace(last, b"!" + last[1:]))
    found = run(trail, key)
    assert any("out of order" in one.what for one in found.problems), found.problems


def test_damage_that_only_sqlite_sees_is_found(trail, key):
    whole = bytearray(trail.read_bytes())
    whole[36:40] = (7).to_bytes(4, "big")  # the header's count of free pages
    trail.write_bytes(whole)
    assert first(trail, key).what == "the file's structure is damaged"


@pytest.mark.parametrize("keep", [0, 10, 100, 4096, 9000, -5000, -1])
def test_a_truncated_file_is_no_traceback(trail, key, keep):
    trail.write_bytes(trail.read_bytes()[:keep])
    try:
        found = run(trail, key)
    except LedgerCorruptError:
        return
    assert not found.holds


def test_problems_are_listed_up_to_a_limit_and_counted_beyond(path, key):
    plain(path, key, 250)
    tamper(path, "UPDATE entry SET record = CAST(record || ' ' AS BLOB)")
    found = run(path, key)
    assert len(found.problems) == MAX_PROBLEMS
    assert found.more == 150
    assert [problem.index for problem in found.problems] == list(range(MAX_PROBLEMS))


# The walk itself


def test_progress_is_told(path, key):
    plain(path, key, CHUNK + 5)
    told = []
    with SqliteReader(path) as reader:
        verify(reader, [key.verifier], progress=lambda done, total: told.append((done, total)))
    assert told == [(CHUNK, CHUNK + 5), (CHUNK + 5, CHUNK + 5)]


def test_the_walk_computes_every_root(path, key):
    size = 2 * CHUNK + 77
    records = [b"%d" % n for n in range(size)]
    frontier, roots = Frontier(), {}
    for number, record in enumerate(records, 1):
        frontier.append(leaf_hash(record))
        roots[number] = frontier.root()

    class Nothing:
        def nodes(self, level, start, stop):
            return {}

    walk = Walk(Nothing(), wanted=roots)
    for chunk in chunks(records):
        walk.add(chunk)
    assert {size: root for size, root in walk.roots.items() if size} == roots
    assert walk.root() == roots[size]
    assert walk.count == len(walk.differences) == 2 * size - size.bit_count()
