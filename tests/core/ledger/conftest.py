import pytest

from trailgate.ledger import sqlite
from trailgate.ledger.memory import MemoryStore
from trailgate.ledger.sqlite import SqliteStore
from trailgate.tlog.note import SigningKey


@pytest.fixture
def key():
    return SigningKey("log.example/trail", bytes(range(32)))


@pytest.fixture
def path(tmp_path, key):
    """An empty ledger's file."""
    sqlite.create(tmp_path / "ledger.db", key)
    return tmp_path / "ledger.db"


@pytest.fixture(params=["memory", "sqlite"])
def store(request, key):
    """Every implementation of LedgerStore, empty."""
    if request.param == "memory":
        made = MemoryStore(key)
    else:
        made = SqliteStore(request.getfixturevalue("path"), key)
    yield made
    made.close()
