"""``kill -9`` at every point, two hundred times, under a stream: recorded = accepted, nothing twice."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import sys
import time

import pytest

from tests.chaos.proxy import Trip
from tests.chaos.stage import until
from tests.chaos.stream import Books, Stream, reckon

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

KILLS = int(os.environ.get("TRAILGATE_CHAOS_KILLS", "200"))
_LIFE = 2.5
"""Seconds until a life ends where the chosen point does not come."""

#: Where a recorder dies: (method, phase), or at some time after its start.
RECORDER = [
    ("GET", "received"),
    ("GET", "forwarded"),
    ("GET", "answered"),
    ("GET", "answered"),
    ("GET", "answered"),
    ("DELETE", "received"),
    ("DELETE", "received"),
    ("DELETE", "forwarded"),
    ("DELETE", "forwarded"),
    ("DELETE", "answered"),
    ("start", ""),
    ("time", ""),
]
GATE = [
    ("POST", "received"),
    ("POST", "forwarded"),
    ("POST", "forwarded"),
    ("POST", "answered"),
    ("POST", "answered"),
    ("start", ""),
    ("time", ""),
]


class Storm:
    """Lives and deaths of one stage's processes."""

    def __init__(self, stage, seed):
        self.stage, self.dice = stage, random.Random(seed)
        self.points = collections.Counter()
        self.between = 0
        """Recorders that died with something in the ledger that was still in the spool."""

    def _trip(self, method, phase):
        # An answered list is followed by unsealing, the append and its fsync.
        delay = self.dice.uniform(0, 0.04 if method == "GET" else 0.01)
        nth = self.dice.randint(1, 1 if method == "GET" else 3)
        return Trip(method, phase, nth=nth, delay=delay)

    async def _die(self, child, trip, point, start):
        """Let a process run into its point; returns where it died."""
        if trip is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(trip.fired.wait(), _LIFE)
        else:
            await asyncio.sleep(self.dice.uniform(0, 0.4 if point == "start" else 1.0) + start)
        fired = trip is None or trip.fired.is_set()
        assert child.alive or (await child.ended) == -9, child.text()[-3000:]
        await child.kill()
        self.points[f"{child.name}: {trip or point}" if fired else f"{child.name}: late"] += 1

    async def recorders(self, kills):
        proxy = await self.stage.proxy("recorder")
        for number in range(kills):
            method, phase = RECORDER[number % len(RECORDER)]
            trip = self._trip(method, phase) if phase else None
            proxy.arm(trip)
            child = await self.stage.start_recorder(through=True)
            await self._die(child, trip, method, 0.5 if method == "time" else 0)
            self.between += await self._is_between()
        proxy.arm(None)

    async def gates(self, name, kills):
        proxy, first = await self.stage.proxy(name), self.dice.randrange(len(GATE))
        for number in range(first, first + kills):
            method, phase = GATE[number % len(GATE)]
            trip = self._trip(method, phase) if phase else None
            if trip:
                trip.nth += 1  # the first one is the start announcement
            proxy.arm(trip)
            child = await self.stage.start_gate(name, through=True, wait=False)
            await self._die(child, trip, method, 0.5 if method == "time" else 0)
        proxy.arm(None)
        await self.stage.start_gate(name, through=True)

    async def _is_between(self):
        """Nobody records now: is something both in the ledger and in the spool?"""
        spooled = await self.stage.spooled()
        positions = self.stage.positions()
        return any(
            item["spec"]["seq"] <= positions.get(item["spec"]["boot"], -1) for item in spooled
        )


@pytest.mark.timeout(600)
async def test_killed_anywhere_recorded_is_accepted_and_nothing_comes_twice(stage, capsys):
    seed = random.randrange(1 << 32)
    books, storm = Books(), Storm(stage, seed)
    stream = Stream(stage, books, pause=0.05)
    for name in ("gate-a", "gate-b"):
        await stage.start_gate(name, through=True)
    workers = [asyncio.create_task(stream.work(f"web-{n}")) for n in range(4)]
    workers.append(asyncio.create_task(stream.be_refused("closed")))

    async def streaming():
        return len(books.accepted) > 10

    assert await until(streaming)
    for gate in stage.gates.values():
        await gate.kill()
    began = time.monotonic()
    half, quarter = KILLS - 2 * (KILLS // 4), KILLS // 4
    await asyncio.gather(
        storm.recorders(half), storm.gates("gate-a", quarter), storm.gates("gate-b", quarter)
    )
    took = time.monotonic() - began
    stream.stop()
    await asyncio.gather(*workers)
    await stage.start_recorder(through=True)
    for gate in stage.gates.values():
        assert await gate.stop() == 0
    await stage.drained()
    assert await stage.recorder.stop() == 0

    records = stage.records()
    found = reckon(records, books, {stage.shop})
    with capsys.disabled():
        sys.stdout.write(
            f"\nseed {seed}: {KILLS} kills in {took:.0f} s, {storm.between} between commit and "
            f"spool delete; {dict(books.count())}; {found}\n{dict(storm.points)}\n"
        )
    assert [r for r in records if r["kind"] == "gap"] == []
    assert found.unanswered <= len(books.attempts) - found.accepted
    assert 0 < found.refusals <= books.denied
    assert storm.between >= KILLS // 10
    assert found.accepted > KILLS
    assert "ok" in await stage.verify()
    allowed = {("get", "namespaces")} | {
        (verb, "admissions") for verb in ("get", "list", "watch", "delete")
    }
    asked = stage.operator_requests()
    written = {(verb, what) for verb, what in asked if verb not in ("get", "list", "watch")}
    assert written == {("delete", "admissions")}
    assert {one for one in asked if one[1] != "-"} <= allowed


@pytest.mark.timeout(300)
async def test_the_installed_commands_killed_at_random_lose_nothing_either(stage):
    """As above with the commands as they are installed, started from nothing each time."""
    stage.installed, dice = True, random.Random()
    books = Books()
    stream = Stream(stage, books, pause=0.05)
    await stage.start_recorder()
    await stage.start_gate("gate-a")
    workers = [asyncio.create_task(stream.work(f"web-{n}")) for n in range(3)]
    for number in range(6):
        await asyncio.sleep(dice.uniform(0.5, 2.0))
        if number % 2:
            await stage.recorder.kill()
            await stage.start_recorder()
        else:
            await stage.gates["gate-a"].kill()
            await stage.start_gate("gate-a")
    stream.stop()
    await asyncio.gather(*workers)
    assert await stage.gates["gate-a"].stop() == 0
    await stage.drained()
    assert await stage.recorder.stop() == 0
    records = stage.records()
    found = reckon(records, books, {stage.shop})
    assert found.accepted > 20
    assert found.unanswered <= len(books.attempts) - found.accepted
    assert [r for r in records if r["kind"] == "gap"] == []
    await stage.verify()
