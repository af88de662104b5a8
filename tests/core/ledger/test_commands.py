"""`trailgate ledger …` as a person or a script runs it."""

import csv
import io
import json
import shutil
import sqlite3
from dataclasses import replace

import pytest
from click.testing import CliRunner

from tests.core.ledger import trails
from trailgate.cli.ledger_options import KINDS, OUTCOMES, STATES
from trailgate.cli.main import main
from trailgate.ledger import record as rec
from trailgate.ledger.index import index_path
from trailgate.ledger.index_rows import STAGES
from trailgate.ledger.keys import read_signing_key
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.store import Entry
from trailgate.model.evidence import Person
from trailgate.tlog import checkpoint
from trailgate.tlog.note import SigningKey, VerifierKey


def run(*arguments, code=0):
    done = CliRunner().invoke(main, ["ledger", *map(str, arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.fixture
def trail(tmp_path, key):
    return trails.write(tmp_path / "trail.db", key)


@pytest.fixture
def address(trail):
    return f"--ledger=sqlite:{trail}"


# init


def test_init_makes_a_ledger_its_key_and_the_vkey(tmp_path):
    path, secret = tmp_path / "l.db", tmp_path / "log.key"
    done = run("init", f"--ledger=sqlite:{path}", "--origin", "example.com/trail", "--key", secret)
    vkey = VerifierKey.parse(done.stdout.strip())
    assert vkey.name == "example.com/trail"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "log.vkey").read_text() == done.stdout
    assert secret.read_text().strip() not in done.output
    key = read_signing_key(secret)
    assert key.verifier == vkey
    with SqliteStore(path, key) as store:
        assert store.append([Entry(b"{}", "k")]) == (0,)
    assert (
        "entries                 1"
        in run("verify", f"--ledger=sqlite:{path}", "--vkey", tmp_path / "log.vkey").stdout
    )


@pytest.mark.parametrize("taken", ["l.db", "log.key", "log.vkey"])
def test_init_overwrites_nothing(tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    arguments = [f"--ledger=sqlite:{tmp_path / 'l.db'}", "--key", tmp_path / "log.key"]
    done = run("init", *arguments, "--origin", "example.com/trail", code=2)
    assert "already there; nothing was changed" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == [taken]
    assert (tmp_path / taken).read_text() == "mine"


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb"])
def test_init_refuses_names_that_no_note_can_carry(tmp_path, origin):
    arguments = [f"--ledger=sqlite:{tmp_path / 'l.db'}", "--key", tmp_path / "log.key"]
    assert "key name" in run("init", *arguments, "--origin", origin, code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_an_init_that_fails_leaves_no_key_behind(tmp_path):
    path, secret = tmp_path / "none" / "l.db", tmp_path / "log.key"
    arguments = [f"--ledger=sqlite:{path}", "--origin", "example.com/trail", "--key", secret]
    run("init", *arguments, code=3)
    run("init", *arguments, "--vkey", tmp_path / "none" / "v", code=2)
    assert list(tmp_path.iterdir()) == []


# list


def test_entries_of_an_unknown_schema_are_listed(path, key):
    with SqliteStore(path, key) as store:
        store.append([Entry(b'{"schema":"later"}', "k")])
    lines = run("list", f"--ledger=sqlite:{path}").stdout.splitlines()
    assert lines[1].split()[:2] == ["0", "null,"]
    assert "unknown" in lines[1]
    assert "can't show it" in run("show", 0, f"--ledger=sqlite:{path}", code=3).stderr


def test_the_kinds_are_the_records():
    assert set(KINDS) == {kind.value for kind in rec.Kind}
    assert ("admitted", *STAGES) == STATES
    assert ("admitted", "refused", *rec.TestOutcome) == OUTCOMES


def test_list_as_a_table(address):
    lines = run("list", address).stdout.splitlines()
    assert lines[0].split()[:4] == ["INDEX", "DECIDEDAT", "KIND", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == ["0", "2", "3", "4", "5"]
    assert "alice (github:1001)" in lines[2]
    assert "null, ConfigurationNotAttested" in lines[3]


def test_list_as_json(address):
    found = json.loads(run("list", address, "-o", "json", "--workload", "Deployment/web").stdout)
    assert (found["entries"], found["matching"], len(found["rows"])) == (6, 5, 5)
    row = found["rows"][2]
    assert row["approvers"] is None
    assert row["absent"]["approvers"] == "ConfigurationNotAttested"


def test_list_as_csv_is_rfc_4180(address):
    text = run("list", address, "-o", "csv").stdout_bytes.decode()
    assert text.count("\r\n") == 6
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["index"] for row in rows] == ["0", "2", "3", "4", "5"]
    assert rows[1]["committers"] == "alice (github:1001)"
    assert rows[2]["approvers"] == "null, ConfigurationNotAttested"
    assert rows[1]["images"] == str(trails.examples.verdict("web", "1.1").image.digest)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_name_cannot_become_a_formula(tmp_path, key, start):
    evil = Person("github:66", login=f"{start}HYPERLINK(1)")
    release = trails.examples.release()
    verdict = trails.examples.with_predicates(
        release.decision.images[0],
        change=trails.examples.change_record("web", "1.1", committers=(evil,)),
    )
    decision = replace(release.decision, images=(verdict,))
    claim = rec.admitted(replace(release, decision=decision), trails.examples.CONTEXT)
    path = trails.write(tmp_path / "evil.db", key, some=[claim])
    text = run("list", f"--ledger=sqlite:{path}", "-o", "csv").stdout_bytes.decode()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    login = json.dumps(f"{start}HYPERLINK(1)")
    assert row["committers"].startswith(f"{login} (github:66)")
    table = run("list", f"--ledger=sqlite:{path}").stdout
    assert "\t" not in table
    assert "\r" not in table


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["--committer", "alice"], [2, 4]),
        (["--approver", "github:1002"], [2, 4]),
        (["--caller", "dave@acme.example"], [0, 5]),
        (["--from", "2026-11-23T14:00:00Z", "--to", "2026-11-23T17:00:00Z"], [2, 3]),
        (["--from", "2026-11-24"], []),
        (["--kind", "refused"], [5]),
        (["--kind", "persisted"], []),
        (["--state", "admitted"], [0, 2, 3, 4]),
        (["--state", "running"], []),
        (["--outcome", "refused"], [5]),
        (["--outcome", "passed"], []),
        (["-n", "other"], []),
        (["--workload", "web", "--kind", "admitted"], [0, 2, 3, 4]),
        (["--image", str(trails.examples.verdict("api", "2.1").image.digest)], [4]),
        (["--commit", trails.examples.commit_id("api 2.1")[:7]], [4]),
    ],
)
def test_list_takes_every_filter(address, asked, expected):
    found = json.loads(run("list", address, "-o", "json", *asked).stdout)
    assert [row["index"] for row in found["rows"]] == expected


def test_a_limit_is_never_silent(address):
    done = run("list", address, "--limit", 2, "-o", "json")
    assert [row["index"] for row in json.loads(done.stdout)["rows"]] == [4, 5]
    assert json.loads(done.stdout)["matching"] == 5
    assert "the newest 2 of 5 rows" in done.stderr
    assert "newest" not in run("list", address, "--limit", 5).stderr


def test_somebody_unknown_is_said_to_be(address):
    done = run("list", address, "--committer", "mallory")
    assert "nobody in this ledger has the id or login mallory" in done.stderr
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "asked",
    [
        ["--from", "yesterday"],
        ["--image", "web"],
        ["--commit", "main"],
        ["--kind", "deployed"],
        ["--outcome", "ok"],
        ["--state", "deployed"],
        ["--limit", "0"],
        ["--ledger", "trail.db"],
        ["--ledger", "sqlite:"],
        ["--ledger", "https://auditor.example"],
    ],
)
def test_a_question_that_cannot_be_meant_is_usage(address, asked):
    run("list", address, *asked, code=2)


def test_a_missing_ledger_is_undetermined(tmp_path):
    for command in (["list"], ["show", 0], ["verify"], ["receipt", 0], ["reindex"], ["checkpoint"]):
        done = run(*command, f"--ledger=sqlite:{tmp_path / 'none.db'}", code=3)
        assert "there is no ledger" in done.stderr
    assert list(tmp_path.iterdir()) == []


# show


def test_show_tells_an_entry(address):
    told = run("show", 2, address).stdout
    for words in (
        "committed by            alice (github:1001)",
        "approved by             bob (github:1002), on 2026-11-23T09:06:00",
        "deployment approved by  carol",
        "PASSED (212 run, 0 failed, 3 skipped)",
        "signed by key sha256:",
        "production Enforce (generation 7",
        "decided                 2026-11-23T15:06:00",
    ):
        assert words in told, words
    assert "null, ConfigurationNotAttested" in run("show", 3, address).stdout
    assert "SignatureMissing" in run("show", 5, address).stdout


def test_show_as_json_has_the_record_and_the_names(address):
    found = json.loads(run("show", 2, address, "-o", "json").stdout)
    assert (found["index"], found["claims"], found["first"]) == (2, 2, 1)
    assert found["record"]["people"][0]["id"].startswith("hmac-sha256:")
    assert found["clear"]["change"]["approvers"][0]["person"]["id"] == "github:1002"


def test_show_of_what_is_not_there(address):
    assert "has no entry 6" in run("show", 6, address, code=2).stderr
    run("show", -1, address, code=2)
    run("show", "x", address, code=2)


# verify


def test_verify_with_key_and_checkpoint(address, key, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text(run("checkpoint", address).stdout)
    assert checkpoint.verify(kept.read_text(), [key.verifier]).size == 6
    done = run("verify", address, "--vkey", key, "--checkpoint", kept)
    assert done.stdout.splitlines()[-1] == "ok"
    assert "up to size 6, by a checkpoint from outside" in done.stdout
    found = json.loads(
        run("verify", address, "--vkey", key, "--checkpoint", kept, "-o", "json").stdout
    )
    assert (found["holds"], found["authenticated"], found["anchored"]) == (True, True, 6)


def test_verify_without_a_key_determines_nothing(address):
    done = run("verify", address, code=3)
    assert "self-consistent, not authenticated" in done.stdout
    assert "entries dropped from the end would not show" in done.stdout
    assert "\nok" not in done.stdout
    assert not json.loads(run("verify", address, "-o", "json", code=3).stdout)["authenticated"]


def test_verify_names_what_was_changed(trail, address, key):
    with sqlite3.connect(trail) as intruder:
        intruder.execute("UPDATE entry SET record = CAST(record || ' ' AS BLOB) WHERE idx = 3")
    intruder.close()
    done = run("verify", address, "--vkey", key, code=1)
    assert "FAILED: entry 3: the entry does not hash to its leaf in the tree" in done.stdout
    assert "expected " in done.stdout
    assert "found " in done.stdout
    problem = json.loads(run("verify", address, "--vkey", key, "-o", "json", code=1).stdout)[
        "problems"
    ][0]
    assert problem["index"] == 3
    run("verify", address, code=1)


def test_verify_against_an_older_copy(trail, address, key, tmp_path):
    shutil.copy(trail, tmp_path / "old.db")
    with SqliteStore(trail, key) as store:
        store.append([Entry(b"{}", "k")])
    (tmp_path / "kept").write_text(run("checkpoint", address).stdout)
    arguments = [f"--ledger=sqlite:{tmp_path / 'old.db'}", "--vkey", key]
    run("verify", *arguments)
    done = run("verify", *arguments, "--checkpoint", tmp_path / "kept", code=1)
    assert "FAILED: entry 6: the ledger is behind the checkpoint" in done.stdout
    assert "no checkpoint from outside agrees" in done.stdout


@pytest.mark.parametrize(
    "content", [b"not a database" * 200, b"", b"SQLite format 3\0" + bytes(4000)]
)
def test_verify_of_a_damaged_file_is_a_verdict(trail, address, key, content):
    trail.write_bytes(content)
    done = run("verify", address, "--vkey", key, code=1)
    assert done.stdout.startswith("FAILED: ")
    assert "Traceback" not in done.output
    assert not json.loads(run("verify", address, "-o", "json", code=1).stdout)["holds"]


@pytest.mark.parametrize("vkey", ["", "nonsense", "PRIVATE+KEY+a+b+c"])
def test_verify_with_no_key_at_all_in_the_option_is_usage(address, vkey):
    run("verify", address, "--vkey", vkey, code=2)


def test_verify_with_a_checkpoint_that_is_none(address, key, tmp_path):
    run("verify", address, "--vkey", key, "--checkpoint", tmp_path / "none", code=2)
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    done = run("verify", address, "--vkey", key, "--checkpoint", tmp_path / "bad", code=1)
    assert "is not this log's" in done.stdout


# receipts


def test_a_receipt_verifies_without_the_ledger(trail, address, key, tmp_path):
    proof, entry = tmp_path / "r.tlog-proof", tmp_path / "entry.json"
    run("receipt", 3, address, "--out", proof, "--entry", entry)
    trail.unlink()
    arguments = ["verify-receipt", proof, "--entry", entry, "--vkey"]
    assert run(*arguments, key).stdout == f"ok: entry 3 of {key.name}, in its tree of 6 entries\n"
    done = run(*arguments, SigningKey(key.name, bytes(32)), code=1)
    assert done.stdout.startswith("FAILED: ")
    entry.write_bytes(entry.read_bytes() + b" ")
    assert "proof for leaf 3 of 6 gives root" in run(*arguments, key, code=1).stdout
    proof.write_text("nonsense")
    assert "expected 'c2sp.org/tlog-proof@v1'" in run(*arguments, key, code=2).stderr
    run(*arguments[:-1], code=2)


def test_a_receipt_goes_to_stdout(address):
    assert run("receipt", 0, address).stdout.startswith("c2sp.org/tlog-proof@v1\nindex 0\n")
    assert "no entry 6" in run("receipt", 6, address, code=2).stderr


def test_a_receipt_that_cannot_be_written(address, tmp_path):
    assert "can't write" in run("receipt", 0, address, "--out", tmp_path, code=2).stderr


# reindex


def test_reindex(trail, address):
    assert "indexed 6 entries" in run("reindex", address).stderr
    with sqlite3.connect(index_path(trail)) as intruder:
        intruder.execute("UPDATE event SET kind = 'gap'")
    intruder.close()
    assert "2 " not in run("list", address, "--kind", "admitted").stdout
    run("reindex", address)
    assert len(run("list", address, "--kind", "admitted").stdout.splitlines()) == 5
