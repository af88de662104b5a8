"""A recorder whose notes were poisoned: it stops, `ledger repair`, it goes on; once and all."""

import sqlite3

import pytest

from tests.operator.test_recorder import BOOT, LOG, Chain, Stage
from trailgate.ledger import sqlite
from trailgate.ledger.chain import Last
from trailgate.ledger.errors import LedgerCorruptError
from trailgate.ledger.repair import repair
from trailgate.ledger.sqlite import SqliteStore
from trailgate.ledger.sqlite_reader import SqliteReader
from trailgate.ledger.verify import verify
from trailgate.model.digest import Digest
from trailgate_operator import service


class Scene:
    """A gate's process with batches 0 to 2 in the ledger, and more of them made."""

    def __init__(self, path):
        self.path = path
        sqlite.create(path, LOG)
        self.chain = Chain()
        self.stage = Stage(store=SqliteStore(path, LOG))
        self.batches = [self.chain.started(), *(self.chain.batch() for _ in range(4))]

    async def record(self, *numbers):
        await self.stage.write(*(self.batches[number] for number in numbers))
        return await self.stage.recorder.drain()

    def poison(self, statement, *values):
        self.stage.store.close()
        with sqlite3.connect(self.path) as intruder:
            intruder.execute(statement, values)
            intruder.commit()
        intruder.close()

    def repair(self):
        self.stage.store.close()
        changes = repair(self.path, LOG).changes
        assert changes
        self.start()

    def start(self):
        """Begin as the operator does."""
        self.stage.store = SqliteStore(self.path, LOG)
        assert service.read_past(self.stage.store, lambda: False) is not None
        self.stage.restart()

    async def finished(self):
        """Every batch is in the ledger once, in order, without a gap; none is left behind."""
        assert [one["spool"]["seq"] for one in self.stage.records] == [0, 1, 2, 3, 4]
        assert await self.stage.spooled() == []
        self.stage.store.close()
        with SqliteReader(self.path) as reader:
            assert verify(reader, [LOG.verifier]).problems == ()
        return True


@pytest.fixture
async def scene(tmp_path):
    made = Scene(tmp_path / "ledger.db")
    assert await made.record(0, 1, 2) == 3
    yield made
    made.stage.store.close()


async def test_a_poisoned_key(scene):
    scene.poison("INSERT INTO dedupe VALUES (?, 1)", f"claim/{BOOT}/3/0")
    scene.start()
    with pytest.raises(LedgerCorruptError, match="trailgate ledger repair"):
        await scene.record(3, 4)
    assert len(await scene.stage.spooled()) == 2
    scene.repair()
    assert await scene.stage.recorder.drain() == 2
    assert await scene.finished()


@pytest.mark.parametrize("seq", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("left", [False, True])
async def test_a_poisoned_position(scene, seq, left):
    """``left``: batches that were recorded were not deleted yet."""
    poison = Last(seq, Digest.of(b"poison")).to_bytes()
    scene.poison("UPDATE position SET value = ?", poison)
    with pytest.raises(LedgerCorruptError, match="trailgate ledger repair"):
        scene.start()
    scene.repair()
    assert await scene.record(*([1, 2] if left else []), 3, 4) == 2
    assert await scene.finished()


async def test_keys_and_positions_that_are_gone(scene):
    scene.poison("DELETE FROM dedupe")
    scene.poison("DELETE FROM position")
    scene.repair()
    assert await scene.record(0, 1, 2, 3, 4) == 2
    assert await scene.finished()


async def test_a_number_that_never_came_is_still_told_of(scene):
    scene.poison("DELETE FROM position")
    scene.repair()
    assert await scene.record(4) == 2
    assert scene.stage.gaps() == [("batches-missing", 3, 3)]


async def test_after_the_next_batch_the_chain_is_held_again(scene):
    scene.poison("DELETE FROM position")
    scene.repair()
    await scene.record(3)
    other = Chain()
    for _ in range(4):
        other.batch()
    await scene.stage.write(other.batch())
    await scene.stage.recorder.drain()
    assert scene.stage.gaps() == [("chain-forked", 4, 4)]


async def test_a_poisoned_digest_costs_one_batch_that_stays_and_is_told(scene):
    """What the page says of it: the number is right, so the entries have nothing against it."""
    scene.poison("UPDATE position SET value = ?", Last(2, Digest.of(b"poison")).to_bytes())
    scene.start()
    await scene.record(3, 4)
    await scene.stage.recorder.drain()
    assert [one["spool"]["seq"] for one in scene.stage.records if one["spool"]] == [0, 1, 2, 4]
    assert ("chain-forked", 3, 3) in scene.stage.gaps()
    assert await scene.stage.spooled() == [scene.batches[3].name]
