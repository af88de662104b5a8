"""The single writer: numbers, group commit, what a failed write means, how it ends."""

import asyncio
import collections
import dataclasses
import itertools
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.webhook.conftest import review, until
from tests.webhook.memory_spool import MemoryAdmissions
from tests.webhook.serving import assessment
from trailgate.ledger.chain import follow
from trailgate.ledger.record import Cluster, Context, Gate, RecordError, RecordTooLargeError
from trailgate.ledger.spool import Batch, open_batch
from trailgate.ledger.spoolkeys import key_id
from trailgate.ledger.spoolwriter import (
    SpoolAmbiguousError,
    SpoolFullError,
    SpoolRefusedError,
    SpoolUnreachableError,
    Written,
)
from trailgate.model.decision import Finding, Mode
from trailgate.model.digest import Digest
from trailgate.model.reason import Reason
from trailgate_webhook import spool
from trailgate_webhook.metrics import Metrics
from trailgate_webhook.review import read
from trailgate_webhook.scribe import SpoolScribe
from trailgate_webhook.spool import NotKeptError, SpoolWriter

NUMBERS = itertools.count()


SIGNER = Ed25519PrivateKey.generate()
RECORDER = X25519PrivateKey.generate()
CONTEXT = Context(Cluster("6b0f4f0e-kube-system", "test"), Gate("1.0.0", Digest.of(b"{}")))


class Scribe(SpoolScribe):
    """The real one, with names that make no claim."""

    def __init__(self):
        super().__init__(CONTEXT, RECORDER.public_key(), SIGNER)

    def admitted(self, assessment):
        if assessment.request.name == "too-large":
            raise RecordTooLargeError("too large")
        if assessment.request.name == "contradiction":
            raise RecordError("contradiction")
        return super().admitted(assessment)


def root(*, mode=Mode.ENFORCE, name="web"):
    document = review("create-deployment")
    document["request"]["object"]["metadata"]["uid"] = f"uid-{next(NUMBERS)}"
    request = read(json.dumps(document).encode())
    return assessment(dataclasses.replace(request, name=name), mode=mode)


def uid_of(change):
    return change.request.object["metadata"]["uid"]


def denied(reason=Reason.SIGNER_MISMATCH):
    return assessment(root().request, Finding(reason, "a", "b"))


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
async def begun():
    """(writer, admissions, clock) with the start announced."""
    admissions, clock = MemoryAdmissions(), Clock()
    writer = SpoolWriter(admissions, Scribe(), Metrics(), clock)
    await writer.start()
    await until(lambda: writer.started)
    yield writer, admissions, clock
    await writer.stop()


@dataclasses.dataclass(frozen=True)
class Opened:
    """A stored batch, as the recorder sees it."""

    seq: int
    kind: str
    claims: list


def chained(admissions):
    """All batches, opened, after holding names, signatures and chain to be without a fault."""
    batches = [Batch.from_spec(spec) for spec in admissions.stored.values()]
    names = dict(zip((batch.name for batch in batches), admissions.stored, strict=True))
    steps = follow({}, batches).steps
    assert all(isinstance(step, Batch) for step in steps)
    assert [step.link.seq for step in steps] == list(range(len(batches)))
    signers = {key_id(SIGNER.public_key()): SIGNER.public_key()}
    opened = [
        Opened(
            step.link.seq,
            step.kind.value,
            list(
                open_batch(
                    step,
                    name=names[step.name],
                    recorder_keys=[RECORDER],
                    signer_keys=signers,
                )
            ),
        )
        for step in steps
    ]
    assert opened[0].kind == "started"
    assert opened[0].claims[0]["state"] == "started"
    return opened


def claims(admissions, kind):
    return [c for batch in chained(admissions) for c in batch.claims if c["kind"] == kind]


def uids(admissions):
    """Of the objects that admitted claims are about."""
    return [claim["object"]["uid"] for claim in claims(admissions, "admitted")]


def sizes(admissions):
    return [len(batch.claims) for batch in chained(admissions)]


async def test_a_change_is_stored_before_admitted_returns(begun):
    writer, admissions, _ = begun
    change = root()
    await writer.admitted(change, 1)
    assert uids(admissions) == [uid_of(change)]
    chained(admissions)


async def test_what_queues_during_a_write_goes_into_the_next_batch_together(begun):
    writer, admissions, _ = begun
    gate, entered = asyncio.Event(), asyncio.Event()
    write = admissions.write

    async def slow(batch, **kwargs):
        entered.set()
        await gate.wait()
        return await write(batch, **kwargs)

    admissions.write = slow
    tasks = [asyncio.create_task(writer.admitted(root(), 5))]
    await entered.wait()
    tasks += [asyncio.create_task(writer.admitted(root(), 5)) for _ in range(20)]
    await until(lambda: len(writer._queue) == 20)
    gate.set()
    await asyncio.gather(*tasks)
    assert sizes(admissions) == [1, 1, 20]


async def test_a_batch_has_at_most_its_number_and_bytes_of_claims(begun, monkeypatch):
    writer, admissions, _ = begun
    await asyncio.gather(*(writer.admitted(root(), 5) for _ in range(150)))
    assert sum(sizes(admissions)) == 151
    assert max(sizes(admissions)) == 64
    monkeypatch.setattr(spool, "BATCH_BYTES", 1)
    before = len(admissions.stored)
    await asyncio.gather(*(writer.admitted(root(), 5) for _ in range(3)))
    assert sizes(admissions)[before:] == [1, 1, 1]


@pytest.mark.parametrize(
    ("error", "reason", "kind"),
    [
        (SpoolFullError("quota"), Reason.SPOOL_FULL, "full"),
        (SpoolRefusedError("forbidden"), Reason.INTERNAL, "refused"),
    ],
)
async def test_a_certain_failure_uses_up_no_number(begun, error, reason, kind):
    writer, admissions, _ = begun
    admissions.failures = [error]
    with pytest.raises(NotKeptError) as raised:
        await writer.admitted(root(), 1)
    assert raised.value.reason is reason
    await writer.admitted(root(), 1)
    assert sizes(admissions) == [1, 1]
    value = writer._metrics.registry.get_sample_value(
        "trailgate_spool_errors_total", {"kind": kind}
    )
    assert value == 1


class LostAnswers(MemoryAdmissions):
    """Stores, and then says that it doesn't know: as often as ``lose`` says."""

    lose = 0

    async def write(self, batch, *, seconds=None):
        written = await super().write(batch)
        if self.lose:
            self.lose -= 1
            raise SpoolAmbiguousError("connection reset")
        return written


async def test_an_ambiguous_write_is_repeated_with_the_same_name_and_is_there_once():
    admissions = LostAnswers()
    writer = SpoolWriter(admissions, Scribe(), Metrics())
    await writer.start()
    await until(lambda: writer.started)
    admissions.lose = 1
    await writer.admitted(root(), 2)
    await writer.admitted(root(), 2)
    await writer.stop()
    assert admissions.attempts[1] == admissions.attempts[2]
    assert sizes(admissions) == [1, 1, 1, 1]


async def test_full_after_an_ambiguous_write_proves_nothing_and_is_repeated(begun):
    writer, admissions, _ = begun
    admissions.failures = [
        SpoolAmbiguousError("time-out"),
        SpoolFullError("quota"),
        SpoolRefusedError("no"),
    ]
    await writer.admitted(root(), 5)
    assert len(set(admissions.attempts[1:])) == 1
    assert len(chained(admissions)) == 2


async def test_a_write_that_hangs_is_ambiguous_and_repeated(begun, monkeypatch):
    writer, admissions, _ = begun
    monkeypatch.setattr(spool, "ATTEMPT", -0.4)
    write, hung = admissions.write, []

    async def once_hanging(batch, **kwargs):
        if not hung:
            hung.append(batch.name)
            await asyncio.Event().wait()
        return await write(batch, **kwargs)

    admissions.write = once_hanging
    await writer.admitted(root(), 5)
    assert len(hung) == 1
    assert hung[0].endswith("-0000000001")
    assert len(chained(admissions)) == 2


async def test_nobody_waits_longer_than_asked_and_what_is_enforced_is_withdrawn(begun):
    writer, admissions, _ = begun
    admissions.failures = [SpoolAmbiguousError("503")] * 4
    first = asyncio.create_task(writer.admitted(root(), 0.1))
    await until(lambda: len(admissions.attempts) > 1)
    enforced, audited = root(), root(mode=Mode.AUDIT)
    *results, passed = await asyncio.gather(
        first,
        writer.admitted(enforced, 0.05),
        writer.admitted(audited, 0.05),
        return_exceptions=True,
    )
    assert [result.reason for result in results] == [Reason.EVIDENCE_UNAVAILABLE] * 2
    assert passed is None
    await until(lambda: uid_of(audited) in uids(admissions))
    assert uid_of(enforced) not in uids(admissions)
    chained(admissions)


@pytest.mark.parametrize(("then", "gaps"), [("kept", []), ("full", [1])])
async def test_what_is_late_and_not_enforced_is_a_gap_only_where_it_fails(
    begun, monkeypatch, then, gaps
):
    writer, admissions, clock = begun
    monkeypatch.setattr(spool, "ATTEMPT", 5)
    write, go = admissions.write, asyncio.Event()

    async def slow(batch, **kwargs):
        await go.wait()
        admissions.write = write
        if then == "full":
            raise SpoolFullError("exceeded quota")
        return await write(batch, **kwargs)

    admissions.write = slow
    await writer.admitted(root(mode=Mode.AUDIT), 0.05)
    go.set()
    await until(lambda: admissions.write is write)
    clock.now += spool.NOTES_EVERY + 1
    await writer.stop()
    assert [claim["count"] for claim in claims(admissions, "gap")] == gaps
    assert len(claims(admissions, "admitted")) == 1 - len(gaps)


async def test_an_api_server_that_is_away_for_a_moment_is_waited_for(begun):
    writer, admissions, _ = begun
    admissions.failures = [SpoolUnreachableError("refused")] * 2
    await writer.admitted(root(), 2)
    assert sizes(admissions) == [1, 1]


async def test_an_api_server_that_stays_away_is_evidence_unavailable(begun):
    writer, admissions, clock = begun
    write = admissions.write

    async def away(batch, **kwargs):
        clock.now += 1
        raise SpoolUnreachableError("refused")

    admissions.write = away
    with pytest.raises(NotKeptError, match="try again") as raised:
        await writer.admitted(root(), 5)
    assert raised.value.reason is Reason.EVIDENCE_UNAVAILABLE
    admissions.write = write
    await writer.admitted(root(), 1)
    assert sizes(admissions)[:2] == [1, 1]


async def test_another_s_admission_under_our_name_stops_the_writer(begun):
    writer, admissions, _ = begun
    name = next(iter(admissions.stored)).replace("0000000000", "0000000001")
    admissions.stored[name] = {"forged": True}
    with pytest.raises(NotKeptError) as raised:
        await writer.admitted(root(), 1)
    assert raised.value.reason is Reason.INTERNAL
    await until(lambda: writer.broken)
    assert "restart" in writer.problem()
    with pytest.raises(NotKeptError):
        await writer.admitted(root(), 1)
    assert admissions.stored[name] == {"forged": True}


async def test_an_error_that_nobody_foresaw_stops_the_writer_and_fails_who_waits(begun):
    writer, admissions, _ = begun
    admissions.failures = [ZeroDivisionError()]
    with pytest.raises(NotKeptError) as raised:
        await writer.admitted(root(), 1)
    assert raised.value.reason is Reason.INTERNAL
    assert writer.broken


async def test_nothing_is_admitted_before_the_start_is_announced():
    admissions = MemoryAdmissions(limit=0)
    writer = SpoolWriter(admissions, Scribe(), Metrics())
    await writer.start()
    await until(lambda: writer._unstarted is not None)
    assert "not announced" in writer.problem()
    with pytest.raises(NotKeptError, match="no more fit") as raised:
        await writer.admitted(root(), 1)
    assert raised.value.reason is Reason.SPOOL_FULL
    admissions.limit = 10
    await until(lambda: writer.started)
    assert writer.problem() is None
    await writer.admitted(root(), 1)
    await writer.stop()
    assert [batch.kind for batch in chained(admissions)] == ["started", "admitted", "ended"]


async def test_a_change_in_the_first_moment_waits_for_the_start_to_be_announced():
    admissions = MemoryAdmissions()
    writer = SpoolWriter(admissions, Scribe(), Metrics())
    await writer.start()
    assert not writer.started
    await writer.admitted(root(), 2)
    await writer.stop()
    assert [batch.kind for batch in chained(admissions)] == ["started", "admitted", "ended"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("too-large", Reason.MALFORMED), ("contradiction", Reason.INTERNAL)],
)
async def test_a_change_that_makes_no_claim_is_an_error_of_its_own(begun, name, reason):
    writer, admissions, _ = begun
    with pytest.raises(NotKeptError) as raised:
        await writer.admitted(root(name=name), 1)
    assert raised.value.reason is reason
    await writer.admitted(root(), 1)
    assert len(chained(admissions)) == 2


async def test_a_full_queue_says_so_at_once(begun, monkeypatch):
    writer, admissions, _ = begun
    monkeypatch.setattr(spool, "QUEUE_LIMIT", 1)
    admissions.failures = [SpoolAmbiguousError("x")] * 3
    tasks = [asyncio.create_task(writer.admitted(root(), 5)) for _ in range(2)]
    await until(lambda: len(admissions.attempts) > 1)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    full = [result for result in results if isinstance(result, NotKeptError)]
    assert len(full) == 1
    assert full[0].reason is Reason.EVIDENCE_UNAVAILABLE
    assert "too many" in str(full[0])


async def test_refusals_are_added_up_and_written_when_due(begun):
    writer, admissions, clock = begun
    for _ in range(1000):
        writer.refused(denied())
    writer.refused(denied(Reason.TESTS_FAILED))
    await writer.admitted(root(), 1)
    assert claims(admissions, "refused") == []
    clock.now += spool.NOTES_EVERY
    await writer.admitted(root(), 1)
    await until(lambda: len(admissions.stored) == 4)
    (batch,) = [batch for batch in chained(admissions) if batch.kind == "refused"]
    counts = collections.Counter()
    for claim in batch.claims:
        counts[claim["reason"]] += claim["count"]
    assert counts == {"SignerMismatch": 1000, "TestsFailed": 1}


GAPS = [("lost", "admissions-unrecorded"), ("undecided", "reviews-undecided")]


@pytest.mark.parametrize(("method", "cause"), GAPS)
async def test_what_has_no_evidence_becomes_a_gap_of_its_own_cause(begun, method, cause):
    writer, admissions, clock = begun
    getattr(writer, method)()
    getattr(writer, method)()
    clock.now += spool.NOTES_EVERY
    await writer.admitted(root(), 1)
    await until(lambda: len(admissions.stored) == 3)
    (gap,) = claims(admissions, "gap")
    assert (gap["cause"], gap["count"]) == (cause, 2)
    assert gap["since"] <= gap["until"]
    clock.now += spool.NOTES_EVERY
    await writer.admitted(root(), 1)
    await writer.admitted(root(), 1)
    assert len(claims(admissions, "gap")) == 1


async def test_refusals_survive_a_full_spool_and_what_does_not_fit_is_a_gap(begun):
    writer, admissions, clock = begun
    admissions.limit = 1
    writer.refused(denied())
    clock.now += spool.NOTES_EVERY
    with pytest.raises(NotKeptError):
        await writer.admitted(root(), 1)
    await until(lambda: len(writer._notes) == 1)
    for number in range(300):
        item = denied()
        moment = datetime.fromtimestamp(number * 60, UTC)
        writer.refused(dataclasses.replace(item, decided_at=moment))
    admissions.limit = 5_000
    await writer.stop()
    gaps = claims(admissions, "gap")
    assert [gap["cause"] for gap in gaps] == ["refusals-dropped"]
    assert sum(claim["count"] for claim in gaps + claims(admissions, "refused")) == 301
    assert chained(admissions)[-1].kind == "ended"


async def test_stopping_writes_what_waits_then_the_end(begun):
    writer, admissions, _ = begun
    writer.refused(denied())
    waiting = [asyncio.create_task(writer.admitted(root(), 5)) for _ in range(5)]
    await asyncio.sleep(0)
    await writer.stop()
    await asyncio.gather(*waiting)
    found = chained(admissions)
    assert found[-1].kind == "ended"
    assert found[-2].kind == "refused"
    assert len(uids(admissions)) == 5
    with pytest.raises(NotKeptError):
        await writer.admitted(root(), 1)


async def test_stopping_does_not_wait_for_ever(begun, monkeypatch):
    writer, admissions, _ = begun
    monkeypatch.setattr(spool, "STOP_BUDGET", 0.1)
    admissions.failures = [SpoolAmbiguousError("down")] * 1000
    waiting = asyncio.create_task(writer.admitted(root(), 5))
    await until(lambda: len(admissions.attempts) > 1)
    async with asyncio.timeout(2):
        await writer.stop()
        with pytest.raises(NotKeptError):
            await waiting


class Moody(LostAnswers):
    """Fails as it is told, before or after storing."""

    def __init__(self, moods):
        super().__init__()
        self.moods = list(moods)

    async def write(self, batch, *, seconds=None):
        mood = self.moods.pop(0) if self.moods else "ok"
        if mood == "full":
            raise SpoolFullError("full")
        if mood == "refused":
            raise SpoolRefusedError("no")
        if mood == "unreachable":
            raise SpoolUnreachableError("later")
        if mood == "lost before":
            raise SpoolAmbiguousError("before")
        await asyncio.sleep(0)
        written = await MemoryAdmissions.write(self, batch)
        if mood == "lost after":
            raise SpoolAmbiguousError("after")
        return written


MOODS = st.lists(
    st.sampled_from(["ok", "full", "refused", "unreachable", "lost before", "lost after"]),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(moods=MOODS, bursts=st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_whatever_fails_the_chain_has_no_hole_and_success_means_stored_once(moods, bursts):
    async def run():
        admissions = Moody(moods)
        writer = SpoolWriter(admissions, Scribe(), Metrics())
        spool_sleep = asyncio.sleep

        async def no_sleep(_seconds):
            await spool_sleep(0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spool.asyncio, "sleep", no_sleep)
            await writer.start()
            while not writer.started:
                await spool_sleep(0)
            promised = []
            for burst in bursts:
                changes = [root() for _ in range(burst)]
                results = await asyncio.gather(
                    *(writer.admitted(change, 5) for change in changes), return_exceptions=True
                )
                promised += [
                    uid_of(change)
                    for change, result in zip(changes, results, strict=True)
                    if result is None
                ]
                assert all(result is None or isinstance(result, NotKeptError) for result in results)
            await writer.stop()
        stored = uids(admissions)
        chained(admissions)
        assert len(stored) == len(set(stored))
        assert set(promised) == set(stored)

    asyncio.run(run())


async def test_a_name_that_exists_counts_as_written_only_after_an_unsure_attempt():
    class Taken(MemoryAdmissions):
        async def write(self, batch, *, seconds=None):
            return Written.ALREADY_THERE

    admissions = Taken()
    writer = SpoolWriter(admissions, Scribe(), Metrics())
    await writer.start()
    await until(lambda: writer.broken)
    assert not writer.started
    await writer.stop()
