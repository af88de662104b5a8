import json
from datetime import UTC, datetime

import pytest

from tests.core.evidence.samples import BASE, COMMIT, HEAD, IMAGE
from trailgate.evidence import change, changefile
from trailgate.model.errors import MalformedError
from trailgate.model.evidence import Basis

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
FILE = f"""
source:
  uri: https://github.com/acme/web
  ref: refs/heads/main
  from: {BASE}
  to: {COMMIT}
  commits: [{COMMIT}]
changes:
  - uri: https://github.com/acme/web/pull/42
    headCommit: {HEAD}
    mergeCommit: {COMMIT}
    commits: [{HEAD}]
committers: [{{id: "github:1001", login: no}}]
approvers:
  - {{id: "github:2002", state: APPROVED, commit: {HEAD}, at: 2026-11-23T08:00:00Z,
      binding: forge-merge}}
ticket: 0012
"""


def made(text: str):
    record = changefile.read(text.encode())
    return changefile.predicate(record, image=IMAGE, verifier="https://a.b/verifier", at=AT)


def test_a_file_becomes_an_asserted_record():
    summary = made(FILE)
    assert summary["verificationResult"] == "PASSED"
    assert summary["verifiedLevels"] == [change.TWO_PARTY]
    assert summary["resourceUri"] == str(IMAGE)
    record = change.read(summary)
    assert (record.basis, record.passed) == (Basis.ASSERTED, True)
    assert (record.verifier, record.verified_at) == ("https://a.b/verifier", AT)
    assert record.committers[0].login == "no"
    assert record.ticket == "0012"
    assert record.changes[0].approvals[0].at == datetime(2026, 11, 23, 8, tzinfo=UTC)


def test_json_is_read_as_well():
    record = changefile.read(FILE.encode())
    assert changefile.read(json.dumps(record).encode()) == record


def test_a_commit_of_digits_only_stays_a_commit():
    digits = "1234567890" * 4
    assert changefile.read(FILE.replace(COMMIT, digits).encode())["source"]["to"] == digits


@pytest.mark.parametrize(
    ("old", "new", "result", "levels"),
    [
        ("github:2002", "github:1001", "PASSED", []),
        ("state: APPROVED", "state: COMMENTED", "FAILED", []),
        ("state: APPROVED", "bot: true, state: APPROVED", "FAILED", []),
        (f"    mergeCommit: {COMMIT}\n", "", "FAILED", []),
        (f"commits: [{COMMIT}]", f"commits: [{COMMIT}, {'9a' * 20}]", "FAILED", []),
    ],
    ids=["self-approved", "no approval", "approved by a bot", "merge unclaimed", "gap"],
)
def test_the_verdict_says_whether_every_commit_is_in_an_approved_change(old, new, result, levels):
    assert old in FILE
    summary = made(FILE.replace(old, new))
    assert (summary["verificationResult"], summary["verifiedLevels"]) == (result, levels)


def test_a_baseline_must_cover_only_what_it_ships():
    text = FILE.replace(f"from: {BASE}", "from: null")
    more = text.replace(f"commits: [{COMMIT}]", f"commits: [{COMMIT}, {'9a' * 20}]")
    assert made(more)["verificationResult"] == "PASSED"
    assert made(more)[change.EXTENSION]["source"]["from"] is None
    bare = text.replace(f"    mergeCommit: {COMMIT}\n", "")
    assert made(bare)["verificationResult"] == "FAILED"


def test_the_last_pusher_is_not_independent():
    text = FILE.replace("    commits", '    lastPusher: {id: "github:2002"}\n    commits')
    assert made(text)["verifiedLevels"] == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("source:", "basis: forge-api\nsource:", "can only assert"),
        ("source:", "basis: 7\nsource:", "can only assert"),
        ("ticket:", "tikcet:", r"unknown field \$.tikcet"),
        ("mergeCommit:", "merge_commit:", r"unknown field \$.changes\[0\].merge_commit"),
        ("login: no", "mail: no", r"unknown field \$.committers\[0\].mail"),
        ("ticket: 0012", "ticket: a\nticket: b", "twice"),
        ("  ref: refs/heads/main", "  uri: https://github.com/acme/other", "twice"),
        (f"  to: {COMMIT}\n", "", "to"),
        ("binding: forge-merge", "binding: sure", "binding"),
        ('id: "github:1001"', "id: alice", "id"),
        ("source:", "source: [", "neither JSON nor YAML"),
        ("source:", "source: !!python/object:os.system x\nb:", "neither JSON nor YAML"),
        ("uri: https://github.com/acme/web\n", "uri: acme/web\n", "repository"),
        (f"commits: [{COMMIT}]", f"commits: [{HEAD}]", "lack the commit"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(old, new, said):
    assert old in FILE
    with pytest.raises(MalformedError, match=said):
        made(FILE.replace(old, new))


@pytest.mark.parametrize("text", ["", "7", "[]", "a", "\x00", "&a [*a]"])
def test_what_is_no_mapping_is_refused(text):
    with pytest.raises(MalformedError):
        changefile.read(text.encode())


def test_basis_asserted_may_be_said():
    assert made("basis: asserted" + FILE)[change.EXTENSION]["basis"] == "asserted"
