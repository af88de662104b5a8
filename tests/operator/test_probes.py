"""What the probes answer, and that they answer while the recorder is at work."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

import trailgate
from tests.operator.test_recorder import Chain, Stage
from trailgate_kube.errors import UnavailableError
from trailgate_operator import probes, recorder
from trailgate_operator.configuration import Address, ConfigurationError
from trailgate_operator.metrics import Metrics
from trailgate_operator.probes import Health

HERE = Address("127.0.0.1", 0)


@pytest.fixture(name="asked")
async def _asked():
    """``await asked(path)``: status, body; ``asked.health`` is what they tell of."""
    health, metrics = Health(), Metrics()
    async with probes.served(HERE, health, metrics) as port, aiohttp.ClientSession() as session:

        async def ask(path, method="GET"):
            async with session.request(method, f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, await answer.text()

        ask.health = health
        yield ask


async def test_not_ready_until_it_records_and_it_says_why(asked):
    assert await asked("/readyz") == (503, "recorder: starting\n")
    asked.health.wait_for("no answer")
    assert await asked("/readyz") == (503, "recorder: no answer\n")
    asked.health.recorder = lambda: None
    assert await asked("/readyz") == (200, "recorder: ok\n")
    asked.health.watch = lambda: "kopf stopped"
    assert await asked("/readyz") == (200, "recorder: ok\nwatch: kopf stopped\n")
    asked.health.stopping = lambda: True
    assert (await asked("/readyz"))[0] == 503
    assert (await asked("/livez")) == (200, "ok\n")


async def test_metrics_say_which_version_and_what_the_process_uses(asked):
    status, text = await asked("/metrics")
    assert status == 200
    assert f'trailgate_build_info{{version="{trailgate.__version__}"}} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert "trailgate_recorder_stuck 0.0" in text


async def test_nothing_else_is_served(asked):
    assert (await asked("/"))[0] == 404
    assert (await asked("/metrics", "POST"))[0] == 405
    assert (await asked("/readyz", "HEAD"))[0] == 503


async def test_a_port_that_is_taken_is_a_wrong_configuration():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match=f"--health-listen {address}"):
            async with probes.served(address, Health(), Metrics()):
                pass


async def test_a_recorder_has_a_problem_until_the_spool_was_read_and_while_passes_fail(monkeypatch):
    monkeypatch.setattr(recorder, "_BACKOFF", (0.01, 0.01))
    stage, stop = Stage(), asyncio.Event()
    seen = []
    drain = stage.recorder.drain

    async def watched(stop):
        seen.append(stage.recorder.problem())
        if len(seen) == 4:
            stop.set()
        if len(seen) == 3:
            stage.recorder.wake()
        await drain(stop)

    monkeypatch.setattr(stage.recorder, "drain", watched)
    stage.kube.fail("page", UnavailableError("away", maybe_done=False))
    stage.kube.fail("page", UnavailableError("still away", maybe_done=False))
    await asyncio.wait_for(stage.recorder.run(stop), 10)
    assert seen == ["the spool was not read yet", "away", "still away", None]


@pytest.mark.parametrize("slow", ["take", "write_known"])
async def test_the_loop_answers_while_work_is_done(slow, monkeypatch, tmp_path):
    """Cryptography and fsync wait here for the loop, which they would block elsewhere."""
    stage = Stage()
    stage.known = tmp_path / "checkpoint"
    stage.restart()
    await stage.write(Chain().batch())
    real, loop = getattr(recorder, slow), asyncio.get_running_loop()
    answered = []

    async def answer():
        return "answered"

    def waiting(*arguments):
        answered.append(asyncio.run_coroutine_threadsafe(answer(), loop).result(5))
        return real(*arguments)

    monkeypatch.setattr(recorder, slow, waiting)
    assert await stage.recorder.drain() == 1
    assert answered == ["answered"]


async def test_what_stays_in_the_spool_is_told_when_it_changes_and_not_at_every_look(caplog):
    stage, stranger = Stage(), Chain(boot="0" * 24)
    stage.keys = recorder_keys_without_gates(stage.keys)
    stage.restart()
    await stage.write(stranger.batch())

    async def told():
        caplog.clear()
        await stage.recorder.drain()
        return [r.fields["name"] for r in caplog.records if r.message.startswith("Admission stays")]

    first = await told()
    assert len(first) == 1
    assert await told() == []
    second = stranger.batch()
    await stage.write(second)
    assert await told() == [second.name]
    stage.restart()
    assert sorted(await told()) == sorted([*first, second.name])


def recorder_keys_without_gates(keys):
    return type(keys)(keys.recorder, {})
