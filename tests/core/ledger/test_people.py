from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ledger import example_records as ex
from trailgate.ledger import people
from trailgate.ledger import record as rec
from trailgate.ledger.form import Roster, settle, text_owners
from trailgate.model.evidence import Person


class Log:
    """A log as its writer sees it: leaves, and rows beside them."""

    def __init__(self) -> None:
        self.vault = rec.Vault()
        self.rows: dict[str, bytes] = {}
        self.records: list[dict] = []

    def add(self, claim: dict) -> dict:
        record, rows = rec.commit(claim, self.vault, recorded_at=ex.NOW, position=None)
        for key, content in rows.items():
            self.rows.setdefault(key, content)
        self.records.append(json.loads(rec.encode(record)))
        return record

    def problems(self, erased=()) -> list[str]:
        opened = people.reveal(self.rows)
        return [
            problem.detail
            for record in self.records
            for problem in people.check_commitments(record, opened, erased)
        ]


@pytest.fixture
def log() -> Log:
    log = Log()
    log.add(rec.admitted(ex.release(), ex.CONTEXT))
    return log


def test_a_commitment_is_the_hmac_of_schema_field_and_value():
    message = rfc8785.dumps(["trailgate.dev/record/v1", "login", "al\u00efce"])
    expected = hmac.new(b"s" * 32, message, hashlib.sha256).hexdigest()
    assert people.commitment(b"s" * 32, "login", "al\u00efce") == f"hmac-sha256:{expected}"


def test_commitments_differ_by_salt_field_and_value():
    made = {
        people.commitment(salt, field, value)
        for salt in (b"a" * 32, b"b" * 32)
        for field in ("id", "login")
        for value in ("x", "y")
    }
    assert len(made) == 8


def test_a_clean_log_has_no_problem_and_opens_to_its_claims(log):
    claim = rec.admitted(ex.release(), ex.CONTEXT)
    assert log.problems() == []
    shown = people.disclosed(log.records[0], people.reveal(log.rows))
    assert shown["people"] == claim["people"]
    assert shown["texts"] == claim["texts"]


def test_nothing_personal_is_in_the_leaf_or_in_clear_beside_it(log):
    leaf = rec.encode(log.records[0]).decode()
    personal = ["alice", "Alice Ashton", "github:1001", "PAY-1234", "forge.example"]
    assert not [word for word in personal if word in leaf]
    rows = [c for k, c in log.rows.items() if k.startswith("hmac-")]
    assert not [word for word in personal[:3] for row in rows if word.encode() in row]


def test_the_same_person_shows_as_the_same_commitment_across_entries(log):
    second = log.add(rec.admitted(ex.two_repositories(), ex.CONTEXT))
    ids = [{person["id"] for person in record["people"]} for record in (log.records[0], second)]
    assert ids[0] == ids[1]
    assert len(ids[0]) == 3
    assert log.problems() == []


def test_the_same_person_in_two_logs_shows_as_two(log):
    other = Log()
    other.add(rec.admitted(ex.release(), ex.CONTEXT))
    ids = [{p["id"] for p in one.records[0]["people"]} for one in (log, other)]
    assert not ids[0] & ids[1]


def test_a_restarted_writer_goes_on_with_the_same_salts(log):
    log.vault = rec.Vault(log.rows)
    second = log.add(rec.admitted(ex.release(), ex.CONTEXT))
    assert second["people"] == log.records[0]["people"]
    assert log.problems() == []


def test_a_text_that_is_nobody_s_does_not_link_two_entries(log):
    second = log.add(rec.admitted(ex.release(), ex.CONTEXT))
    owned = set(text_owners(log.records[0]))
    for index, text in enumerate(second["texts"]):
        assert (text == log.records[0]["texts"][index]) is (index in owned)


def test_a_failed_append_loses_no_salt(log):
    lost_claim = rec.admitted(
        replace(ex.configuration_only(), request=replace(ex.release().request, caller=ex.LAPTOP)),
        ex.CONTEXT,
    )
    rec.commit(lost_claim, log.vault, recorded_at=ex.NOW, position=None)  # rows never stored
    log.add(lost_claim)
    assert log.problems() == []


def test_a_commitment_without_disclosure_is_a_problem(log):
    for key in [key for key in log.rows if key.startswith("hmac-")]:
        kept = dict(log.rows)
        del log.rows[key]
        assert log.problems() == ["no disclosure opens it, and no erasure entry names it"]
        log.rows = kept


def test_a_deleted_person_without_an_erasure_entry_is_a_problem(log):
    keys, emptied = people.erase(log.rows, "github:1001")
    for key in keys:
        del log.rows[key]
    assert len(log.problems()) == len(emptied) == 3


def test_erasure_forgets_one_person_and_nobody_else(log):
    before = people.disclosed(log.records[0], people.reveal(log.rows))
    keys, emptied = people.erase(log.rows, "github:1001")
    for key in keys:
        del log.rows[key]
    log.vault.forget("github:1001")
    log.add(rec.erasures(ex.CONTEXT, ex.NOW, emptied)[0])
    assert log.problems(erased=emptied) == []
    after = people.disclosed(log.records[0], people.reveal(log.rows))
    changed = [
        old["id"] for old, new in zip(before["people"], after["people"], strict=True) if old != new
    ]
    assert changed == ["github:1001"]
    assert not [row for row in log.rows.values() if b"github:1001" in row]
    # "approver is not committer" can still be read from the leaf alone.
    change = log.records[0]["change"]
    ids = log.records[0]["people"]
    approver, committer = (ids[change[r][0]["person"]]["id"] for r in ("approvers", "committers"))
    assert approver != committer


def test_deleting_the_subject_row_alone_makes_everything_of_the_person_unreadable(log):
    subject = next(k for k, c in log.rows.items() if k.startswith("subject:") and b"1001" in c)
    del log.rows[subject]
    opened = people.reveal(log.rows).values()
    assert not {"github:1001", "alice", "Alice Ashton"} & {one.value for one in opened}


def test_a_person_seen_again_after_erasure_is_not_linked_to_before(log):
    keys, emptied = people.erase(log.rows, "github:1001")
    for key in keys:
        del log.rows[key]
    log.vault.forget("github:1001")
    second = log.add(rec.admitted(ex.release(), ex.CONTEXT))
    assert not set(emptied) & {person["id"] for person in second["people"]}
    assert log.problems(erased=emptied) == []


def test_erasing_takes_the_texts_that_are_the_person_s():
    log = Log()
    request = replace(ex.configuration_only().request, caller=ex.LAPTOP)
    log.add(rec.admitted(replace(ex.configuration_only(), request=request), ex.CONTEXT))
    _keys, emptied = people.erase(log.rows, "kubernetes:dave@acme.example")
    opened = people.reveal(log.rows)
    values = {opened[one].value for one in emptied}
    assert {"acme:payments", "dave@acme.example", "X509SHA256=" + "ab" * 32} <= values
    assert "PAY-1234" not in values


def test_erasing_somebody_unknown_is_nothing(log):
    assert people.erase(log.rows, "github:4") == (frozenset(), ())
    log.vault.forget("github:4")


def test_something_recorded_as_erased_and_still_there_is_a_problem(log):
    _keys, emptied = people.erase(log.rows, "github:1001")
    assert set(log.problems(erased=emptied)) == {"recorded as erased, and still disclosed"}


def _tamper(log: Log, name: str, value: str) -> None:
    """Let a database administrator rewrite what a commitment opens to."""
    subject = next(s for s in people._subjects(log.rows).values() if s.person == "github:1002")
    committed = people.commitment(subject.salt, "login", "bob")
    log.rows[committed] = people._sealed(subject, committed, name, value)


def test_a_rewritten_name_does_not_verify(log):
    _tamper(log, "login", "mallory")
    assert log.problems() == ["no disclosure opens it, and no erasure entry names it"]


def test_a_value_moved_to_another_field_does_not_verify(log):
    _tamper(log, "name", "bob")
    assert log.problems() == ["no disclosure opens it, and no erasure entry names it"]


def test_a_rewritten_text_does_not_verify(log):
    key = next(k for k, c in log.rows.items() if b"PAY-1234" in c)
    log.rows[key] = log.rows[key].replace(b"PAY-1234", b"PAY-9999")
    assert log.problems() == ["no disclosure opens it, and no erasure entry names it"]


def test_a_row_that_does_not_open_to_its_commitment_reveals_nothing(log):
    subject = next(s for s in people._subjects(log.rows).values() if s.person == "github:1002")
    committed = people.commitment(subject.salt, "login", "bob")
    honest = {"field": "login", "value": "bob", "salt": subject.salt.hex()}
    forgeries = (
        {"value": "mallory"}, {"salt": "00" * 32}, {"field": "name"}, {"value": 1}, {"field": []},
    )  # fmt: skip
    assert people.reveal({committed: json.dumps(honest).encode()})[committed].value == "bob"
    for forged in forgeries:
        assert people.reveal({committed: json.dumps(honest | forged).encode()}) == {}
    assert people.reveal({"hmac-sha256:ä": json.dumps(honest).encode()}) == {}


def test_a_commitment_of_another_field_is_a_problem(log):
    record = log.records[0]
    record["people"][0]["login"] = record["people"][0]["id"]
    assert "opens to a id, expected a login" in log.problems()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"subject":"x","sealed":"AAAA"}', b'{"salt":"zz","field":"text"}'],
)
def test_a_spoiled_row_is_a_problem_not_a_crash(log, content):
    key = next(k for k in log.rows if k.startswith("hmac-"))
    log.rows[key] = content
    assert log.problems() == ["no disclosure opens it, and no erasure entry names it"]


def test_a_row_under_another_commitment_does_not_open(log):
    subject = next(s for s in people._subjects(log.rows).values() if s.person == "github:1002")
    bob, name = (
        people.commitment(subject.salt, f, v) for f, v in (("login", "bob"), ("name", "Bob Berg"))
    )
    log.rows[bob] = log.rows[name]
    assert log.problems() == ["no disclosure opens it, and no erasure entry names it"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"person":"p","salt":"x","key":""}'])
def test_a_spoiled_subject_stops_the_writer(log, content):
    with pytest.raises(rec.RecordError, match="subject:"):
        rec.Vault({"subject:" + "0" * 32: content})


def test_a_subject_survives_its_row():
    subject = people.Subject.mint("github:1")
    key, content = subject.row
    assert people.Vault({key: content}).subject("github:1") == subject
    assert len(subject.salt) == len(subject.key) == 32
    assert subject != people.Subject.mint("github:1")


def test_secrets_do_not_show_in_a_repr():
    subject = people.Subject.mint("github:1")
    shown = repr(subject) + repr(people.Revealed("id", "x", subject.salt))
    assert "salt" not in shown
    assert "key" not in shown


# --- whose a text is -----------------------------------------------------------------


def test_a_text_inside_somebody_s_object_is_theirs():
    roster = Roster()
    one, other = roster.person(Person("a:1")), roster.person(Person("a:2"))
    claim = settle(
        {
            "x": [
                one | {"uri": roster.text("same", one)},
                other | {"uri": roster.text("same", other)},
            ],
            "y": roster.text("same"),
        },
        roster,
    )
    assert claim["texts"] == ["same", "same", "same"]
    assert text_owners(claim) == {0: 0, 1: 1}


def test_a_text_of_two_persons_or_of_one_and_nobody_is_refused():
    shared = {"a": {"person": 0, "x": {"text": 0}}, "b": {"person": 1, "x": {"text": 0}}}
    with pytest.raises(rec.RecordError, match="two persons"):
        text_owners(shared)
    with pytest.raises(rec.RecordError, match="two persons"):
        text_owners({"a": {"person": 0, "x": {"text": 0}}, "b": {"text": 0}})


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), max_size=20))
def test_a_roster_lists_each_person_and_each_text_of_each_once(entries):
    roster = Roster()
    references = []
    for number, text in entries:
        person = roster.person(Person(f"a:{number}"))
        references.append((number, text, person, roster.text(text, person)))
    names = [person["id"] for person in roster.people()]
    assert len(names) == len(set(names)) == len({number for number, _ in entries})
    for number, text, person, reference in references:
        assert names[person["person"]] == f"a:{number}"
        assert roster.texts()[reference["text"]] == text
    assert len(roster.texts()) == len(set(entries))


def test_an_id_without_an_issuer_has_none():
    roster = Roster()
    roster.person(Person("somebody"))
    claim = settle({"who": {"person": 0}}, roster)
    assert claim["people"][0]["issuer"] is None
    assert claim["absent"]["/people/0/issuer"] == "NotStated"


def test_a_null_without_a_reason_can_t_be_settled():
    with pytest.raises(rec.RecordError, match="/a/0/b"):
        settle({"a": [{"b": None}]}, Roster())
