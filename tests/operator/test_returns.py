"""Which images ran before: known of an object while it is there, and not for ever."""

from __future__ import annotations

import copy

import pytest

from tests.core.ledger import example_records as ex
from tests.operator.test_recorder import NOW, Chain, Stage
from trailgate.ledger import record as rec
from trailgate.ledger.errors import LedgerUnavailableError
from trailgate.model.admission import Operation
from trailgate_operator import recorder
from trailgate_operator.returns import ImageHistory
from trailgate_operator.trail import Statement

ADMITTED = rec.admitted(ex.release(), ex.CONTEXT)
UID = ADMITTED["object"]["uid"]


def thing(uid=UID):
    told = ADMITTED["object"]
    return rec.Thing(ex.release().request.key, uid, told["generation"], None)


def claimed(index=0):
    return rec.Claimed(ex.sha("a change"), index)


def persisted(operation, uid=UID):
    return rec.persisted(
        ex.CONTEXT, NOW, claimed(), thing(uid), operation=operation, seen=rec.Seen.OBSERVED
    )


def ended(cause):
    return rec.ended(ex.CONTEXT, NOW, claimed(), thing(), cause=cause)


def not_persisted(cause, index=0):
    return rec.not_persisted(ex.CONTEXT, NOW, claimed(index), thing(), cause=cause)


def full(*_):
    raise LedgerUnavailableError("no space left on device")


@pytest.mark.parametrize("step", ["write_known", "_keep_unrecorded"])
async def test_what_is_durable_is_remembered_whatever_fails_after_it(step, tmp_path, monkeypatch):
    stage, chain = Stage(), Chain()
    stage.known = tmp_path / "checkpoint"
    stage.restart()
    await stage.write(chain.batch(ADMITTED))
    with monkeypatch.context() as patch:
        patch.setattr(recorder if step == "write_known" else stage.recorder, step, full)
        with pytest.raises(LedgerUnavailableError):
            await stage.recorder.drain()
    other = copy.deepcopy(ADMITTED)
    for image in other["images"]:
        image["digest"] = str(ex.sha("another"))
    await stage.write(chain.batch(other), chain.batch(ADMITTED))
    await stage.recorder.drain()
    assert [told["change"]["returnsTo"] for told in stage.records] == [None, None, 0]


GONE = {
    "a deletion that was stored": persisted(Operation.DELETE),
    "the end by deletion": ended(rec.End.DELETED),
    "a creation that was not stored": not_persisted(rec.NotPersisted.UNSEEN),
}
THERE = {
    "an update that was stored": persisted(Operation.UPDATE),
    "a deletion of another one": persisted(Operation.DELETE, "another"),
    "the end by scaling down": ended(rec.End.SCALED_TO_ZERO),
    "an update that was not stored": not_persisted(rec.NotPersisted.UNSEEN, 7),
    "what nobody knows of": not_persisted(rec.NotPersisted.UNDETERMINED),
}


async def told(claim):
    """A recorder that recorded an admission, and was then told something by the observer."""
    stage = Stage()
    await stage.write(Chain().batch(ADMITTED))
    await stage.recorder.drain()
    assert stage.recorder._history.of(UID)
    await stage.recorder.tell([Statement("said", claim)])
    return stage


@pytest.mark.parametrize("name", GONE)
async def test_what_is_gone_is_forgotten(name):
    stage = await told(GONE[name])
    assert stage.recorder._history._sets == {}
    assert ImageHistory.read(stage.store.records())._sets == {}


@pytest.mark.parametrize("name", THERE)
async def test_what_is_there_is_remembered(name):
    stage = await told(THERE[name])
    kept = stage.recorder._history.of(UID)
    assert list(kept.values()) == [0]
    assert ImageHistory.read(stage.store.records()).of(UID) == kept


@pytest.mark.parametrize("told", ["", ',"object":null', ',"object":{"uid":["x"]}', ',"object":1'])
def test_a_record_of_any_form_ends_nothing(told):
    history = ImageHistory.read([rec.encode(ADMITTED)])
    history.forget(b'{"kind":"ended","cause":"deleted"' + told.encode() + b"}")
    assert history.of(UID)
