"""The operator's life: wait for what it needs, record, and end in good order.

What passes by itself is waited out, at the start as later: an API server that
restarts, a disk that is full. What must not be worked around ends the process: a
ledger that was rolled back, or that another process writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from trailgate.ledger.errors import LedgerError, LedgerUnavailableError
from trailgate.ledger.keys import read_signing_key
from trailgate.ledger.known import read_known
from trailgate.ledger.people import Vault
from trailgate.ledger.record import ControlState, ControlSubject, commit, control_state, encode
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.store import Entry, LedgerStore
from trailgate_kube.client import KubeClient
from trailgate_kube.cluster import cluster_uid
from trailgate_kube.errors import ConfigurationError as KubeConfigurationError
from trailgate_kube.errors import KubeError
from trailgate_kube.spool import AdmissionReader
from trailgate_operator.configuration import Configuration
from trailgate_operator.intake import Desk
from trailgate_operator.lookout import Lookout
from trailgate_operator.metrics import Metrics
from trailgate_operator.recorder import Recorder
from trailgate_operator.returns import ImageHistory

_SUBJECTS = "subject:"
_BACKOFF = (0.5, 10.0)
_LAST_PASS = 15.0
"""Seconds that what is under way gets after SIGTERM; cut off there, nothing is lost."""
_LAST_WATCH = 2.0

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


async def serve(configuration: Configuration, kubeconfig: Path | None, metrics: Metrics) -> None:
    """Record until SIGTERM or SIGINT; raises what it can't go on from."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keys = configuration.keys()
    known = None if configuration.known is None else read_known(configuration.known)
    log_key = read_signing_key(configuration.log_key)
    open_store = partial(asyncio.to_thread, SqliteStore, configuration.ledger, log_key, known=known)
    store = await patiently(open_store, stop)
    if store is None:
        return
    with store:
        async with await KubeClient.open(kubeconfig) as kube:
            uid = await patiently(lambda: cluster_uid(kube), stop)
            if uid is None:
                return
            vault = Vault(store.disclosures(_SUBJECTS))
            desk = Desk(keys, configuration.context(uid), vault)
            started = announcement(desk, ControlState.STARTED, log_key.name)
            if await patiently(lambda: _append(store, started), stop) is None:
                return
            history = ImageHistory.read(store.records())
            spool = AdmissionReader(kube, kube, configuration.namespace)
            recorder = Recorder(spool, store, desk, history, metrics, known=configuration.known)
            _log.info("recording into %s, %s", configuration.ledger, log_key.name)
            await run(recorder, configuration.namespace, stop)
            await _announce_end(store, desk, log_key.name)


def _wake(loop: asyncio.AbstractEventLoop, recorder: Recorder) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended: so has the recorder
        loop.call_soon_threadsafe(recorder.wake)


async def patiently(what: Callable[[], Awaitable[_T]], stop: asyncio.Event) -> _T | None:
    """Try until it works; None where ``stop`` came first. Only what may pass is waited out."""
    pause = _BACKOFF[0]
    while not stop.is_set():
        try:
            return await what()
        except KubeConfigurationError:
            raise
        except (KubeError, LedgerUnavailableError) as error:
            _log.warning("%s; trying again in %.1f s", error, pause)
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            pause = min(pause * 2, _BACKOFF[1])
    return None


async def run(recorder: Recorder, namespace: str, stop: asyncio.Event) -> None:
    """Record, woken by kopf, until ``stop``; raises what ended the recorder."""
    loop = asyncio.get_running_loop()
    lookout = Lookout(namespace, partial(_wake, loop, recorder))
    recording = asyncio.create_task(recorder.run(stop))
    stopped = asyncio.create_task(stop.wait())
    looked = asyncio.create_task(recorder.looked.wait())
    try:
        # kopf never finds a kind that is made after it was started: the first look tells.
        await asyncio.wait({recording, stopped, looked}, return_when=asyncio.FIRST_COMPLETED)
        if looked.done():
            lookout.start()
        await asyncio.wait({recording, stopped}, return_when=asyncio.FIRST_COMPLETED)
        lookout.stop()
        done, _ = await asyncio.wait({recording}, timeout=_LAST_PASS)
        if not done:
            _log.warning("stopping in the middle of a pass; the rest stays in the spool")
            recording.cancel()
            await asyncio.wait({recording})
        await asyncio.to_thread(lookout.join, _LAST_WATCH)
    finally:
        for task in (stopped, looked):
            task.cancel()
    if not recording.cancelled():
        recording.result()


def announcement(desk: Desk, state: ControlState, origin: str) -> Entry:
    """Make the entry that says that recording began or ended."""
    now = datetime.now(UTC)
    claim = control_state(desk.context, now, ControlSubject.LEDGER, state, name=origin)
    record, rows = commit(claim, desk.vault, recorded_at=now, position=None)
    return Entry(encode(record), f"recorder/{state.value}/{now.isoformat()}/{os.getpid()}", rows)


async def _append(store: LedgerStore, entry: Entry) -> tuple[int, ...]:
    return await asyncio.wrap_future(store.submit([entry]))


async def _announce_end(store: LedgerStore, desk: Desk, origin: str) -> None:
    """Say that recording ended. Where that fails, the next start says as much."""
    try:
        await _append(store, announcement(desk, ControlState.ENDED, origin))
    except LedgerError as error:
        _log.error("the end of recording is not in the ledger: %s", error)
