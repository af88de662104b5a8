"""The operator's life: what it waits out, what ends it, and that kopf ends nothing."""

from __future__ import annotations

import asyncio
import threading

import kopf
import pytest
from kopf._core.engines.peering import detect_own_id
from kopf._core.intents.causes import Activity

from tests.operator.waiting import until
from trailgate.ledger.errors import LedgerRolledBackError, LedgerUnavailableError
from trailgate_kube.errors import ConfigurationError, UnavailableError
from trailgate_operator import handlers, lookout, service
from trailgate_operator.lookout import Lookout
from trailgate_operator.probes import Health


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(service, "_BACKOFF", (0.01, 0.05))
    monkeypatch.setattr(service, "_LAST_WATCH", 1.0)


class Told(list):
    """What stands for a request or an append: fails as told, then works."""

    async def __call__(self):
        if self:
            raise self.pop(0)
        return "done"


async def test_what_passes_by_itself_is_waited_out():
    told = Told([UnavailableError("away", maybe_done=False), LedgerUnavailableError("disk full")])
    assert await service.patiently(told, asyncio.Event()) == "done"


@pytest.mark.parametrize("error", [ConfigurationError("no"), LedgerRolledBackError("no")])
async def test_what_does_not_pass_is_raised(error):
    with pytest.raises(type(error)):
        await service.patiently(Told([error]), asyncio.Event())


async def test_waiting_ends_when_told_to_stop():
    stop = asyncio.Event()
    forever = Told([UnavailableError("away", maybe_done=False)] * 10_000)
    waiting = asyncio.create_task(service.patiently(forever, stop))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    stop.set()
    assert await asyncio.wait_for(waiting, 5) is None


class Recorder:
    """Stands for the recorder; kopf stands for itself, or for its worst."""

    def __init__(self, error=None, *, deaf=False):
        self.looked, self.woken = asyncio.Event(), asyncio.Event()
        self._error, self._deaf = error, deaf
        self.ended = "not"

    def wake(self):
        self.woken.set()

    def problem(self):
        return None

    async def run(self, stop):
        self.looked.set()
        try:
            await asyncio.sleep(0.05)
            if self._error is not None:
                raise self._error
            await (asyncio.Event() if self._deaf else stop).wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "well"


@pytest.fixture
def kopfs(monkeypatch):
    """kopf's runs, each a function that is called in its place."""
    runs = []

    async def operator(**how):
        runs.append(how)
        await how["stop_flag"].wait()

    monkeypatch.setattr(kopf, "operator", operator)
    return runs


@pytest.mark.parametrize("error", [LedgerRolledBackError("older"), ZeroDivisionError("a bug")])
async def test_a_recorder_that_fails_ends_the_process_with_its_error(kopfs, error):
    async with asyncio.timeout(5):
        with pytest.raises(type(error)):
            await service.run(Recorder(error), "trailgate-system", asyncio.Event(), Health())


async def test_told_to_stop_recorder_and_kopf_end_well(kopfs):
    stop, recorder = asyncio.Event(), Recorder()
    running = asyncio.create_task(service.run(recorder, "trailgate-system", stop, Health()))
    await until(lambda: kopfs)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert recorder.ended == "well"
    assert "kopf" not in [thread.name for thread in threading.enumerate()]


async def test_kopf_is_not_left_to_ask_for_our_users_name(kopfs, monkeypatch):
    """A container's user has none: kopf ended with a KeyError each time."""
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(Recorder(), "trailgate-system", stop, Health()))
    await until(lambda: kopfs)
    stop.set()
    await asyncio.wait_for(running, 5)
    monkeypatch.setattr("getpass.getuser", lambda: pytest.fail("asked"))
    assert kopfs[0]["identity"] or detect_own_id(manual=False)


async def test_a_pass_that_does_not_end_is_cut_off(kopfs, monkeypatch):
    monkeypatch.setattr(service, "_LAST_PASS", 0.1)
    stop, recorder = asyncio.Event(), Recorder(deaf=True)
    stop.set()
    async with asyncio.timeout(5):
        await service.run(recorder, "trailgate-system", stop, Health())
    assert recorder.ended == "cancelled"


async def test_kopf_may_fail_as_it_likes_the_recorder_goes_on_and_it_is_started_again(monkeypatch):
    fails = [RuntimeError("login"), asyncio.CancelledError(), SystemError("x"), None]
    seen = []

    async def operator(**how):
        failure = fails.pop(0) if fails else "stay"
        seen.append(how["namespaces"])
        if isinstance(failure, BaseException):
            raise failure
        if failure == "stay":
            await how["stop_flag"].wait()

    monkeypatch.setattr(kopf, "operator", operator)
    monkeypatch.setattr(lookout, "_BACKOFF", (0.01, 0.02))
    guard = Lookout("trailgate-system", lambda: None, backoff=(0.01, 0.02))
    guard.start()
    await until(lambda: len(seen) == 5)
    guard.stop()
    guard.join(5)
    assert seen == [["trailgate-system"]] * 5
    assert "kopf" not in [thread.name for thread in threading.enumerate()]


async def test_stopping_before_it_began_is_no_error(kopfs):
    guard = Lookout("trailgate-system", lambda: None)
    guard.stop()
    guard.start()
    guard.join(5)
    assert kopfs == []


@pytest.mark.parametrize(
    ("kind", "rings"), [(None, 1), ("ADDED", 1), ("MODIFIED", 1), ("DELETED", 0)]
)
def test_only_a_deletion_wakes_nobody(kind, rings):
    rung = []
    registry = handlers.registry(lambda: rung.append(1))
    (handler,) = registry._watching.get_all_handlers()
    handler.fn(event={"type": kind, "object": {}})
    assert len(rung) == rings


def test_kopf_posts_nothing_and_kills_nobody():
    settings = kopf.OperatorSettings()
    for handler in handlers.registry(lambda: None)._activities._handlers:
        if handler.activity is Activity.STARTUP:
            handler.fn(settings=settings)
    assert settings.posting.enabled is False
    assert settings.process.ultimate_exiting_timeout is None
    assert settings.scanning.disabled is True


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("10.96.0.1", "https://10.96.0.1:443"),
        ("fd00::1", "https://[fd00::1]:443"),
        (None, "https://kubernetes.default.svc"),
    ],
)
def test_kopf_needs_no_cluster_dns(monkeypatch, host, server):
    found = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t")
    monkeypatch.setattr(kopf, "login_with_service_account", lambda **_: found)
    for name, value in (("HOST", host), ("PORT", "443")):
        if value is None:
            monkeypatch.delenv(f"KUBERNETES_SERVICE_{name}", raising=False)
        else:
            monkeypatch.setenv(f"KUBERNETES_SERVICE_{name}", value)
    (login,) = (
        one
        for one in handlers.registry(lambda: None)._activities._handlers
        if one.activity is Activity.AUTHENTICATION
    )
    got = login.fn()
    assert (got.server, got.token) == (server, "t")


class Other:
    """Stands for a loop beside the recorder."""

    name = "other"

    def __init__(self, error=None):
        self._error, self.ended = error, False

    def problem(self):
        return "not yet"

    async def run(self, stop):
        if self._error is not None:
            raise self._error
        await stop.wait()
        self.ended = True


async def test_another_loop_that_fails_ends_all_and_what_is_under_way_is_finished(kopfs):
    recorder, stop = Recorder(), asyncio.Event()
    bug = ZeroDivisionError("a bug")
    async with asyncio.timeout(5):
        with pytest.raises(ZeroDivisionError):
            await service.run(recorder, "trailgate-system", stop, Health(), [Other(bug)])
    assert recorder.ended == "well"


async def test_a_recorder_that_fails_ends_the_other_loops(kopfs):
    async with asyncio.timeout(5):
        with pytest.raises(LedgerRolledBackError):
            await service.run(
                Recorder(LedgerRolledBackError("older")), "trailgate-system", asyncio.Event(),
                Health(), [Other()],
            )  # fmt: skip


async def test_told_to_stop_the_other_loops_end_well_and_are_shown_before(kopfs):
    stop, other, health = asyncio.Event(), Other(), Health()
    running = asyncio.create_task(
        service.run(Recorder(), "trailgate-system", stop, health, [other])
    )
    await until(lambda: kopfs)
    assert health.ready() == (False, "recorder: ok\nother: not yet\n")
    stop.set()
    await asyncio.wait_for(running, 5)
    assert other.ended
