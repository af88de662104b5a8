"""Several loops beside the recorder: what one waits out, what ends all, what is shown."""

import asyncio

import pytest

from tests.operator.waiting import until
from trailgate.ledger.errors import LedgerUnavailableError
from trailgate.ledger.memory import MemoryStore
from trailgate.ledger.record import GapCause, gap
from trailgate.tlog.note import SigningKey
from trailgate_kube.errors import ConfigurationError, ForbiddenError, UnavailableError
from trailgate_operator.loops import Follower, Routine, WaitingError, run_all
from trailgate_operator.metrics import Metrics
from trailgate_operator.probes import Health
from trailgate_operator.trail import Statement

QUICK = (0.01, 0.02)


class Passes:
    """Fails as told, pass by pass, then works."""

    def __init__(self, *errors):
        self.errors, self.count = list(errors), 0

    async def __call__(self):
        self.count += 1
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error


def routine(*errors, metrics=None, every=30.0):
    passes = Passes(*errors)
    made = Routine("part", passes, (metrics or Metrics()).loops, every=every, backoff=QUICK)
    return made, passes


async def running(loops):
    stop = asyncio.Event()
    return stop, asyncio.create_task(run_all(loops, stop))


async def ended(stop, task):
    stop.set()
    await asyncio.wait_for(task, 5)


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("away", maybe_done=True),
        ForbiddenError("no right yet"),
        LedgerUnavailableError("disk full"),
        WaitingError("not there yet"),
    ],
)
async def test_what_passes_keeps_one_waiting_and_not_the_others(error):
    metrics = Metrics()
    waiting, passes = routine(*[error] * 1000, metrics=metrics)
    other, others = routine(every=0.01)
    stop, task = await running([waiting, other])
    await until(lambda: passes.count > 2 and others.count > 2)
    assert waiting.problem() == str(error)
    assert other.problem() is None
    text = metrics.render().decode()
    assert 'trailgate_loop_stuck{loop="part"} 1.0' in text
    cause = f'trailgate_loop_failures_total{{cause="{type(error).__name__}",loop="part"}}'
    assert cause in text
    passes.errors.clear()
    await until(lambda: waiting.problem() is None)
    assert 'trailgate_loop_stuck{loop="part"} 0.0' in metrics.render().decode()
    await ended(stop, task)


@pytest.mark.parametrize(
    ("error", "level"),
    [(UnavailableError("away", maybe_done=True), "WARNING"), (WaitingError("not yet"), "INFO")],
)
async def test_what_it_waits_for_is_logged_once(caplog, error, level):
    caplog.set_level("INFO", logger="trailgate.process")
    waiting, _ = routine(*[error] * 5, WaitingError("something else"))
    stop, task = await running([waiting])
    await until(lambda: waiting.problem() is None)
    await ended(stop, task)
    said = [(one.levelname, one.fields["detail"]) for one in caplog.records]
    assert said == [(level, str(error)), ("INFO", "something else")]


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), ConfigurationError("no")])
async def test_what_nobody_foresaw_ends_all(error):
    bad, _ = routine(None, error, every=0.01)
    other, _ = routine()
    _, task = await running([other, bad])
    with pytest.raises(type(error)):
        await asyncio.wait_for(task, 5)


async def test_woken_it_looks_at_once_also_while_it_waits():
    one, passes = routine(every=1000)
    stop, task = await running([one])
    await until(lambda: passes.count == 1)
    one.wake()
    await until(lambda: passes.count == 2)
    passes.errors = [WaitingError("x")]
    one._backoff = (1000, 1000)
    one.wake()
    await until(lambda: one.problem() == "x")
    one.wake()
    await until(lambda: one.problem() is None)
    await ended(stop, task)


async def test_a_pass_may_ask_to_look_sooner():
    count = 0

    async def once():
        nonlocal count
        count += 1
        return 0.01

    stop, task = await running([Routine("part", once, Metrics().loops, every=1000)])
    await until(lambda: count > 3)
    await ended(stop, task)


async def test_a_follower_ends_with_the_others_and_its_bug_ends_them():
    forever = Follower("watch", asyncio.Event().wait)
    stop, task = await running([forever])
    await asyncio.sleep(0.02)
    assert not task.done()
    await ended(stop, task)

    async def bug():
        raise RuntimeError("a bug")

    _, task = await running([Follower("watch", asyncio.Event().wait), Follower("bad", bug)])
    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(task, 5)


async def test_without_loops_it_waits_for_the_end():
    stop, task = await running([])
    await asyncio.sleep(0.02)
    assert not task.done()
    await ended(stop, task)


def test_ready_is_who_records_and_whose_loops_work():
    health = Health()
    health.recorder = lambda: None
    problems = {"arming": "no gate answers"}
    health.loops = {"arming": lambda: problems.get("arming"), "policies": lambda: None}
    health.notes["armed"] = lambda: "disarmed until noon"
    assert health.ready() == (
        False,
        "recorder: ok\narming: no gate answers\npolicies: ok\narmed: disarmed until noon\n",
    )
    problems.clear()
    assert health.ready()[0] is True


# The one way into the ledger.


def statement(stage_context, now, name):
    return Statement(name, gap(stage_context, now, GapCause.OBSERVER_DOWN))


async def test_a_loop_tells_through_the_recorder_and_each_key_once():
    from tests.operator.test_recorder import CONTEXT, NOW, Chain, Stage

    stage = Stage()
    chain = Chain()
    await stage.write(chain.started(), chain.batch())
    both = [
        statement(CONTEXT, NOW, "a"),
        statement(CONTEXT, NOW, "b"),
        statement(CONTEXT, NOW, "a"),
    ]
    new, made = await asyncio.gather(stage.recorder.tell(both), stage.recorder.drain())
    assert new == {"a", "b"}
    assert made == 2
    assert await stage.recorder.tell(both[:1]) == frozenset()
    await stage.write(chain.batch())
    assert await stage.recorder.drain() == 1
    assert sorted(stage.kinds) == ["admitted", "admitted", "control-state", "gap", "gap"]
    assert await stage.recorder.tell([]) == frozenset()
    assert "trailgate_ledger_size 5.0" in generated(stage)


def generated(stage):
    from prometheus_client import generate_latest

    return generate_latest(stage.registry).decode()


async def test_what_the_ledger_cannot_take_now_may_be_said_again():
    from tests.operator.test_recorder import CONTEXT, NOW, Stage

    class Full(MemoryStore):
        full = True

        def submit(self, entries, **how):
            if self.full:
                raise LedgerUnavailableError("disk full")
            return super().submit(entries, **how)

    stage = Stage(store=Full(SigningKey.generate("log.example/trail")))
    with pytest.raises(LedgerUnavailableError):
        await stage.recorder.tell([statement(CONTEXT, NOW, "a")])
    stage.store.full = False
    assert await stage.recorder.tell([statement(CONTEXT, NOW, "a")]) == {"a"}
