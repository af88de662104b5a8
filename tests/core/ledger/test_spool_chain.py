from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ledger import example_records as ex
from trailgate.ledger import record as rec
from trailgate.ledger import spool
from trailgate.ledger.chain import Forked, Last, Missing, Repeated, follow
from trailgate.ledger.spool import Batch, BatchKind, Link
from trailgate.model.digest import Digest
from trailgate.model.errors import MalformedError

RECORDER, SIGNER = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
SMALL = rec.gap(ex.CONTEXT, ex.NOW, rec.GapCause.CHAIN_FORKED)


def batch_at(link: Link, kind: BatchKind = BatchKind.ADMITTED) -> Batch:
    return spool.seal(
        [SMALL], link=link, kind=kind, recorder_key=RECORDER.public_key(), signer=SIGNER
    )


def chain(boot: str, length: int, *, ended: bool = False) -> list[Batch]:
    link, made = Link.first(boot), []
    for seq in range(length):
        last = ended and seq == length - 1
        made.append(batch_at(link, BatchKind.ENDED if last else BatchKind.ADMITTED))
        link = made[-1].following()
    return made


ONE = chain("bootbootone", 6)
TWO = chain("bootboottwo", 3, ended=True)


@given(st.permutations([*ONE, *TWO]))
def test_all_of_two_processes_come_out_in_order_whatever_order_they_came_in(batches):
    following = follow({}, batches)
    assert list(following.steps) == [*ONE, *TWO]
    assert following.last["bootbootone"] == Last(5, ONE[5].digest, ended=False)
    assert following.last["bootboottwo"] == Last(2, TWO[2].digest, ended=True)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4).map(sorted))
def test_however_the_list_is_cut_into_runs_nothing_is_lost_or_taken_twice(cuts):
    last: dict[str, Last] = {}
    taken: list[Batch] = []
    for begin, end in zip([0, *cuts], [*cuts, 6], strict=True):
        following = follow(last, ONE[max(0, begin - 1) : end])
        taken += [step for step in following.steps if isinstance(step, Batch)]
        assert not [step for step in following.steps if isinstance(step, Missing | Forked)]
        last |= following.last
    assert taken == ONE


@given(st.sets(st.integers(0, 5)))
def test_every_missing_number_is_told_once_and_no_other(present):
    following = follow({}, [ONE[seq] for seq in present])
    told = [
        number
        for step in following.steps
        if isinstance(step, Missing)
        for number in range(step.first, step.last + 1)
    ]
    assert told == [seq for seq in range(max(present, default=0)) if seq not in present]
    assert [step for step in following.steps if isinstance(step, Batch)] == [
        ONE[seq] for seq in sorted(present)
    ]
    assert sum(step.count for step in following.steps if isinstance(step, Missing)) == len(told)


def test_a_gap_is_told_before_the_batch_that_shows_it():
    following = follow({"bootbootone": Last(1, ONE[1].digest)}, [ONE[4]])
    assert following.steps == (Missing("bootbootone", 2, 3), ONE[4])
    assert following.last["bootbootone"].seq == 4


def test_what_was_taken_already_is_only_to_be_deleted():
    following = follow({"bootbootone": Last(2, ONE[2].digest)}, [ONE[1], ONE[2], ONE[3]])
    assert following.steps == (Repeated(ONE[1]), Repeated(ONE[2]), ONE[3])


def test_nothing_new_changes_no_position():
    following = follow({"bootbootone": Last(2, ONE[2].digest)}, [ONE[2]])
    assert following.last == {}


def test_the_same_batch_twice_in_one_list_is_taken_once():
    following = follow({}, [ONE[0], ONE[0], ONE[1]])
    assert following.steps == (ONE[0], Repeated(ONE[0]), ONE[1])


def test_a_batch_with_another_past_is_a_fork():
    other = batch_at(replace(ONE[2].link, prev=Digest.of(b"another past")))
    following = follow({"bootbootone": Last(1, ONE[1].digest)}, [other])
    assert following.steps == (Forked(other),)
    assert following.last == {}


def test_a_first_batch_with_a_past_is_a_fork():
    other = batch_at(Link("bootbootone", 0, Digest.of(b"a past")))
    assert follow({}, [other]).steps == (Forked(other),)


def test_another_batch_of_a_number_that_was_taken_is_a_fork():
    other = batch_at(ONE[2].link)
    following = follow({"bootbootone": Last(2, ONE[2].digest)}, [other])
    assert following.steps == (Forked(other),)


def test_nothing_comes_after_the_end():
    after = batch_at(TWO[2].following())
    assert follow({}, [*TWO, after]).steps == (*TWO, Forked(after))
    far = batch_at(replace(after.link, seq=9))
    assert follow({}, [*TWO, far]).steps == (*TWO, Forked(far))


def test_after_a_gap_the_chain_goes_on():
    following = follow({}, [ONE[0], ONE[2], ONE[3]])
    assert following.steps == (ONE[0], Missing("bootbootone", 1, 1), ONE[2], ONE[3])


def test_a_position_survives_the_store():
    last = Last(7, ONE[0].digest, ended=True)
    assert Last.from_bytes(last.to_bytes()) == last


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"seq":"1","digest":"x","ended":false}',
        b'{"seq":1,"digest":"x","ended":false}',
    ],
)
def test_a_spoiled_position_is_refused(content):
    with pytest.raises(MalformedError):
        Last.from_bytes(content)
