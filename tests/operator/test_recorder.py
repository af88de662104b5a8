from __future__ import annotations

import asyncio
import copy
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.core.ledger import example_records as ex
from tests.operator.waiting import until
from trailgate.ledger import record as rec
from trailgate.ledger import spool, spoolkeys
from trailgate.ledger.chain import Last
from trailgate.ledger.errors import EntryMisplacedError, LedgerCorruptError, LedgerUnavailableError
from trailgate.ledger.memory import MemoryStore
from trailgate.ledger.people import Vault
from trailgate.ledger.spool import BatchKind, Link
from trailgate.ledger.taken import claim_key
from trailgate.tlog.note import SigningKey
from trailgate_kube.errors import ForbiddenError, NotFoundError, UnavailableError
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import ADMISSIONS
from trailgate_kube.spool import AdmissionReader, AdmissionWriter
from trailgate_operator import intake, recorder, service
from trailgate_operator.intake import Desk, Keys
from trailgate_operator.metrics import Metrics
from trailgate_operator.recorder import Recorder
from trailgate_operator.returns import ImageHistory

NAMESPACE = "trailgate-system"
RECORDER = X25519PrivateKey.generate()
GATE = Ed25519PrivateKey.generate()
STRANGER = Ed25519PrivateKey.generate()
CONTEXT = replace(ex.CONTEXT, gate=replace(ex.CONTEXT.gate, component="recorder"))
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BOOT = "6b043a38898260488e75a2e1"
LOG = SigningKey.generate("log.example/trail")


def signers(*keys):
    return {spoolkeys.key_id(key.public_key()): key.public_key() for key in keys}


class Chain:
    """A gate's process: batches that follow from each other."""

    def __init__(self, boot=BOOT, signer=GATE, recorder=RECORDER):
        self.link, self.signer, self.recorder = Link.first(boot), signer, recorder

    def batch(self, *claims, kind=BatchKind.ADMITTED):
        made = spool.seal(
            claims or [rec.admitted(ex.release(), ex.CONTEXT)],
            link=self.link, kind=kind,
            recorder_key=self.recorder.public_key(), signer=self.signer,
        )  # fmt: skip
        self.link = made.following()
        return made

    def started(self):
        state = rec.control_state(
            ex.CONTEXT, NOW, rec.ControlSubject.GATE, rec.ControlState.STARTED, name="a-boot"
        )
        return self.batch(state, kind=BatchKind.STARTED)


class Stage:
    """A recorder between an in-memory cluster and an in-memory ledger."""

    def __init__(self, *, keys=None, store=None, kube=None):
        self.kube = kube or MemoryKube()
        self.store = store or MemoryStore(LOG)
        self.writer = AdmissionWriter(self.kube, NAMESPACE)
        self.known = None
        self.restart(keys or Keys((RECORDER,), signers(GATE)))

    def restart(self, keys=None):
        self.keys = keys or self.keys
        history = ImageHistory.read(self.store.records())
        vault = Vault(self.store.disclosures("subject:"))
        metrics = Metrics()
        self.registry = metrics.registry
        self.recorder = Recorder(
            AdmissionReader(self.kube, self.kube, NAMESPACE), self.store,
            Desk(self.keys, CONTEXT, vault), history,
            metrics, known=self.known, clock=lambda: NOW,
        )  # fmt: skip

    async def write(self, *batches):
        for batch in batches:
            await self.writer.write(batch)

    async def spooled(self):
        return [i["metadata"]["name"] for i in (await self.kube.page(ADMISSIONS, NAMESPACE)).items]

    @property
    def records(self):
        return [json.loads(record) for record in self.store.records()]

    @property
    def kinds(self):
        return [record["kind"] for record in self.records]

    def gaps(self):
        return [
            (r["cause"], r["firstSeq"], r["lastSeq"]) for r in self.records if r["kind"] == "gap"
        ]


@pytest.fixture(name="stage")
def _stage():
    return Stage()


async def test_what_was_spooled_is_recorded_in_order_and_removed(stage):
    chain = Chain()
    await stage.write(chain.started(), chain.batch(), chain.batch())
    assert await stage.recorder.drain() == 3
    assert stage.kinds == ["control-state", "admitted", "admitted"]
    assert [r["spool"]["seq"] for r in stage.records] == [0, 1, 2]
    assert await stage.spooled() == []


async def test_people_are_not_in_the_leaf(stage):
    await stage.write(Chain().batch())
    await stage.recorder.drain()
    leaf = next(stage.store.records()).decode()
    claim = rec.admitted(ex.release(), ex.CONTEXT)
    personal = [p[name] for p in claim["people"] for name in ("id", "login", "name") if p[name]]
    assert personal
    assert not [value for value in personal + claim["texts"] if value in leaf]


async def test_the_same_batch_again_changes_nothing(stage):
    batch = Chain().batch()
    await stage.write(batch)
    await stage.recorder.drain()
    before = stage.store.checkpoint()
    await stage.write(batch)  # a copy that was put back
    assert await stage.recorder.drain() == 0
    assert stage.store.checkpoint() == before
    assert await stage.spooled() == []


async def test_a_batch_is_not_dropped_for_a_key_that_names_another_entry(stage):
    chain = Chain()
    await stage.write(chain.started())
    await stage.recorder.drain()
    stage.store._keys[claim_key(BOOT, 1, 0)] = 0
    await stage.write(chain.batch())
    with pytest.raises(LedgerCorruptError, match=f"the dedupe key claim/{BOOT}/1/0 names entry 0"):
        await stage.recorder.drain()
    assert (len(stage.records), len(await stage.spooled())) == (1, 1)


async def test_a_batch_is_not_dropped_for_its_number_alone(stage):
    chain = Chain()
    await stage.write(chain.started(), chain.batch())
    await stage.recorder.drain()
    late, later = chain.batch(), chain.batch()
    await stage.write(later)
    await stage.recorder.drain()
    assert stage.gaps() == [("batches-missing", 2, 2)]
    await stage.write(late)
    for _ in range(2):
        await stage.recorder.drain()
        assert await stage.spooled() == [late.name]
    assert "the ledger has none of it" in stage.recorder._left[late.name]


@pytest.mark.parametrize(("seq", "ok"), [(1, True), (0, False), (50, False), (None, False)])
async def test_it_goes_on_from_no_position_that_the_entries_do_not_bear_out(stage, seq, ok):
    chain = Chain()
    await stage.write(chain.started(), chain.batch())
    await stage.recorder.drain()
    name = f"spool/{BOOT}"
    kept = Last.from_bytes(stage.store._positions.pop(name))
    if seq is not None:
        stage.store._positions[name] = replace(kept, seq=seq).to_bytes()
    if ok:
        assert service.read_past(stage.store, lambda: False) is not None
        return
    with pytest.raises(LedgerCorruptError, match=f"process {BOOT}: the position says batch"):
        service.read_past(stage.store, lambda: False)


async def test_killed_between_append_and_deletion_nothing_comes_twice(stage):
    chain = Chain()
    await stage.write(chain.batch(), chain.batch())
    stage.kube.fail("delete", UnavailableError("gone", maybe_done=False))
    with pytest.raises(UnavailableError):
        await stage.recorder.drain()
    assert stage.kinds == ["admitted", "admitted"]
    stage.restart()  # all memory is lost
    assert await stage.recorder.drain() == 0
    assert stage.kinds == ["admitted", "admitted"]
    assert await stage.spooled() == []


async def test_a_full_disk_loses_nothing(stage, monkeypatch):
    await stage.write(Chain().batch())

    def full(*_arguments, **_more):
        raise LedgerUnavailableError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "submit", full)
        with pytest.raises(LedgerUnavailableError):
            await stage.recorder.drain()
    assert stage.kinds == []
    assert len(await stage.spooled()) == 1
    assert await stage.recorder.drain() == 1


async def test_a_missing_number_is_a_gap_and_the_rest_goes_on(stage):
    chain = Chain()
    first, _lost, third = chain.batch(), chain.batch(), chain.batch()
    await stage.write(first, third)
    await stage.recorder.drain()
    assert stage.kinds == ["admitted", "gap", "admitted"]
    assert stage.gaps() == [("batches-missing", 1, 1)]
    await stage.recorder.drain()
    assert len(stage.gaps()) == 1


@pytest.mark.parametrize("late", [False, True])
async def test_numbers_count_from_zero(stage, late):
    chain = Chain()
    chain.batch()
    second = chain.batch()
    if late:
        await stage.recorder.drain()
    await stage.write(second)
    await stage.recorder.drain()
    assert stage.gaps() == [("batches-missing", 0, 0)]


async def test_a_batch_by_an_unknown_gate_stays_and_holds_its_process_back(stage):
    chain, other = Chain(signer=STRANGER), Chain(boot="0" * 24)
    await stage.write(chain.batch(), chain.batch(), other.batch())
    await stage.recorder.drain()
    assert [r["spool"]["boot"] for r in stage.records] == ["0" * 24]
    assert len(await stage.spooled()) == 2
    assert stage.registry.get_sample_value("trailgate_recorder_unreadable") == 2
    # The key was just not mounted yet: now nothing is missing, and all is in order.
    stage.restart(Keys((RECORDER,), signers(GATE, STRANGER)))
    assert await stage.recorder.drain() == 2
    assert stage.kinds == ["admitted"] * 3
    assert await stage.spooled() == []


async def test_a_batch_sealed_to_another_recorder_stays(stage):
    await stage.write(Chain(recorder=X25519PrivateKey.generate()).batch())
    assert await stage.recorder.drain() == 0
    assert len(await stage.spooled()) == 1


async def test_two_recorder_keys_are_read_while_one_is_rotated(stage):
    new = X25519PrivateKey.generate()
    old, fresh = Chain(), Chain(boot="f" * 24, recorder=new)
    await stage.write(old.batch(), fresh.batch())
    stage.restart(Keys((new, RECORDER), signers(GATE)))
    assert await stage.recorder.drain() == 2


async def test_a_tampered_batch_is_told_once_and_kept_as_evidence(stage):
    chain = Chain()
    good, bad = chain.batch(), chain.batch()
    spec = copy.deepcopy(bad.to_spec())
    spec["objects"][0]["name"] = "another"
    await stage.write(good)
    body = {"metadata": {"name": bad.name}, "spec": spec}
    await stage.kube.create(
        ADMISSIONS, {"apiVersion": ADMISSIONS.api_version, "kind": "Admission", **body}, NAMESPACE
    )
    for _ in range(2):
        await stage.recorder.drain()
    assert sorted(stage.kinds) == ["admitted", "gap"]
    assert stage.gaps()[0][0] == "batch-unreadable"
    assert await stage.spooled() == [bad.name]


async def test_a_batch_that_does_not_follow_is_a_fork_and_stays(stage):
    one, two = Chain(), Chain()
    two.batch()
    await stage.write(one.batch(), two.batch())  # number 1 of another history
    for _ in range(2):
        await stage.recorder.drain()
    assert sorted(stage.kinds) == ["admitted", "gap"]
    assert stage.gaps() == [("chain-forked", 1, 1)]
    assert len(await stage.spooled()) == 1


async def test_a_claim_of_a_form_we_do_not_know_waits_for_a_newer_recorder(stage):
    chain = Chain()
    odd = {**rec.admitted(ex.release(), ex.CONTEXT), "schema": "trailgate.dev/record/v9"}
    good, newer, after = chain.batch(), chain.batch(odd), chain.batch()
    await stage.write(good, newer, after)
    await stage.recorder.drain()
    assert stage.kinds == ["admitted"]
    assert await stage.spooled() == [newer.name, after.name]


async def test_going_back_to_images_that_ran_before_is_seen(stage):
    first = ex.release()
    chain = Chain()
    back = rec.admitted(first, ex.CONTEXT)
    other = copy.deepcopy(back)
    for image in other["images"]:
        image["digest"] = "sha256:" + "e" * 64
    for claim in (back, other, back):
        await stage.write(chain.batch(claim))
        await stage.recorder.drain()
    told = [record["change"]["returnsTo"] for record in stage.records]
    assert told == [None, None, 0]


async def test_a_rollback_is_seen_after_a_restart_and_within_one_list(stage):
    back = rec.admitted(ex.release(), ex.CONTEXT)
    other = copy.deepcopy(back)
    for image in other["images"]:
        image["digest"] = "sha256:" + "e" * 64
    chain = Chain()
    await stage.write(chain.batch(back), chain.batch(other))
    await stage.recorder.drain()
    stage.restart()
    await stage.write(chain.batch(back), chain.batch(other))
    await stage.recorder.drain()
    assert [record["change"]["returnsTo"] for record in stage.records] == [None, None, 0, 1]


def _other_images(claim):
    other = copy.deepcopy(claim)
    for image in other["images"]:
        image["digest"] = "sha256:" + "e" * 64
    return other


async def test_a_gap_that_waits_for_its_batch_shifts_nobody_s_index(stage):
    """``returnsTo`` is the entry that has these images, whatever was tried in vain before."""
    back = rec.admitted(ex.release(), ex.CONTEXT)
    other = _other_images(back)
    stuck, chain = Chain(boot="0" * 24), Chain(boot="f" * 24)
    stuck.batch()  # never comes
    await stage.write(stuck.batch({**back, "schema": "trailgate.dev/record/v9"}))
    await stage.recorder.drain()
    for claim in (back, other, back):
        await stage.write(chain.batch(claim))
        await stage.recorder.drain()
    admitted = [(index, record) for index, record in enumerate(stage.records) if "change" in record]
    assert [record["change"]["returnsTo"] for _, record in admitted] == [None, None, admitted[0][0]]


async def test_a_gap_is_told_with_the_batch_that_shows_it(stage, monkeypatch):
    chain = Chain()
    chain.batch()
    await stage.write(chain.batch())
    with monkeypatch.context() as patch:
        patch.setattr(intake, "commit", _refuse_admitted)
        await stage.recorder.drain()
    assert stage.kinds == []
    await stage.recorder.drain()
    assert stage.kinds == ["gap", "admitted"]
    assert stage.gaps() == [("batches-missing", 0, 0)]


def _refuse_admitted(claim, *arguments, **more):
    if claim["kind"] == "admitted":
        raise rec.RecordError("not now")
    return rec.commit(claim, *arguments, **more)


async def test_where_an_index_was_foreseen_wrongly_nothing_is_recorded(stage):
    """Rather no recorder than an entry that names another than it means."""
    await stage.write(Chain().batch())
    stage.recorder._size += 1
    with pytest.raises(EntryMisplacedError, match="would be number 0"):
        async with asyncio.timeout(5):
            await stage.recorder.run(asyncio.Event())
    assert stage.kinds == []
    assert len(await stage.spooled()) == 1
    stage.restart()
    assert await stage.recorder.drain() == 1


@pytest.mark.parametrize("seed", range(10))
async def test_crashes_at_any_call_lose_nothing_and_double_nothing(seed):
    """Whatever call fails, and whenever all memory is lost: each claim once, in order."""
    dice = random.Random(seed)
    stage, chain = Stage(), Chain()
    written = 0
    for _ in range(30):
        for _ in range(dice.randrange(3)):
            await stage.write(chain.batch())
            written += 1
        if dice.random() < 0.5:
            method = dice.choice(["page", "delete"])
            error = UnavailableError("cut", maybe_done=True)
            stage.kube.fail(method, error, after=dice.random() < 0.5)
        try:
            await stage.recorder.drain()
        except UnavailableError:
            stage.restart()
    stage.kube._failures.clear()
    await stage.recorder.drain()
    assert [r["spool"]["seq"] for r in stage.records] == list(range(written))
    assert stage.kinds == ["admitted"] * written
    assert await stage.spooled() == []


async def test_metrics_say_how_far_behind_it_is(stage):
    await stage.write(Chain().batch())
    stage.recorder._clock = lambda: datetime.now(UTC) + timedelta(minutes=10)
    await stage.recorder.drain()
    get = stage.registry.get_sample_value
    assert get("trailgate_recorder_waiting") == 1
    assert get("trailgate_recorder_oldest_seconds") >= 500
    assert get("trailgate_recorder_entries_total", {"kind": "admitted"}) == 1
    assert get("trailgate_ledger_size") == 1


async def test_a_claim_of_any_form_holds_back_its_own_process_and_nobody_else(stage, monkeypatch):
    """Signed and sealed well, and no claim: a gate of another version, or one taken over."""
    monkeypatch.setattr(spool, "_objects", lambda claims: ())
    good = rec.admitted(ex.release(), ex.CONTEXT)
    places = [(name,) for name in good] + [
        ("images", 0),
        ("images", 0, "digest"),
        ("object", "uid"),
    ]
    wrong = [None, 0, -1, "x", [], {}, True, [[]], {"a": []}]
    told = 0
    for number, (place, value) in enumerate((p, v) for p in places for v in wrong):
        claim = copy.deepcopy(good)
        target = claim
        for step in place[:-1]:
            target = target[step]
        target[place[-1]] = value
        if isinstance(claim["decidedAt"], str):
            await stage.write(Chain(boot=f"{number:024d}").batch(claim))
            told += 1
    await stage.write(Chain(boot="f" * 24).batch())
    await stage.recorder.drain()
    left = {name.rpartition("-")[0] for name in await stage.spooled()}
    recorded = [record["spool"]["boot"] for record in stage.records if record["kind"] != "gap"]
    assert recorded[-1] == "f" * 24
    assert len(left) > 30
    assert len(left) + len(recorded) == told + 1 > 200
    assert left.isdisjoint(recorded)


async def test_what_cannot_be_deleted_keeps_nothing_behind_it_from_being_recorded(stage):
    chain = Chain()
    await stage.write(*(chain.batch() for _ in range(120)))  # three pages
    stage.kube.fail("delete", ForbiddenError("no right to"))
    with pytest.raises(ForbiddenError):
        await stage.recorder.drain()
    assert stage.kinds == ["admitted"] * 120
    assert await stage.recorder.drain() == 0
    assert await stage.spooled() == []


async def test_the_known_checkpoint_is_kept_before_anything_is_deleted(tmp_path, monkeypatch):
    stage = Stage()
    stage.known = tmp_path / "checkpoint"
    stage.restart()
    await stage.write(Chain().batch())

    def full(*_):
        raise LedgerUnavailableError("can't keep the known checkpoint: no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "write_known", full)
        with pytest.raises(LedgerUnavailableError, match="no space left"):
            await stage.recorder.drain()
    assert stage.kinds == ["admitted"]
    assert len(await stage.spooled()) == 1
    stage.restart()  # killed there, in the worst moment
    assert await stage.recorder.drain() == 0
    assert stage.known.read_text() == stage.store.checkpoint()
    assert await stage.spooled() == []


async def test_told_to_stop_it_ends_after_a_page(stage):
    chain, stop = Chain(), asyncio.Event()
    await stage.write(*(chain.batch() for _ in range(120)))
    stop.set()
    assert await stage.recorder.drain(stop) == 50
    assert await stage.recorder.drain() == 70


async def test_it_says_when_the_spool_was_read_and_when_it_is_stuck(stage):
    stop = asyncio.Event()
    stage.kube.fail("page", NotFoundError("no such kind"))
    running = asyncio.create_task(stage.recorder.run(stop))
    try:
        get = stage.registry.get_sample_value
        await until(lambda: get("trailgate_recorder_stuck") == 1)
        assert not stage.recorder.looked.is_set()
        await asyncio.wait_for(stage.recorder.looked.wait(), 5)
        await until(lambda: get("trailgate_recorder_stuck") == 0)
    finally:
        stop.set()
        await running


async def test_while_it_is_stuck_nobody_hurries_it(stage, monkeypatch):
    monkeypatch.setattr(recorder, "_BACKOFF", (0.2, 10.0))
    stop = asyncio.Event()
    for _ in range(30):
        stage.kube.fail("page", UnavailableError("away", maybe_done=False))
    running = asyncio.create_task(stage.recorder.run(stop))
    for _ in range(30):
        stage.recorder.wake()
        await asyncio.sleep(0.005)
    labels = {"cause": "UnavailableError"}
    failures = stage.registry.get_sample_value("trailgate_recorder_failures_total", labels)
    assert 1 <= failures <= 2
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_a_forged_batch_at_the_end_holds_nothing_before_it(stage):
    """Whoever may create Admissions must not keep a gate's evidence from being recorded."""
    chain = Chain()
    real = [chain.batch() for _ in range(3)]
    far = replace(Link.first(BOOT), seq=9_999_999_999)
    forged = spool.seal(
        [rec.admitted(ex.release(), ex.CONTEXT)], link=far, kind=BatchKind.ADMITTED,
        recorder_key=RECORDER.public_key(), signer=STRANGER,
    )  # fmt: skip
    await stage.write(*real, forged)
    assert await stage.recorder.drain() == 3
    assert stage.kinds == ["admitted"] * 3
    assert await stage.spooled() == [forged.name]
    await stage.write(chain.batch())
    assert await stage.recorder.drain() == 1


async def test_a_batch_that_cannot_be_read_holds_back_what_follows_it(stage):
    chain, other = Chain(), Chain(signer=STRANGER)
    first = chain.batch()
    other.link = chain.link
    second = other.batch()
    chain.link = other.link
    third = chain.batch()
    await stage.write(first, second, third)
    assert await stage.recorder.drain() == 1
    assert await stage.spooled() == [second.name, third.name]
    assert stage.gaps() == []
