"""The operator away, the disk full, the API server gone, the ledger put back: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

import pytest

from e2e.controlplane import kubeconfig
from tests.chaos.stage import free_port, until
from tests.chaos.stream import Books, Stream, reckon
from trailgate_kube.crd import definitions

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(180)]


@contextlib.asynccontextmanager
async def streaming(stream, *names):
    """Several workers at it; on leaving they finish what they have begun."""
    workers = [asyncio.create_task(stream.work(name)) for name in names]
    try:
        yield
    finally:
        stream.stop()
        await asyncio.gather(*workers)


def more_than(books, count):
    async def enough():
        return len(books.accepted) > count

    return until(enough, 60)


async def changes(stream, made, count):
    for _ in range(count):
        assert (await stream.change(made)).outcome == "accepted"


async def test_twenty_admitted_while_the_operator_is_away_are_twenty_entries(stage):
    books = Books()
    stream = Stream(stage, books)
    await stage.start_gate()
    made = await stream.create("web")
    await changes(stream, made, 19)
    assert stage.records() == []
    assert len(await stage.spooled()) >= 20
    await stage.start_recorder()
    await stage.drained()
    found = reckon(stage.records(), books, {stage.shop})
    assert (found.accepted, found.unanswered) == (20, 0)
    assert found.entries == 20 + found.reviewed_again
    assert await stage.recorder.stop() == 0
    states = [r["state"] for r in stage.records() if r["kind"] == "control-state"]
    assert states == ["started", "started", "ended"]
    await stage.verify()


async def test_the_api_server_is_killed_under_the_stream(stage):
    books = Books()
    stream = Stream(stage, books, pause=0.05)
    await stage.start_gate()
    await stage.start_recorder()
    plane, lives = stage.plane, (stage.recorder, stage.gates["gate-a"])
    async with streaming(stream, "web-1", "web-2", "web-3"):
        for _ in range(2):
            assert await more_than(books, len(books.accepted) + 20)
            await asyncio.to_thread(plane.stop_apiserver, kill=True)
            await asyncio.to_thread(plane.start_apiserver)
        assert await more_than(books, len(books.accepted) + 20)
    await stage.drained()
    assert all(child.alive for child in lives), "it was waited out, without a restart"
    records = stage.records()
    found = reckon(records, books, {stage.shop})
    assert found.unanswered <= len(books.attempts) - found.accepted
    assert [r for r in records if r["kind"] == "gap"] == []
    assert await stage.recorder.stop() == 0
    await stage.verify()


async def test_a_full_disk_is_said_and_waited_out(stage, small_disk):
    books = Books()
    stream = Stream(stage, books)
    stage.move_ledger(small_disk / "ledger.db")
    filler = small_disk / "filler"
    port = free_port()
    await stage.start_gate()
    recorder = await stage.start_recorder(metrics=port)
    made = await stream.create("web")
    await changes(stream, made, 3)
    await stage.drained()
    _fill(filler)
    await changes(stream, made, 10)
    await stage.told(recorder, "disk is full")
    assert await stage.metric(port, "trailgate_recorder_stuck") == 1
    assert await stage.metric(port, "trailgate_recorder_failures_total") >= 1
    await changes(stream, made, 5)  # the gate goes on
    assert len(await stage.spooled()) >= 15
    filler.unlink()
    await stage.drained()
    assert recorder.alive
    assert await stage.metric(port, "trailgate_recorder_stuck") == 0
    found = reckon(stage.records(), books, {stage.shop})
    assert (found.accepted, found.unanswered) == (19, 0)
    await recorder.stop()
    await stage.verify()


async def test_a_recorder_that_starts_on_a_full_disk_waits_for_room(stage, small_disk):
    books = Books()
    stream = Stream(stage, books)
    stage.move_ledger(small_disk / "ledger.db")
    filler = small_disk / "filler"
    await stage.start_gate()
    made = await stream.create("web")
    await changes(stream, made, 3)
    _fill(filler)
    recorder = await stage.start_recorder()
    await stage.told(recorder, "trying again")
    assert len(await stage.spooled()) >= 4
    filler.unlink()
    await stage.drained()
    assert recorder.alive
    reckon(stage.records(), books, {stage.shop})


def _fill(file):
    with file.open("wb", buffering=0) as sink, contextlib.suppress(OSError):
        while True:
            sink.write(bytes(4096))


async def test_yesterdays_ledger_is_refused_and_the_spool_stays(stage):
    books = Books()
    stream = Stream(stage, books)
    await stage.start_gate()
    made = await stream.create("web")
    await stage.start_recorder()
    await stage.drained()
    assert await stage.recorder.stop() == 0
    yesterday = stage.directory / "yesterday.db"
    shutil.copy(stage.ledger, yesterday)
    await changes(stream, made, 3)
    await stage.start_recorder()
    await stage.drained()
    assert await stage.recorder.stop() == 0
    today = stage.directory / "today.db"
    shutil.copy(stage.ledger, today)

    await changes(stream, made, 2)
    before = [item["metadata"]["name"] for item in await stage.spooled()]
    shutil.copy(yesterday, stage.ledger)
    recorder = await stage.start_recorder()
    assert await asyncio.wait_for(recorder.ended, 30) == 1
    assert "are missing (an older ledger was put back)" in recorder.text()
    known = stage.known.read_bytes()
    stage.known.unlink()  # what would tell is put out of the way: that tells, too
    recorder = await stage.start_recorder()
    assert await asyncio.wait_for(recorder.ended, 30) == 1
    assert "nothing tells whether an older ledger was put back" in recorder.text()
    assert not stage.known.exists()
    assert [item["metadata"]["name"] for item in await stage.spooled()] == before
    assert len(before) >= 2

    stage.known.write_bytes(known)
    shutil.copy(today, stage.ledger)
    await stage.start_recorder()
    await stage.drained()
    found = reckon(stage.records(), books, {stage.shop})
    assert (found.accepted, found.unanswered) == (6, 0)
    assert await stage.recorder.stop() == 0
    await stage.verify()


async def test_a_ledger_that_is_put_back_while_it_is_written_ends_the_recorder(stage):
    books = Books()
    stream = Stream(stage, books)
    await stage.start_gate()
    made = await stream.create("web")
    recorder = await stage.start_recorder()
    await stage.drained()
    other = stage.directory / "other.db"
    shutil.copy(stage.ledger, other)
    other.replace(stage.ledger)
    await changes(stream, made, 1)
    assert await asyncio.wait_for(recorder.ended, 30) == 1, "it must end, and not hang"
    assert "removed or replaced" in recorder.text()
    assert len(await stage.spooled()) >= 1


async def test_a_second_recorder_names_the_first(stage):
    first = await stage.start_recorder()
    await stage.told(first, "recording into")
    second = await stage.start_recorder()
    assert await asyncio.wait_for(second.ended, 30) == 1
    assert f"is being written by pid {first.pid} on" in second.text()
    assert await first.stop() == 0


async def test_sigterm_in_the_middle_of_much_work_ends_soon_and_well(stage):
    books = Books()
    stream = Stream(stage, books)
    await stage.start_gate()

    async def much():
        # A batch has more changes in it where the machine is faster: it is batches that count.
        return len(await stage.spooled()) > 150

    async with streaming(stream, *(f"web-{n}" for n in range(8))):
        assert await until(much, 50)
    waiting = len(await stage.spooled())
    for _ in range(3):
        recorder = await stage.start_recorder()
        await stage.told(recorder, "recording into")
        assert await recorder.stop(15) == 0
        waiting, before = len(await stage.spooled()), waiting
        assert before - waiting <= 100, "it goes on for one page, not to the end"
    await stage.start_recorder()
    await stage.told(stage.recorder, "recording into")
    await stage.drained()
    assert await stage.recorder.stop() == 0
    reckon(stage.records(), books, {stage.shop})
    ends = [r["state"] for r in stage.records() if r["kind"] == "control-state"]
    assert ends.count("ended") == 4
    await stage.verify()


async def test_a_kind_that_comes_later_and_a_credential_that_is_renewed(stage):
    """The operator is there first: it waits, and kopf wakes it once there is something."""
    crds = definitions()
    admissions = next(crd for crd in crds if crd["spec"]["names"]["kind"] == "Admission")
    name = (
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{admissions['metadata']['name']}"
    )
    assert (await stage.api("DELETE", name))[0] == 200
    config = stage.directory / "renewed.kubeconfig"
    plane, user = stage.plane, stage.users["recorder"]
    kubeconfig.write(config, plane.url, plane.authority.file, {"token": "not.a.token"})
    try:
        recorder = await stage.start_recorder(config=config)
        await stage.told(recorder, "401")
        kubeconfig.write(config, plane.url, plane.authority.file, {"token": user.token})
        await stage.told(recorder, "recording into")
        await stage.told(recorder, "404")
    finally:
        await asyncio.to_thread(plane.install_crds, *crds)
    books = Books()
    stream = Stream(stage, books)
    await stage.start_gate()
    made = await stream.create("web")
    await stage.drained(60)
    await changes(stream, made, 1)
    await stage.drained(5)  # woken: it would look by itself only after 30 s
    reckon(stage.records(), books, {stage.shop})
    assert await recorder.stop() == 0


async def test_a_gate_that_has_not_read_its_policies_lets_nothing_through(stage):
    books = Books()
    stream = Stream(stage, books)
    await stage.start_gate(through=True)
    made = await stream.create("web")
    assert (await stream.patch(made, 1, "laptop"))[0] == 403
    await stage.gates["gate-a"].kill()
    proxy = stage.proxies["gate-a"]
    proxy.cut = "/deploypolicies"
    await stage.start_gate(through=True, wait=False)

    async def listening():
        return "listening" in stage.gates["gate-a"].text()

    assert await until(listening)
    status, answer = await stream.patch(made, 2, "laptop")
    assert status >= 500, answer
    proxy.cut = None
    assert await until(lambda: stage.gate_ready("gate-a"), 40)
    assert (await stream.patch(made, 3, "laptop"))[0] == 403
    await changes(stream, made, 1)
