"""How it starts: what it must know of the ledger, and that a signal is heard meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.operator.waiting import until
from trailgate.ledger import spoolkeys
from trailgate.ledger.errors import (
    KnownCheckpointError,
    LedgerRolledBackError,
    LedgerUnavailableError,
)
from trailgate.ledger.memory import MemoryStore
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.store import Entry
from trailgate.tlog.note import SigningKey
from trailgate_kube.memory import MemoryKube
from trailgate_kube.resources import NAMESPACES
from trailgate_operator import probes, service
from trailgate_operator.configuration import Address


def entry(name):
    return Entry(f'{{"kind":"gap","name":"{name}"}}'.encode(), name)


def append(place, *names):
    with SqliteStore(place.configuration().ledger, place.log) as store:
        store.append([entry(name) for name in names])


def test_a_new_ledger_has_its_checkpoint_kept_before_anything_is_appended(place):
    with service.open_ledger(place.configuration(), place.log) as store:
        assert place.known.read_text() == store.checkpoint()
    append(place, "killed before it kept the next one")
    service.open_ledger(place.configuration(), place.log).close()


def test_without_the_checkpoint_it_does_not_begin_on_a_ledger_with_entries(place):
    append(place, "one")
    with pytest.raises(KnownCheckpointError) as refused:
        service.open_ledger(place.configuration(), place.log)
    text = str(refused.value)
    assert f"{place.known} is not there, and the ledger has 1 entries" in text
    assert "trailgate ledger verify --checkpoint FILE" in text
    assert f"trailgate ledger checkpoint --ledger … > {place.known}" in text
    assert not place.known.exists()
    with SqliteStore(place.configuration().ledger, place.log) as store:  # and lets go of the lock
        place.known.write_text(store.checkpoint())  # what the text says to do
    service.open_ledger(place.configuration(), place.log).close()


def test_whoever_puts_yesterdays_ledger_back_must_not_just_remove_the_file(place):
    ledger = place.configuration().ledger
    with service.open_ledger(place.configuration(), place.log) as store:
        store.append([entry("yesterday")])
    yesterday = shutil.copy(ledger, place.directory / "yesterday.db")
    with service.open_ledger(place.configuration(), place.log) as store:
        store.append([entry("today")])
        place.known.write_text(store.checkpoint())
    shutil.copy(yesterday, ledger)
    with pytest.raises(LedgerRolledBackError, match="an older ledger was put back"):
        service.open_ledger(place.configuration(), place.log)
    place.known.unlink()
    with pytest.raises(KnownCheckpointError):
        service.open_ledger(place.configuration(), place.log)


@pytest.mark.parametrize("content", ["", "garbage\n", "log.example/trail\n0\n"])
@pytest.mark.parametrize("entries", [(), ("one",)])
def test_a_file_that_is_no_checkpoint_is_refused_whatever_the_ledger_has(place, content, entries):
    append(place, *entries)
    place.known.write_text(content)
    with pytest.raises(KnownCheckpointError, match="has no checkpoint"):
        service.open_ledger(place.configuration(), place.log)
    assert place.known.read_text() == content


def test_another_logs_checkpoint_is_refused(place):
    place.known.write_text(MemoryStore(SigningKey.generate("other.example/trail")).checkpoint())
    with pytest.raises(LedgerRolledBackError, match="can't compare"):
        service.open_ledger(place.configuration(), place.log)


def test_where_the_first_checkpoint_cant_be_kept_it_is_tried_again(place):
    place.known.parent.rmdir()
    with pytest.raises(LedgerUnavailableError, match="can't keep"):
        service.open_ledger(place.configuration(), place.log)
    place.known.parent.mkdir()
    service.open_ledger(place.configuration(), place.log).close()


def test_without_the_option_nothing_is_held_against_anything(place):
    append(place, "one")
    service.open_ledger(place.configuration(known=None), place.log).close()


def test_the_fingerprint_names_the_keys_that_are_in_use(place):
    """A rotation between two readings must not record keys that open nothing."""
    configuration = place.configuration()
    keys = configuration.keys()
    before = configuration.context("uid", keys)
    other = Ed25519PrivateKey.generate().public_key()
    configuration.gate_keys[0].write_bytes(spoolkeys.public_pem(other))
    assert configuration.context("uid", keys) == before
    assert configuration.context("uid", configuration.keys()) != before


# Signals during the start


@pytest.fixture
async def kube(monkeypatch):
    made = MemoryKube()
    await made.create(
        NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}
    )

    async def opened(_):
        return contextlib.nullcontext(made)

    monkeypatch.setattr(service.KubeClient, "open", opened)
    return made


@pytest.fixture
def health(monkeypatch):
    """What the probes of the process under test answer from."""
    made = probes.Health()
    monkeypatch.setattr(service, "Health", lambda: made)
    return made


def records(place):
    with SqliteReader(place.configuration().ledger) as reader:
        return list(reader.records())


async def stopped(serving):
    """Send the signal; seconds until it had ended."""
    began = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, 10)
    return time.monotonic() - began


async def test_sigterm_is_heard_while_a_large_ledger_is_read(place, kube, health, monkeypatch):
    def endless(*_):
        return itertools.repeat(b'{"kind":"gap"}')

    monkeypatch.setattr(SqliteStore, "records", endless)
    serving = asyncio.create_task(service.serve(place.configuration()))
    await until(lambda: health.recorder() == "reading the ledger")
    assert await stopped(serving) < 5
    monkeypatch.undo()
    assert records(place) == []


async def test_sigterm_is_heard_while_the_api_server_does_not_answer(
    place, kube, health, monkeypatch
):
    asked = asyncio.Event()

    async def silent(*_, **__):
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(MemoryKube, "get", silent)
    serving = asyncio.create_task(service.serve(place.configuration()))
    await asyncio.wait_for(asked.wait(), 10)
    assert not health.ready()[0]
    assert await stopped(serving) < 5


async def test_it_says_what_it_waits_for_then_records_and_is_ready(
    place, kube, health, monkeypatch
):
    """From the first byte to the last: probes, start, end, on a port of its own."""
    kubeless = []
    monkeypatch.setattr(service.Lookout, "start", lambda self: kubeless.append(1))
    serving = asyncio.create_task(
        service.serve(place.configuration(health_listen=Address("127.0.0.1", 0)))
    )
    await until(lambda: health.ready()[0] or serving.done())
    assert await stopped(serving) < 5
    assert health.ready() == (False, "shutting down\nrecorder: ok\nwatch: not started yet\n")
    states = [b'"state":"started"' in records(place)[0], b'"state":"ended"' in records(place)[1]]
    assert states == [True, True]
    assert kubeless == [1]
    with SqliteReader(place.configuration().ledger) as reader:
        assert place.known.read_text() == reader.checkpoint()  # the end is known outside, too
