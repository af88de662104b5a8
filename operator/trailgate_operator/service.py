"""The operator's life: wait for what it needs, record, and end in good order.

What passes by itself is waited out, at the start as later: an API server that
restarts, a disk that is full. What must not be worked around ends the process: a
ledger that was rolled back, or that another process writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

from trailgate.ledger.errors import LedgerError, LedgerUnavailableError
from trailgate.ledger.keys import read_signing_key
from trailgate.ledger.known import begin_known, read_known
from trailgate.ledger.people import Vault
from trailgate.ledger.record import Context, ControlState, ControlSubject, control_state
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.store import LedgerStore
from trailgate.ledger.taken import Taken, require_positions
from trailgate.tlog.note import SigningKey
from trailgate_kube import logs
from trailgate_kube.client import KubeClient
from trailgate_kube.cluster import cluster_uid
from trailgate_kube.errors import ConfigurationError as KubeConfigurationError
from trailgate_kube.errors import KubeError
from trailgate_kube.spool import AdmissionReader
from trailgate_operator import probes
from trailgate_operator.assemble import Given, Trail, loops
from trailgate_operator.configuration import Configuration
from trailgate_operator.disarming_past import KnownDisarms
from trailgate_operator.intake import Desk
from trailgate_operator.lookout import Lookout
from trailgate_operator.loops import Loop, run_all
from trailgate_operator.metrics import Metrics
from trailgate_operator.observer_past import Past
from trailgate_operator.probes import Health
from trailgate_operator.recorder import Recorder
from trailgate_operator.register import Register
from trailgate_operator.returns import ImageHistory
from trailgate_operator.trail import Statement

_SUBJECTS = "subject:"
_BACKOFF = (0.5, 10.0)
_LAST_PASS = 15.0
"""Seconds that what is under way gets after SIGTERM; cut off there, nothing is lost."""
_LAST_WATCH = 2.0

_T = TypeVar("_T")


class Notes(Protocol):
    """Notes what it needs of the ledger's past."""

    def noting(self, records: Iterator[bytes]) -> Iterator[bytes]:
        """Pass records through from index 0, noting each."""
        ...


async def serve(configuration: Configuration) -> None:
    """Record until SIGTERM or SIGINT; raises what it can't go on from."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keys, log_key = configuration.keys(), read_signing_key(configuration.log_key)
    health, metrics = Health(), Metrics()
    health.stopping = stop.is_set
    wait = partial(patiently, stop=stop, told=health.wait_for)
    async with AsyncExitStack() as stack:
        if (address := configuration.health_listen) is not None:
            port = await stack.enter_async_context(probes.served(address, health, metrics))
            logs.write(logging.INFO, "probes and metrics are served", port=port)
        kube = await stack.enter_async_context(await KubeClient.open(configuration.kubeconfig))
        store = await wait(partial(asyncio.to_thread, open_ledger, configuration, log_key))
        if store is None:
            return
        stack.enter_context(store)
        uid = await wait(lambda: unless(stop, cluster_uid(kube)))
        if uid is None:
            return
        health.wait_for("reading the ledger")
        readers = _readers(uid, store)
        past = await asyncio.to_thread(read_past, store, stop.is_set, readers)
        if past is None:
            return
        vault, history = past
        desk = Desk(keys, configuration.context(uid, keys), vault)
        spool = AdmissionReader(kube, kube, configuration.namespace)
        recorder = Recorder(spool, store, desk, history, metrics, known=configuration.known)
        started = announcement(desk.context, ControlState.STARTED, log_key.name)
        if await wait(lambda: recorder.tell([started])) is None:
            return
        logs.write(
            logging.INFO, "recording into the ledger", ledger=str(configuration.ledger),
            origin=log_key.name,
        )  # fmt: skip
        trail = _trail(*readers, recorder)
        given = Given(kube, recorder.tell, desk.context, metrics, health, trail)
        await run(recorder, configuration.namespace, stop, health, loops(configuration, given))
        await _announce_end(recorder, desk.context, log_key.name)


def _readers(uid: str, store: LedgerStore) -> tuple[Past, Register, Register, KnownDisarms]:
    policies, guards = Register(ControlSubject.POLICY), Register(ControlSubject.GUARD)
    return Past(uid), policies, guards, KnownDisarms(store.disclosures_of)


def _trail(
    observed: Past,
    register: Register,
    guards: Register,
    disarms: KnownDisarms,
    recorder: Recorder,
) -> Trail:
    return Trail(
        observed,
        lambda: recorder.emptied,
        recorder.followers.append,
        entries=lambda: recorder.size,
        spooled=lambda: recorder.waiting,
        register=register,
        guards=guards,
        disarms=disarms,
    )


def open_ledger(configuration: Configuration, log_key: SigningKey) -> SqliteStore:
    """Open the ledger for writing, held against the checkpoint that is known.

    Raises ``LedgerError``; ``KnownCheckpointError`` where there are entries and nothing is
    known. Before the first entry there is nothing to know, and its file is made.
    """
    path = configuration.known
    known = None if path is None else read_known(path)
    store = SqliteStore(configuration.ledger, log_key, known=known)
    try:
        if path is not None and known is None:
            begin_known(path, store)
    except BaseException:
        store.close()
        raise
    return store


def read_past(
    store: LedgerStore, stopping: Callable[[], bool], readers: Sequence[Notes] = ()
) -> tuple[Vault, ImageHistory] | None:
    """Read what the ledger knows of people and images: all of it, so in a thread.

    ``readers`` are shown all of it, too, and pass it on.

    None where ``stopping`` became true before its end. ``LedgerCorruptError`` where the
    positions to go on from are not those of the entries.
    """
    vault, taken = Vault(store.disclosures(_SUBJECTS)), Taken()
    records: Iterator[bytes] = itertools.takewhile(lambda _: not stopping(), store.records())
    for reader in readers:
        records = reader.noting(records)
    history = ImageHistory.read(taken.noting(records))
    if stopping():
        return None
    require_positions(store.positions(), taken.last)
    return vault, history


async def unless(stop: asyncio.Event, what: Awaitable[_T]) -> _T | None:
    """Await it, but drop it where ``stop`` comes first: None."""
    work, stopped = asyncio.ensure_future(what), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        for task in (work, stopped):
            task.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)


def _wake(loop: asyncio.AbstractEventLoop, recorder: Recorder) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended: so has the recorder
        loop.call_soon_threadsafe(recorder.wake)


async def patiently(
    what: Callable[[], Awaitable[_T]],
    stop: asyncio.Event,
    told: Callable[[str], None] = lambda _: None,
) -> _T | None:
    """Try until it works; None where ``stop`` came first. Only what may pass is waited out."""
    pause = _BACKOFF[0]
    while not stop.is_set():
        try:
            return await what()
        except KubeConfigurationError:
            raise
        except (KubeError, LedgerUnavailableError) as error:
            told(str(error))
            logs.write(
                logging.WARNING, "not started yet; trying again", detail=str(error), seconds=pause
            )
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            pause = min(pause * 2, _BACKOFF[1])
    return None


async def run(
    recorder: Recorder,
    namespace: str,
    stop: asyncio.Event,
    health: Health,
    others: Sequence[Loop] = (),
) -> None:
    """Record, woken by kopf, and run the other loops until ``stop``; raises what ended one."""
    loop = asyncio.get_running_loop()
    lookout = Lookout(namespace, partial(_wake, loop, recorder))
    health.recorder, health.watch = recorder.problem, lookout.problem
    health.loops = {one.name: one.problem for one in others}
    recording = asyncio.create_task(recorder.run(stop))
    looping = asyncio.create_task(run_all(others, stop))
    stopped = asyncio.create_task(stop.wait())
    looked = asyncio.create_task(recorder.looked.wait())
    ends = {recording, looping, stopped}
    try:
        # kopf never finds a kind that is made after it was started: the first look tells.
        await asyncio.wait({*ends, looked}, return_when=asyncio.FIRST_COMPLETED)
        if looked.done():
            lookout.start()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not recording.done():
            stop.set()  # whoever ended: what is under way is finished
        lookout.stop()
        done, _ = await asyncio.wait({recording}, timeout=_LAST_PASS)
        if not done:
            logs.write(
                logging.WARNING, "stopping in the middle of a pass; the rest stays in the spool"
            )
            recording.cancel()
            await asyncio.wait({recording})
        await asyncio.to_thread(lookout.join, _LAST_WATCH)
        if recording.done() and not recording.cancelled():
            recording.result()
        await looping
    finally:
        for task in (stopped, looked, looping):
            task.cancel()
        await asyncio.gather(looping, return_exceptions=True)


def announcement(context: Context, state: ControlState, origin: str) -> Statement:
    """Say that recording began or ended."""
    now = datetime.now(UTC)
    claim = control_state(context, now, ControlSubject.LEDGER, state, name=origin)
    return Statement(f"recorder/{state.value}/{now.isoformat()}/{os.getpid()}", claim)


async def _announce_end(recorder: Recorder, context: Context, origin: str) -> None:
    """Say that recording ended. Where that fails, the next start says as much."""
    try:
        await recorder.tell([announcement(context, ControlState.ENDED, origin)])
    except LedgerError as error:
        logs.write(logging.ERROR, "the end of recording is not in the ledger", detail=str(error))
