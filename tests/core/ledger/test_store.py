"""The contract of LedgerStore: every implementation passes all of it."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.ledger import trails
from trailgate.ledger.errors import (
    EntryMisplacedError,
    EntryNotFoundError,
    EntryRefusedError,
    LedgerCorruptError,
    LedgerRolledBackError,
    LedgerUnavailableError,
)
from trailgate.ledger.memory import MemoryStore
from trailgate.ledger.people import Vault
from trailgate.ledger.store import MAX_RECORD_BYTES, Entry
from trailgate.tlog import checkpoint
from trailgate.tlog.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from trailgate.tlog.note import SigningKey


def entry(number, **values):
    return Entry(f"record {number}".encode(), f"key {number}", **values)


def head(store, key):
    return checkpoint.verify(store.checkpoint(), [key.verifier])


def test_an_empty_ledger_has_a_signed_checkpoint(store, key):
    assert head(store, key) == checkpoint.Checkpoint(key.name, 0, EMPTY_ROOT)
    assert list(store.records()) == []
    assert store.positions() == {}
    assert store.disclosures() == {}


def test_indices_count_from_zero_without_gaps(store):
    assert store.append([entry(0), entry(1)]) == (0, 1)
    assert store.append([entry(2)]) == (2,)
    assert store.append([]) == ()
    assert list(store.records()) == [b"record 0", b"record 1", b"record 2"]
    assert list(store.records(1, 2)) == [b"record 1"]
    assert list(store.records(3)) == []
    assert list(store.records(1, 1)) == []


@pytest.mark.parametrize(("start", "stop"), [(4, None), (0, 4), (-1, 1), (2, 1), (3, 4), (7, 9)])
def test_a_range_that_is_not_there_is_an_error(store, start, stop):
    store.append([entry(0), entry(1), entry(2)])
    with pytest.raises(EntryNotFoundError):
        list(store.records(start, stop))


def test_the_same_entry_again_gives_the_same_index(store, key):
    assert store.append([entry(0), entry(1)]) == (0, 1)
    before = store.checkpoint()
    assert store.append([entry(0), entry(1)]) == (0, 1)
    assert store.append([Entry(b"other bytes", "key 1"), entry(0)]) == (1, 0)
    assert store.checkpoint() == before
    assert store.append([entry(1), entry(2), entry(2)]) == (1, 2, 2)
    assert list(store.records()) == [b"record 0", b"record 1", b"record 2"]
    assert head(store, key).size == 3


def claimed(seq):
    (made,) = trails.entries(Vault(), trails.claims()[:1], seq)
    return made


def intrude(store, key, index):
    """Put a dedupe key where whoever can write the ledger's own storage could."""
    if isinstance(store, MemoryStore):
        store._keys[key] = index
        return
    with sqlite3.connect(store.path) as intruder:
        intruder.execute("INSERT INTO dedupe (key, idx) VALUES (?, ?)", (key, index))
    intruder.close()


@pytest.mark.parametrize("index", [0, 1, 2, 7])
def test_a_claim_is_not_dropped_for_a_key_that_names_another_entry(store, index):
    assert store.append([claimed(0), entry("other")]) == (0, 1)
    assert store.append([claimed(0)]) == (0,)
    assert store.find("claim/boot-1/0/0") == 0
    assert store.find("claim/boot-1/1/0") is None
    intrude(store, "claim/boot-1/1/0", index)
    before = store.checkpoint()
    with pytest.raises(LedgerCorruptError, match="the dedupe key claim/boot-1/1/0 names entry"):
        store.append([claimed(1)])
    with pytest.raises(LedgerCorruptError, match="claim/boot-1/1/0"):
        store.find("claim/boot-1/1/0")
    assert store.checkpoint() == before
    assert store.append([claimed(2)]) == (2,)


def test_a_key_is_not_borne_out_by_a_record_that_is_not_in_the_tree(store):
    store.append([claimed(0), entry("other")])
    forged = claimed(1)
    if isinstance(store, MemoryStore):
        store._records[1] = forged.record
    else:
        with sqlite3.connect(store.path) as intruder:
            intruder.execute("UPDATE entry SET record = ? WHERE idx = 1", (forged.record,))
        intruder.close()
    intrude(store, forged.key, 1)
    with pytest.raises(LedgerCorruptError, match="not in the tree"):
        store.append([forged])


def test_an_entry_stands_where_its_record_says_or_nothing_is_stored(store):
    assert store.append([entry(0), entry(1, index=1)]) == (0, 1)
    before = store.checkpoint()
    for call in (
        [entry(2, index=3)],  # it would be 2
        [entry(1, index=2)],  # it is 1
        [entry(2), entry(1), entry(3, index=4)],  # one of those before is there already
    ):
        with pytest.raises(EntryMisplacedError, match="nothing was stored"):
            store.append(call, positions={"p": b"x"})
    assert (store.checkpoint(), store.positions()) == (before, {})
    assert store.append([entry(1, index=1), entry(2, index=2)]) == (1, 2)


def test_a_misplaced_entry_spoils_nobody_else_s_append(store):
    calls = [store.submit([entry(n, index=9 if n == 4 else None)]) for n in range(9)]
    assert [n for n, call in enumerate(calls) if call.exception()] == [4]
    assert len(list(store.records())) == 8


def test_equal_records_under_two_keys_are_two_entries(store):
    assert store.append([Entry(b"same", "a"), Entry(b"same", "b")]) == (0, 1)


def test_every_append_ends_in_a_checkpoint_over_all_of_it(store, key):
    records = []
    for size in range(1, 20):
        store.append([entry(size)])
        records.append(f"record {size}".encode())
        signed = head(store, key)
        assert signed.size == size
        assert signed.root == root_of(map(leaf_hash, records))


def test_the_stored_tree_proves(store, key):
    heads = []
    for number in range(23):
        store.append([entry(number)])
        heads.append(head(store, key))
    last = heads[-1]
    for index in range(23):
        proof = inclusion_proof(index, 23, store.node)
        leaf = leaf_hash(f"record {index}".encode())
        verify_inclusion(index, 23, leaf, proof, last.root)
        proof = consistency_proof(index + 1, 23, store.node)
        verify_consistency(index + 1, 23, proof, heads[index].root, last.root)


def test_a_node_that_is_not_there_is_an_error(store):
    store.append([entry(0), entry(1), entry(2)])
    assert store.node(0, 2) == leaf_hash(b"record 2")
    for level, position in ((0, 3), (1, 1), (2, 0)):
        with pytest.raises(EntryNotFoundError):
            store.node(level, position)


def test_positions_are_the_last_ones_set(store):
    store.append([entry(0)], positions={"boot/a": b"1", "boot/b": b"7"})
    store.append([entry(0)], positions={"boot/a": b"2"})
    store.append([], positions={"boot/c": b""})
    assert store.positions() == {"boot/a": b"2", "boot/b": b"7", "boot/c": b""}


def test_disclosures_stay_as_they_were_first(store):
    store.append([entry(0, disclosures={"subject:1": b"a", "hmac-sha256:1": b"b"})])
    store.append([entry(1, disclosures={"subject:1": b"x", "hmac-sha256:2": b"c"})])
    store.append([entry(1, disclosures={"hmac-sha256:3": b"of an entry that is not stored"})])
    assert store.disclosures("subject:") == {"subject:1": b"a"}
    assert store.disclosures("hmac-sha256:") == {"hmac-sha256:1": b"b", "hmac-sha256:2": b"c"}
    assert store.disclosures("hmac-sha256:2") == {"hmac-sha256:2": b"c"}
    assert len(store.disclosures()) == 3
    assert store.disclosure("subject:1") == b"a"
    assert store.disclosure("subject:2") is None


def test_texts_of_one_entry_stay_with_it(store):
    row = b'{"field":"text","salt":"00","value":"%d"}'
    store.append([entry(0, disclosures={"hmac-sha256:a": row % 0, "subject:1": b"s"})])
    store.append([entry(1, disclosures={"hmac-sha256:b": row % 1, "hmac-sha256:c": row % 2})])
    store.append([entry(1, disclosures={"hmac-sha256:d": row % 3})])
    assert store.disclosures() == {"subject:1": b"s"}
    assert store.disclosure("hmac-sha256:a") is None
    assert store.disclosures_of(0) == {"hmac-sha256:a": row % 0}
    assert store.disclosures_of(1) == {"hmac-sha256:b": row % 1, "hmac-sha256:c": row % 2}
    assert store.disclosures_of(2) == {}
    new = entry(2, disclosures={"hmac-sha256:e": row % 4, "hmac-sha256:f": row % 5})
    store.append([new], forget=["hmac-sha256:b", "hmac-sha256:e"])
    assert store.disclosures_of(1) == {"hmac-sha256:c": row % 2}
    assert store.disclosures_of(2) == {"hmac-sha256:f": row % 5}


def test_what_is_forgotten_is_gone_and_the_log_is_not(store, key):
    store.append([entry(0, disclosures={"a": b"1", "b": b"2"})])
    before = head(store, key)
    store.append([entry(1, disclosures={"c": b"3"})], forget=["a", "c", "never there"])
    assert store.disclosures() == {"b": b"2"}
    assert list(store.records()) == [b"record 0", b"record 1"]
    proof = consistency_proof(1, 2, store.node)
    verify_consistency(1, 2, proof, before.root, head(store, key).root)


@pytest.mark.parametrize("size", [1, MAX_RECORD_BYTES - 1])
def test_records_up_to_the_limit_are_kept(store, size):
    assert store.append([Entry(b"\xff" * size, "k")]) == (0,)
    assert list(store.records()) == [b"\xff" * size]


@pytest.mark.parametrize("record", [b"", b"x" * MAX_RECORD_BYTES])
def test_other_sizes_are_refused(record):
    with pytest.raises(EntryRefusedError):
        Entry(record, "k")


@pytest.mark.parametrize("dedupe", ["", "x" * 513])
def test_other_keys_are_refused(dedupe):
    with pytest.raises(EntryRefusedError):
        Entry(b"x", dedupe)


def test_a_closed_store_takes_nothing(store):
    store.append([entry(0)])
    store.close()
    store.close()
    with pytest.raises(LedgerUnavailableError):
        store.append([entry(1)])


def test_submit_is_append_later(store):
    futures = [store.submit([entry(number)]) for number in range(50)]
    assert [future.result(timeout=20) for future in futures] == [(n,) for n in range(50)]


def test_close_finishes_what_was_submitted(store):
    futures = [store.submit([entry(number)]) for number in range(200)]
    store.close()
    assert [future.result(timeout=0) for future in futures] == [(n,) for n in range(200)]


def test_many_callers_at_once_get_each_index_once(store, key):
    def call(number):
        # Every second call is a duplicate of another one, in flight at the same time.
        return store.append([entry(number // 2), entry(f"own {number}")])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(call, range(200)))
    records = list(store.records())
    assert len(records) == 300 == head(store, key).size
    for number, (shared, own) in enumerate(answers):
        assert records[shared] == f"record {number // 2}".encode()
        assert records[own] == f"record own {number}".encode()
        assert answers[number ^ 1][0] == shared
    assert head(store, key).root == root_of(map(leaf_hash, records))


_CALLS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 6), st.binary(min_size=1, max_size=3)), max_size=4),
        st.dictionaries(st.sampled_from("pq"), st.binary(max_size=2), max_size=2),
        st.lists(st.sampled_from("0123456"), max_size=1),
    ),
    max_size=8,
)


@given(_CALLS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_it_does_what_a_plain_list_would(store, calls):
    # The store lives on from one example to the next: its size makes the keys fresh ones.
    start = len(list(store.records()))
    seen, records, rows = {}, list(store.records()), dict(store.disclosures())
    positions = dict(store.positions())
    for entries, values, forget in calls:
        made = [
            Entry(record, f"{start}/{number}", disclosures={f"{number}": record})
            for number, record in entries
        ]
        expected = []
        for item, (number, record) in zip(made, entries, strict=True):
            if item.key not in seen:
                seen[item.key] = len(records)
                records.append(record)
                rows.setdefault(f"{number}", record)
            expected.append(seen[item.key])
        for name in forget:
            rows.pop(name, None)
        positions.update(values)
        assert store.append(made, positions=values, forget=forget) == tuple(expected)
    assert list(store.records()) == records
    assert store.disclosures() == rows
    assert store.positions() == positions


def test_the_twin_refuses_a_known_checkpoint_it_is_behind(key):
    ahead = MemoryStore(key)
    ahead.append([entry(0)])
    with pytest.raises(LedgerRolledBackError, match="entries 0 to 0 are missing"):
        MemoryStore(key, known=ahead.checkpoint())
    with pytest.raises(LedgerRolledBackError):
        MemoryStore(SigningKey(key.name, bytes(32)), known=MemoryStore(key).checkpoint())
