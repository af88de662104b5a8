"""Questions to a ledger of real records: every filter finds, and leaves out."""

import json
import sqlite3
import stat
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.ledger import trails
from trailgate.ledger import record as rec
from trailgate.ledger.errors import EntryNotFoundError, UnknownSchemaError
from trailgate.ledger.index import Index, index_path
from trailgate.ledger.people import Revealed, erase
from trailgate.ledger.plain import plain
from trailgate.ledger.query import Filter, Question, moment
from trailgate.ledger.readable import Reader
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import Entry
from trailgate.ledger.summary import COLUMNS, summary
from trailgate.model.admission import Operation
from trailgate.model.errors import MalformedError

EXAMPLES = trails.examples
NOW = EXAMPLES.NOW

# What trails.claims() is, by index. 1 and 2 are two claims on one change.
AUDIT, _RELEASE_1, RELEASE, CONFIGURATION, TWO, REFUSED = range(6)


@pytest.fixture
def trail(tmp_path, key):
    return trails.write(tmp_path / "trail.db", key)


def ask(path, **asked):
    with SqliteReader(path) as reader, Index(reader) as index:
        return [row[0] for row in Question(reader, index).select(Filter(**asked))]


def read(path, index):
    with SqliteReader(path) as reader, Index(reader) as tables:
        question = Question(reader, tables)
        claims, first = tables.claims(index)
        return question.read(index, claims, first)


def test_without_a_filter_everything_once_per_change(trail):
    with SqliteReader(trail) as reader, Index(reader) as index:
        question = Question(reader, index)
        selected = question.select(Filter())
        assert selected == [(0, 1, 0), (2, 2, 1), (3, 1, 3), (4, 1, 4), (5, 1, 5)]
        assert [found.index for found in question.find(selected)] == [0, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"kind": "refused"}, [REFUSED]),
        ({"kind": "admitted"}, [AUDIT, RELEASE, CONFIGURATION, TWO]),
        ({"kind": "gap"}, []),
        ({"outcome": "refused"}, [REFUSED]),
        ({"outcome": "admitted"}, [AUDIT, RELEASE, CONFIGURATION, TWO]),
        ({"namespace": "shop"}, [AUDIT, RELEASE, CONFIGURATION, TWO, REFUSED]),
        ({"namespace": "sho"}, []),
        ({"namespace": "shop%"}, []),
        ({"workload": "web"}, [AUDIT, RELEASE, CONFIGURATION, TWO, REFUSED]),
        ({"workload": "deployment/web"}, [AUDIT, RELEASE, CONFIGURATION, TWO, REFUSED]),
        ({"workload": "StatefulSet/web"}, []),
        ({"workload": "we"}, []),
        ({"committer": "github:1001"}, [RELEASE, TWO]),
        ({"committer": "alice"}, [RELEASE, TWO]),
        ({"committer": "Alice Ashton"}, []),
        ({"committer": "bob"}, []),
        ({"committer": "ali"}, []),
        ({"approver": "bob"}, [RELEASE, TWO]),
        ({"approver": "github:1002"}, [RELEASE, TWO]),
        ({"approver": "alice"}, []),
        ({"approver": "carol"}, []),
        ({"approver": "nobody"}, []),
        ({"caller": "system:serviceaccount:ci:deployer"}, [RELEASE, CONFIGURATION, TWO]),
        ({"caller": "dave@acme.example"}, [AUDIT, REFUSED]),
        ({"caller": "kubernetes:dave@acme.example"}, [AUDIT, REFUSED]),
        ({"caller": "alice"}, []),
        ({"image": str(EXAMPLES.sha("nothing"))}, []),
        ({"commit": EXAMPLES.commit_id("web 1.1")}, [RELEASE, CONFIGURATION, TWO]),
        ({"commit": EXAMPLES.commit_id("web 1.1")[:7]}, [RELEASE, CONFIGURATION, TWO]),
        ({"commit": EXAMPLES.commit_id("web 1.1 head")[:12]}, [RELEASE, CONFIGURATION, TWO]),
        ({"commit": EXAMPLES.commit_id("api 2.1")}, [TWO]),
        ({"commit": "0" * 40}, []),
        ({"start": NOW + trails.HOUR}, [RELEASE, CONFIGURATION, TWO]),
        ({"end": NOW}, []),
        ({"end": NOW + trails.HOUR}, [AUDIT, REFUSED]),
        ({"start": NOW, "end": NOW + timedelta(microseconds=1)}, [AUDIT]),
        ({"kind": "admitted", "caller": "dave@acme.example"}, [AUDIT]),
        ({"kind": "refused", "committer": "alice"}, []),
    ],
)
def test_each_filter_finds_and_leaves_out(trail, asked, expected):
    assert ask(trail, **asked) == expected


def test_images_are_found_by_their_own_and_their_platforms_digest(trail):
    web = EXAMPLES.verdict("web", "1.1")
    assert ask(trail, image=str(web.image.digest)) == [RELEASE, CONFIGURATION, TWO]
    assert ask(trail, image=str(web.platforms[1])) == [RELEASE, CONFIGURATION, TWO]
    api = EXAMPLES.verdict("api", "2.1")
    assert ask(trail, image=str(api.image.digest)) == [TWO]


@pytest.mark.parametrize(
    "asked",
    [
        {"image": "cf98884f"},
        {"image": "sha256:cf98"},
        {"commit": "abc"},
        {"commit": "ABCDEF0"},
        {"commit": "main"},
        {"commit": "0" * 65},
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(trail, asked):
    with pytest.raises(MalformedError):
        ask(trail, **asked)


def test_who_is_asked_for_and_unknown_is_told(trail):
    with SqliteReader(trail) as reader, Index(reader) as index:
        question = Question(reader, index)
        assert question.select(Filter(committer="nobody", approver="bob")) == []
        assert question.unknown == ["nobody"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23", "2026-11-23T00:00:00+00:00"),
        ("2026-11-23T13:06:00Z", "2026-11-23T13:06:00+00:00"),
        ("2026-11-23T13:06:00+02:00", "2026-11-23T13:06:00+02:00"),
    ],
)
def test_times_are_read(text, expected):
    assert moment(text).isoformat() == expected


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2026-11-23T13:06:00", "23.11.2026"]
)
def test_other_times_are_refused(text):
    with pytest.raises(MalformedError):
        moment(text)


@pytest.mark.parametrize(("state", "expected"), [("APPROVED", [0]), ("DISMISSED", [])])
def test_of_several_changes_only_approvals_count_for_the_filter(tmp_path, key, state, expected):
    two = EXAMPLES.two_repositories()
    verdicts = []
    for name, release, verdict in zip(
        ("web", "api"), ("1.1", "2.1"), two.decision.images, strict=True
    ):
        record = EXAMPLES.change_record(name, release)
        (change,) = record.changes
        approvals = tuple(replace(one, state=state) for one in change.approvals)
        told = replace(record, changes=(replace(change, approvals=approvals),))
        verdicts.append(EXAMPLES.with_predicates(verdict, change=told))
    claim = rec.admitted(
        replace(two, decision=replace(two.decision, images=tuple(verdicts))), EXAMPLES.CONTEXT
    )
    path = trails.write(tmp_path / "t.db", key, some=[claim])
    assert ask(path, approver="bob") == expected
    assert ask(path, committer="alice") == [0]


# The index is derived


def deletion(caller):
    """Dave deletes, or somebody else: a change that two can ask for."""
    found = EXAMPLES.release()
    gone = replace(
        found.request, operation=Operation.DELETE, object=None, caller=caller,
        old_object=found.request.object,
    )  # fmt: skip
    return rec.admitted(replace(found, request=gone), EXAMPLES.CONTEXT)


def test_two_who_ask_for_one_change_are_two_rows(tmp_path, key):
    robot = EXAMPLES.DEPLOYER
    callers = (EXAMPLES.LAPTOP, robot, EXAMPLES.LAPTOP, replace(robot, extra={}), robot)
    claims = [deletion(caller) for caller in callers]
    assert len({claim["changeId"] for claim in claims}) == 1
    path = trails.write(tmp_path / "two.db", key, some=claims)
    assert ask(path) == [2, 3, 4]
    assert ask(path, caller=EXAMPLES.LAPTOP.username) == [2]
    assert ask(path, caller=robot.username) == [3, 4]
    assert [(read(path, n).claims, read(path, n).first) for n in range(5)] == [
        (2, 0), (2, 1), (2, 0), (1, 3), (2, 1),
    ]  # fmt: skip


def test_a_borrowed_name_is_never_shown_bare(tmp_path, key):
    claims = [deletion(EXAMPLES.DEPLOYER), deletion(replace(EXAMPLES.DEPLOYER, extra={}))]
    path = trails.write(tmp_path / "borrowed.db", key, some=claims)
    own, borrowed = read(path, 0), read(path, 1)
    name = EXAMPLES.DEPLOYER.username
    marked = f"{name} (impersonated: no credential)"
    assert summary(own).cells()["caller"] == name
    assert summary(borrowed).cells()["caller"] == marked
    told = dict(plain(borrowed))
    assert told["change"].startswith(f"{marked} deleted ")
    assert told["sent by"] == marked
    assert dict(plain(own))["sent by"] == name


@pytest.mark.parametrize(
    ("login", "name", "shown"),
    [
        ("bob", "Bob Berg", "bob (i:7)"),
        ("bob.b+x@y-z_1", None, "bob.b+x@y-z_1 (i:7)"),
        ("7", None, "i:7"),
        (None, None, "i:7"),
        (None, "bob (github:1002)", '"bob (github:1002)" (i:7)'),
        (None, "bob", '"bob" (i:7)'),
        ("bob (github:1002)", None, '"bob (github:1002)" (i:7)'),
        ("null, NotFound", None, '"null, NotFound" (i:7)'),
        ("a; b", None, '"a; b" (i:7)'),
        ('x" (i:1)', None, '"x\\" (i:1)" (i:7)'),
    ],
)
def test_no_name_passes_for_a_login_and_an_id(login, name, shown):
    person = {"id": "1", "login": login and "2", "name": name and "3", "bot": False}
    values = {"1": ("id", "i:7"), "2": ("login", login), "3": ("name", name)}
    revealed = {at: Revealed(*one, b"") for at, one in values.items() if one[1] is not None}
    assert Reader({"people": [person]}, revealed).person(0) == shown


def test_the_index_grows_with_the_ledger(trail, key):
    assert len(ask(trail)) == 5
    with SqliteStore(trail, key) as store:
        vault = rec.Vault(store.disclosures("subject:"))
        store.append(trails.entries(vault, [trails.claims()[REFUSED]], 100))
        assert len(ask(trail)) == 6
        # A third claim on the change of entries 1 and 2.
        store.append(trails.entries(vault, [trails.claims()[RELEASE]], 200))
    with SqliteReader(trail) as reader, Index(reader) as index:
        assert (7, 3, 1) in Question(reader, index).select(Filter())
        assert not index.in_memory


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"not a database" * 100),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(b""),
        lambda path: run(path, "UPDATE progress SET origin = 'other'"),
        lambda path: run(path, "UPDATE progress SET size = 99"),
        lambda path: run(path, "UPDATE progress SET leaf = zeroblob(32)"),
        lambda path: run(path, "DROP TABLE change"),
    ],
)
def test_a_bad_index_is_made_anew(trail, damage):
    before = ask(trail, committer="alice")
    damage(index_path(trail))
    assert ask(trail, committer="alice") == before


def run(path, statement):
    with sqlite3.connect(path) as made:
        made.execute(statement)
    made.close()


def test_an_index_of_another_history_is_made_anew(trail, key):
    assert ask(trail, kind="refused") == [REFUSED]
    trail.unlink()
    trails.write(trail, key, some=trails.claims()[::-1])
    assert ask(trail, kind="refused") == [0]


def test_two_who_bring_it_up_to_date_at_once_do_not_collide(trail, monkeypatch):
    original = Index._catch_up

    def overtaken(index):
        monkeypatch.setattr(Index, "_catch_up", original)
        ask(trail)
        original(index)

    monkeypatch.setattr(Index, "_catch_up", overtaken)
    with SqliteReader(trail) as reader, Index(reader) as index:
        assert not index.in_memory
        assert index_rows(reader, index)[1] == (2, 2, 1)


def test_a_wrong_index_is_put_right_by_a_rebuild(trail):
    assert ask(trail, kind="refused") == [REFUSED]
    run(index_path(trail), "UPDATE event SET kind = 'gap'")
    assert ask(trail, kind="refused") == []
    with SqliteReader(trail) as reader:
        Index(reader, rebuild=True).close()
    assert ask(trail, kind="refused") == [REFUSED]


def test_where_the_index_cannot_be_written_it_is_made_in_memory(trail):
    index_path(trail).mkdir()
    with SqliteReader(trail) as reader, Index(reader) as index:
        assert index.in_memory
        assert [row[0] for row in index_rows(reader, index)] == [0, 2, 3, 4, 5]
    assert stat.S_ISDIR(index_path(trail).stat().st_mode)


def index_rows(reader, index):
    return Question(reader, index).select(Filter())


def test_the_index_holds_no_names(trail):
    ask(trail)
    content = index_path(trail).read_bytes()
    for name in (
        b"alice",
        b"bob",
        b"github:1001",
        b"dave",
        b"Ashton",
        b"PAY-1234",
        b"forge.example",
    ):
        assert name not in content


def test_what_is_not_understood_is_listed_and_not_shown(path, key):
    with SqliteStore(path, key) as store:
        store.append([Entry(record, str(record)) for record in (b"{}", b"[", b'{"schema":"x"}')])
    assert ask(path) == [0, 1, 2]
    assert ask(path, kind="admitted") == []
    for index in range(3):
        with pytest.raises(UnknownSchemaError, match=f"entry {index} is not"):
            read(path, index)
    with SqliteReader(path) as reader, Index(reader) as index:
        question = Question(reader, index)
        row = summary(next(question.find(question.select(Filter()))))
    assert (row.values["index"], row.values["kind"]) == (0, "unknown")
    assert set(row.absent) == set(COLUMNS) - {"index", "kind"}
    assert set(row.absent.values()) == {"UnknownSchema"}


def test_an_entry_that_is_not_there(trail):
    with pytest.raises(EntryNotFoundError):
        read(trail, 6)


# What is shown


def test_every_null_of_a_row_has_a_reason_and_nothing_else_has(trail):
    for index in range(6):
        row = summary(read(trail, index))
        assert tuple(row.values) == COLUMNS
        assert {name for name, value in row.values.items() if value is None} == set(row.absent)
        for name, cell in row.cells().items():
            assert cell.startswith("null, ") == (name in row.absent)


def test_a_release_says_who_what_and_when(trail):
    found = summary(read(trail, RELEASE)).plain()
    assert found["committers"] == ["alice (github:1001)"]
    assert found["approvers"] == ["bob (github:1002)"]
    assert found["deploymentApprovers"] == ["carol (github:1003)"]
    commit = EXAMPLES.commit_id("web 1.1")
    assert found["tests"] == [f"PASSED (212 run, 0 failed, 3 skipped) of commit {commit}"]
    assert found["commits"] == [commit]
    assert found["repositories"] == ["https://forge.example/acme/web"]
    assert found["request"] == "https://forge.example/acme/web/pull/41"
    assert found["ticket"] == "PAY-1234"
    assert found["workload"] == "Deployment/web"
    assert found["caller"] == "system:serviceaccount:ci:deployer"
    assert found["policies"][0].startswith("production generation 7 Enforce sha256:")
    assert (found["outcome"], found["enforced"], found["count"]) == ("admitted", True, 2)
    assert found["reasons"] == []
    assert found["state"] == "admitted"
    assert found["absent"] == dict.fromkeys(("persistedAt", "runningAt", "endedAt"), "NotFound")


def test_a_configuration_change_does_not_inherit_the_images_reviewers(trail):
    row = summary(read(trail, CONFIGURATION))
    assert row.values["class"] == "configuration"
    for name in ("committers", "approvers", "deploymentApprovers", "tests"):
        assert row.values[name] is None
        assert row.absent[name] == "ConfigurationNotAttested"
        assert row.cells()[name] == "null, ConfigurationNotAttested"


def test_a_refusal_says_who_and_why(trail):
    row = summary(read(trail, REFUSED)).plain()
    assert row["caller"] == "kubernetes:dave@acme.example"
    assert row["reasons"] == ["CallerNotAllowed", "SignatureMissing"]
    assert (row["outcome"], row["count"], row["enforced"]) == ("refused", 3, True)


def test_refusals_of_two_workloads_name_both_and_are_found_by_both(tmp_path, key):
    first = EXAMPLES.denied()
    other = replace(first.request, name="api", object=None)
    refusals = rec.Refusals()
    refusals.add(first)
    refusals.add(replace(first, request=other))
    (group,), _dropped = refusals.take()
    path = trails.write(tmp_path / "t.db", key, some=[rec.refused(group, EXAMPLES.CONTEXT)])
    assert ask(path, workload="web") == ask(path, workload="api") == [0]
    assert summary(read(path, 0)).values["workload"] == "Deployment/web … Deployment/api"


def test_events_without_people_are_rows_too(tmp_path, key):
    context = EXAMPLES.CONTEXT
    some = [
        rec.gap(context, NOW, rec.GapCause.REFUSALS_DROPPED, count=3),
        rec.gap(context, NOW, rec.GapCause.CHAIN_FORKED),
        rec.control_state(
            context, NOW, rec.ControlSubject.GATE, rec.ControlState.STARTED, name="boot"
        ),
        rec.erasures(context, NOW, ["hmac-sha256:" + "0" * 64], reason="asked for")[0],
    ]
    path = trails.write(tmp_path / "t.db", key, some=some)
    rows = [summary(read(path, index)) for index in range(4)]
    assert [row.values["kind"] for row in rows] == ["gap", "gap", "control-state", "erasure"]
    assert rows[0].values["count"] == 3
    assert rows[1].cells()["count"] == "null, NotFound"
    for index in range(4):
        assert dict(plain(read(path, index)))["what"] == rows[index].values["kind"]
    assert dict(plain(read(path, 3)))["reason"] == "asked for"


def test_what_became_of_the_control_stands_in_its_row_with_its_name(tmp_path, key):
    context = EXAMPLES.CONTEXT
    told = [
        (rec.ControlSubject.WEBHOOK_CONFIGURATION, rec.ControlState.ARMED, "trailgate"),
        (rec.ControlSubject.WEBHOOK_CONFIGURATION, rec.ControlState.PUT_BACK, "trailgate"),
        (rec.ControlSubject.POLICY, rec.ControlState.CHANGED, "production"),
    ]
    some = [
        rec.control_state(context, NOW, subject, state, name=name) for subject, state, name in told
    ]
    some.append(rec.gap(context, NOW, rec.GapCause.CHAIN_FORKED))
    path = trails.write(tmp_path / "t.db", key, some=some)
    rows = [summary(read(path, index)).cells() for index in range(4)]
    assert [(row["state"], row["workload"]) for row in rows] == [
        ("armed", "webhook-configuration/trailgate"),
        ("put-back", "webhook-configuration/trailgate"),
        ("changed", "policy/production"),
        ("null, NotApplicable", "chain-forked"),
    ]


def test_the_erased_are_told_apart_and_not_named(trail, key):
    with SqliteReader(trail) as reader:
        rows = reader.disclosures()
    keys = [key for person in ("github:1001", "github:1002") for key in erase(rows, person)[0]]
    with SqliteStore(trail, key) as store:
        store.append([], forget=keys)
    found = read(trail, RELEASE)
    row = summary(found).plain()
    (committer,), (approver,) = row["committers"], row["approvers"]
    assert committer.startswith("erased person hmac-sha256:")
    assert approver.startswith("erased person hmac-sha256:")
    assert committer != approver
    assert row["deploymentApprovers"] == ["carol (github:1003)"]
    told = "\n".join(text for _, text in plain(found))
    for name in ("alice", "bob", "1001", "1002"):
        assert name not in told
    assert ask(trail, committer="alice") == []


def test_an_erased_text_is_null_with_a_reason(trail, key):
    with SqliteReader(trail) as reader:
        keys = list(reader.disclosures_of(RELEASE))
    with SqliteStore(trail, key) as store:
        store.append([], forget=keys)
    row = summary(read(trail, RELEASE))
    for name in ("ticket", "request", "repositories"):
        assert row.cells()[name] == "null, Erased"
    assert "null, Erased" in dict(plain(read(trail, RELEASE)))["ticket"]


@pytest.mark.parametrize("index", range(6))
def test_plain_language_explains_every_null_it_prints(trail, index):
    found = read(trail, index)
    for name, text in plain(found):
        assert "None" not in text, (name, text)
        for part in text.split("null")[1:]:
            assert part.startswith(", "), (name, text)
            assert part.removeprefix(", ")[0].isupper(), (name, text)


def test_plain_language_of_a_release(trail):
    lines = plain(read(trail, RELEASE))
    told = dict(reversed(lines))
    assert (
        told["change"] == "system:serviceaccount:ci:deployer changed Deployment shop/web (standard)"
    )
    assert told["committed by"] == "alice (github:1001)"
    assert told["approved by"].startswith(
        "bob (github:1002), on 2026-11-23T09:06:00.250000Z, of commit"
    )
    assert told["tests"].startswith("PASSED (212 run, 0 failed, 3 skipped)")
    assert told["decided"] == "2026-11-23T15:06:00.250000Z"
    assert told["policy"].startswith("production Enforce (generation 7, sha256:")
    assert told["claims"] == (
        "2 by this caller for the one change, first as entry 1 "
        "(as the index says; trailgate ledger reindex)"
    )
    assert any("digest sha256:" in text for _, text in lines)
    assert any(f"signed by key {EXAMPLES.sha('key build')}" in text for _, text in lines)


def test_clear_follows_every_reference(trail):
    found = read(trail, RELEASE)
    clear = Reader(found.record, found.revealed).clear(found.record)
    assert clear["change"]["committers"][0]["person"]["login"] == "alice"
    assert clear["images"][0]["provenance"][0]["builder"] == "https://forge.example/builders/hosted"
    assert '{"text":' not in json.dumps(clear, separators=(",", ":"))
