"""Who follows the ledger hears of each entry once it is durable, and of an empty spool."""

from __future__ import annotations

import copy

import pytest

from tests.core.ledger import example_records as ex
from tests.operator.test_recorder import NAMESPACE, NOW, STRANGER, Chain, Stage
from trailgate.ledger import record as rec
from trailgate.ledger.errors import LedgerUnavailableError
from trailgate_kube.errors import UnavailableError
from trailgate_kube.resources import ADMISSIONS
from trailgate_operator import recorder
from trailgate_operator.trail import Statement


@pytest.fixture
def stage():
    made = Stage()
    made.heard = []
    made.recorder.followers.append(lambda index, record: made.heard.append((index, record)))
    return made


async def test_each_new_entry_is_heard_of_once_with_its_index(stage):
    chain = Chain()
    batch = chain.batch()
    await stage.write(batch, chain.batch())
    await stage.recorder.drain()
    await stage.write(batch)
    await stage.recorder.drain()
    assert stage.heard == list(enumerate(stage.store.records()))
    assert len(stage.heard) == 2


async def test_what_a_loop_says_is_heard_of_too(stage):
    said = Statement("gap/1", rec.gap(ex.CONTEXT, NOW, rec.GapCause.OBSERVER_DOWN))
    for _ in range(2):
        await stage.recorder.tell([said])
    assert [index for index, _ in stage.heard] == [0]


async def test_it_says_since_when_the_ledger_has_everything(stage):
    assert stage.recorder.emptied is None
    await stage.recorder.drain()
    assert stage.recorder.emptied == NOW


async def test_what_stays_in_the_spool_is_not_in_the_ledger(stage):
    chain = Chain()
    chain.batch()
    await stage.write(chain.batch())
    stage.restart(keys=stage.keys.__class__((), {}))
    await stage.recorder.drain()
    assert stage.recorder.emptied is None


async def _lay(stage, batch, spec):
    body = {"metadata": {"name": batch.name}, "spec": spec}
    typed = {"apiVersion": ADMISSIONS.api_version, "kind": ADMISSIONS.kind, **body}
    await stage.kube.create(ADMISSIONS, typed, NAMESPACE)


async def tampered(stage):
    await stage.write((chain := Chain()).batch())
    bad = chain.batch()
    spec = copy.deepcopy(bad.to_spec())
    spec["objects"][0]["name"] = "another"
    await _lay(stage, bad, spec)


async def forked(stage):
    one, two = Chain(), Chain()
    two.batch()
    await stage.write(one.batch(), two.batch())


async def late(stage):
    chain = Chain()
    await stage.write(chain.started())
    lost, later = chain.batch(), chain.batch()
    await stage.write(later)
    await stage.recorder.drain()
    stage.recorder.emptied = None
    await stage.write(lost)


@pytest.mark.parametrize("lie", [tampered, forked, late])
async def test_what_is_told_and_never_recorded_is_not_waited_for(stage, lie):
    await lie(stage)
    await stage.recorder.drain()
    assert len(await stage.spooled()) == 1
    assert "gap" in stage.kinds
    assert stage.recorder.emptied == NOW


@pytest.mark.parametrize("held", ["unknown gate", "newer form"])
async def test_what_another_configuration_could_record_is_waited_for(stage, held):
    odd = {**rec.admitted(ex.release(), ex.CONTEXT), "schema": "trailgate.dev/record/v9"}
    chain = Chain(signer=STRANGER) if held == "unknown gate" else Chain()
    await stage.write(chain.batch(odd), Chain(boot="f" * 24).batch())
    await stage.recorder.drain()
    assert stage.kinds == ["admitted"]
    assert stage.recorder.emptied is None


async def test_a_look_that_failed_proves_nothing(stage):
    stage.kube.fail("page", UnavailableError("away", maybe_done=True))
    with pytest.raises(UnavailableError):
        await stage.recorder.drain()
    assert stage.recorder.emptied is None


def full(*_, **_more):
    raise LedgerUnavailableError("can't keep the known checkpoint: no space left on device")


@pytest.fixture
def beside(stage, tmp_path):
    """A recorder that keeps a known checkpoint."""
    stage.known = tmp_path / "checkpoint"
    stage.restart()
    return stage


async def test_what_is_durable_is_told_although_nobody_outside_can_know_yet(beside, monkeypatch):
    """Else who names what it says by the time says it again, under another name."""
    said = Statement("gap/1", rec.gap(ex.CONTEXT, NOW, rec.GapCause.OBSERVER_DOWN))
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "write_known", full)
        assert await beside.recorder.tell([said]) == {"gap/1"}
        assert await beside.recorder.tell([said]) == frozenset()
        assert not beside.known.exists()
        with pytest.raises(LedgerUnavailableError, match="no space left"):
            await beside.recorder.drain()  # which says that something is wrong
    await beside.recorder.drain()
    assert beside.known.read_text() == beside.store.checkpoint()
    assert beside.kinds == ["gap"]


async def test_what_is_not_durable_is_not_told(beside, monkeypatch):
    said = Statement("gap/1", rec.gap(ex.CONTEXT, NOW, rec.GapCause.OBSERVER_DOWN))
    with monkeypatch.context() as patch:
        patch.setattr(beside.store, "submit", full)
        with pytest.raises(LedgerUnavailableError):
            await beside.recorder.tell([said])
    assert await beside.recorder.tell([said]) == {"gap/1"}
